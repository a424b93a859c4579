"""What must hold on the disk after any fault: the same for every command and every kill point."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shlex
import shutil
import sys
import traceback
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import caviar
from orchestrator.errors import CaviarError
from pipelines.cli import main

__all__ = ["find_problems", "hash_files"]

USED_UP = "used up its budget"  #: what `resume` says to a run that had ended before the fault
IN_THE_WAY = "exists already"  #: what `export` says where the fault came after its last rename


def find_problems(
    *,
    run: str,
    again: list[str],
    words: str,
    bystanders: dict[str, str],
    writes: list[str],
    epochs: int,
) -> list[str]:
    """Look at what a fault left behind, go on as a user would, and name all that is wrong.

    Args:
        run: The folder of the run that the command writes or reads.
        again: What a user types to go on, where the run has a spec.
        words: The command itself, which is typed again where the run has no spec yet.
        bystanders: Hash of each file that the command may not change, by path.
        writes: The files and folders that the command may write.
        epochs: How many epochs the run must have in the end, at least.
    """
    folder = Path(run)
    problems = [f"changed: {path}" for path in changed_files(bystanders)]
    problems += [p for place in writes for p in problems_of_reading(Path(place))]
    rows = read_rows(folder)
    for command in again if (folder / "spec.yaml").exists() else [words, *again[1:]]:
        problems += problems_of_going_on(folder, command, writes)
    problems += problems_of_lost_rows(rows, read_rows(folder))
    problems += problems_of_finished_run(folder, epochs)
    hidden = [p for place in writes for p in Path(place).rglob("*") if is_temporary(p)]
    hidden += [p for p in Path().glob("*") if is_temporary(p)]
    problems += [f"left over: {path}" for path in hidden]
    return problems + [f"changed at last: {path}" for path in changed_files(bystanders)]


def hash_files(place: Path) -> dict[str, str]:
    """The hash of each file below a place, by its path from there."""
    files = (path for path in sorted(place.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def changed_files(bystanders: dict[str, str]) -> list[str]:
    now = {path: digest for path, digest in hash_files(Path()).items() if path in bystanders}
    return [path for path, digest in bystanders.items() if now.get(path) != digest]


def is_temporary(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(".tmp")


def type_command(words: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command, run in this process."""
    output, errors = io.StringIO(), io.StringIO()
    sys.argv = ["caviar", *shlex.split(words)]
    code: object = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            if words.startswith("load:"):
                load_as_user(Path(words.removeprefix("load:")))
            elif words.startswith("python:"):
                exec(words.removeprefix("python:"), {"caviar": caviar})
            else:
                main()
        except SystemExit as e:
            code = e.code or 0
        except BaseException:
            code = 1
            traceback.print_exc()
    return code if isinstance(code, int) else 1, output.getvalue(), errors.getvalue()


def load_as_user(folder: Path) -> None:
    """Load a run as a Python user does; the error of a run that cannot be read is one line."""
    try:
        run = caviar.load(folder)
        assert run.best is None or run.best["trial"] >= 0
        caviar.load_model(run.folder / "best").predict("wine")
    except CaviarError as e:
        sys.stderr.write(f"{' '.join(str(e).split())}\n")
        sys.exit(2)


def problems_of_reading(folder: Path) -> list[str]:
    """A run that can be read, or one line that says why not; no traceback, from any reader."""
    if not (folder / "spec.yaml").exists():
        return []
    problems = []
    for words in (f"show {folder}", f"replay {folder}"):
        code, _, errors = type_command(words)
        if "Traceback" in errors or (code and errors.count("\n") != 1):
            problems.append(f"{words}: exit {code}: {last_line(errors)}")
    try:
        run = caviar.load(folder)
        if run.epochs.duplicated(["trial", "epoch"]).any():
            problems.append("an epoch stands twice after the fault")
        if (folder / "best" / "config.yaml").exists():
            run.predict("wine")
    except CaviarError:
        pass
    except Exception as e:
        problems.append(f"load: {type(e).__name__}: {e}")
    return problems


def problems_of_going_on(folder: Path, words: str, writes: list[str]) -> list[str]:
    """Type a command; where it says that the run needs another one, type that."""
    code, _, errors = type_command(words)
    if code == 2 and IN_THE_WAY in errors:
        return problems_of_result(words, Path(writes[0]))
    if code == 2 and USED_UP in errors and caviar.load(folder).status == "finished":
        # Nothing was left to do, so nothing was written: the next writer removes leftovers.
        next_writer = f"{words} --total-epochs 4" if "--mirror" in words else f"repair {folder}"
        code, _, errors = type_command(next_writer)
    return [f"{words}: exit {code}: {last_line(errors)}"] if code or errors else []


def problems_of_result(words: str, result: Path) -> list[str]:
    """A result that the broken command left must be as large as the one of an unbroken command."""
    before = result.rename(result.with_name("before"))
    code, _, errors = type_command(words)
    whole = code == 0 and list_sizes(before) == list_sizes(result)
    remove = shutil.rmtree if before.is_dir() else Path.unlink
    remove(before)
    return [] if whole else [f"{result} is not whole; then exit {code}: {last_line(errors)}"]


def list_sizes(place: Path) -> list[int]:
    """The sizes of a file, or of all files in a folder."""
    return sorted(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file())


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:300]


def read_rows(folder: Path) -> pd.DataFrame | None:
    """The epochs that the disk holds, as pandas alone reads them."""
    if not list((folder / "epochs").glob("[!.]*.parquet")):
        return None
    with contextlib.suppress(OSError, pa.ArrowInvalid):  # damaged: nothing to compare with
        epochs: pd.DataFrame = pq.read_table(folder / "epochs").to_pandas()
        return epochs.drop(columns=["at_seconds", "epoch_seconds"])
    return None


def problems_of_lost_rows(before: pd.DataFrame | None, after: pd.DataFrame | None) -> list[str]:
    if before is None:
        return []
    if after is None:
        return ["the epochs are gone"]
    both = before.merge(after.drop(columns=["seq"]).drop_duplicates(), how="inner")
    return [f"{len(before) - len(both)} rows are lost"] if len(both) < len(before) else []


def problems_of_finished_run(folder: Path, epochs: int) -> list[str]:
    """The three tables against each other, the budget, the best model and its figures."""
    try:
        rows = len(caviar.load(folder).epochs)
        return [
            *([f"only {rows} epochs"] if rows < epochs else []),
            *problems_of_tables(folder),
            *problems_of_best(folder),
            *([] if type_command(f"replay {folder}")[0] == 0 else ["replay differs"]),
        ]
    except Exception as e:
        return [f"the finished run cannot be read: {type(e).__name__}: {e}"]


def problems_of_tables(folder: Path) -> list[str]:
    events, epochs, trials = (
        pq.read_table(folder / name).to_pandas() for name in ("events", "epochs", "trials")
    )
    starts = events[events["kind"] == "start"]["trial"]
    counts = epochs.groupby("trial").size()
    counted = [int(counts.get(trial, 0)) for trial in trials["trial"]]
    gaps = [t for t, rows in epochs.groupby("trial")["epoch"] if max(rows) != len(rows)]
    seqs = sorted([*events["seq"], *epochs["seq"]])
    facts = {
        "an epoch stands twice": epochs.duplicated(["trial", "epoch"]).any(),
        f"trials with gaps: {gaps}": bool(gaps),
        "seq has gaps or repeats": seqs != list(range(len(seqs))),
        "a trial is RUNNING": (trials["status"] == "RUNNING").any(),
        "a trial starts twice": starts.duplicated().any(),
        "trials/ and the start events differ": sorted(starts) != sorted(trials["trial"]),
        "trials/ and epochs/ differ": list(trials["epochs"]) != counted,
    }
    return [fact for fact, holds in facts.items() if holds]


def problems_of_best(folder: Path) -> list[str]:
    code, output, _ = type_command(f"show {folder} --json")
    summary = json.loads(output) if code == 0 else {}
    best = summary.get("best")
    if summary.get("status") != "finished" or best is None:
        return [f"the run is {summary.get('status')}, with best {best}"]
    model = caviar.load_model(folder / "best")
    caviar.load(folder).predict("wine")
    problems = [] if best.get("test") else ["no test figures"]
    if (model.trial, model.epoch) != (best["trial"], best["epoch"]):
        problems.append(f"best/ holds trial {model.trial} epoch {model.epoch}, not the best")
    return problems
