"""The command line: `caviar search`, `resume`, `show`, `predict`, `plan`, `space`, `replay`, …"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.errors import CaviarError, RunError, SpecError

if TYPE_CHECKING:
    from orchestrator.runtime.session import Watcher
    from orchestrator.search.budget import Budget
    from orchestrator.search.objective import Objective, Score
    from pipelines.runs.execution import ExecutionOptions
    from pipelines.runs.launch import MakeWatcher, Result
    from pipelines.runs.spec import Spec
    from pipelines.see.run import Run

__all__ = ["app", "main"]

app = typer.Typer(
    name="caviar",
    help="Tune batch-norm networks: train many side by side, keep the best, all in Parquet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Task(StrEnum):
    """What the target is."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Format(StrEnum):
    """What a run can be written as."""

    OPTUNA = "optuna"
    MLFLOW = "mlflow"
    TENSORBOARD = "tensorboard"
    CSV = "csv"
    ONNX = "onnx"


class PoolKind(StrEnum):
    """Where trials are trained."""

    RAY = "ray"
    INLINE = "inline"


DataArg = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="digits, wine, breast_cancer, diabetes; or a .csv .tsv .data .txt .parquet .npz file; "
        "or a folder in MNIST's IDX layout",
    ),
]
RunArg = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")]
RunsArg = Annotated[list[Path], typer.Argument(metavar="RUN [RUN…]", help="folders of runs")]
TargetOpt = Annotated[str | None, typer.Option(help="the column to predict [the last one]")]
TestOpt = Annotated[str | None, typer.Option(help="a file with a test set of its own")]
TaskOpt = Annotated[Task | None, typer.Option(help="guessed from the target unless given")]
SpecOpt = Annotated[Path | None, typer.Option(help="a YAML file with what differs from default")]
TimeOpt = Annotated[str | None, typer.Option(help="budget: 60s, 10m, 2h")]
TrialsOpt = Annotated[int | None, typer.Option(help="budget: trials")]
EpochsOpt = Annotated[int | None, typer.Option(help="budget: epochs of all trials")]
MaxEpochsOpt = Annotated[int | None, typer.Option(help="of one trial [27]")]
MetricOpt = Annotated[str | None, typer.Option(help="the metric that decides")]
WorkersOpt = Annotated[int | None, typer.Option(help="[one for each processor]")]
LikeOpt = Annotated[
    list[Path] | None,
    typer.Option(metavar="RUN", help="try first what was best in this run; may stand twice"),
]
SeedOpt = Annotated[int | None, typer.Option(help="same seed, same draws [0]")]
DeterministicOpt = Annotated[
    bool,
    typer.Option("--deterministic", help="same seed, same run, whatever the workers"),
]
OutOpt = Annotated[Path | None, typer.Option(help="the run's folder [runs/NAME-DATE-TIME]")]
AddressOpt = Annotated[str | None, typer.Option(help="of a Ray cluster: auto or HOST:PORT")]
TimeoutOpt = Annotated[
    str | None,
    typer.Option(help="a worker is killed if a trial's first epoch takes longer [10m]"),
]
MirrorOpt = Annotated[
    str | None,
    typer.Option(metavar="URI", help="a second place for RUN's folder: a folder, s3://, gs:// …"),
]
PoolOpt = Annotated[PoolKind, typer.Option(help="Ray actors, or this process alone")]
TrustOpt = Annotated[
    bool,
    typer.Option("--trust-trainer", help="the trainer that the spec names may run here"),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="one JSON object, and nothing else")]
QuietOpt = Annotated[bool, typer.Option("--quiet", help="nothing but the last words")]


@app.command("search")
def search_command(
    data: DataArg,
    target: TargetOpt = None,
    test: TestOpt = None,
    task: TaskOpt = None,
    spec: SpecOpt = None,
    time: TimeOpt = None,
    trials: TrialsOpt = None,
    total_epochs: EpochsOpt = None,
    max_epochs: MaxEpochsOpt = None,
    metric: MetricOpt = None,
    workers: WorkersOpt = None,
    like: LikeOpt = None,
    seed: SeedOpt = None,
    deterministic: DeterministicOpt = False,
    audit: Annotated[
        str | None,
        typer.Option(help="share of the epochs for trials that pruning left behind [0%]"),
    ] = None,
    out: OutOpt = None,
    address: AddressOpt = None,
    epoch_timeout: TimeoutOpt = None,
    mirror: MirrorOpt = None,
    pool: PoolOpt = PoolKind.RAY,
    trust_trainer: TrustOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find good hyperparameters for DATA; on an existing --out, go on or extend it."""
    from pipelines.runs.launch import choose_folder, search
    from pipelines.see.formatting import parse_share

    folder = out or choose_folder(data)
    _writable(folder)
    _trusted(spec, given=trust_trainer)
    added = _added(time, trials, total_epochs)
    share = None if audit is None else parse_share(audit, "--audit")
    crew = _crew(pool, workers, address, epoch_timeout, mirror)
    with _starting(shown=not (as_json or quiet)) as started, _to_errors(as_json):
        result = search(
            data,
            out=folder,
            added=added,
            crew=crew,
            watch=_watch(started, silent=as_json or quiet, notes=not as_json),
            spec_file=spec,
            target=target,
            test=test,
            task=task and task.value,
            metric=metric,
            like=like or (),
            seed=seed,
            max_epochs=max_epochs,
            deterministic=deterministic,
            audit=share,
        )
    _print_summary(result.folder, as_json=as_json)
    _ended(result, as_json=as_json)


@app.command("resume")
def resume_command(
    run: RunArg,
    time: TimeOpt = None,
    trials: TrialsOpt = None,
    total_epochs: EpochsOpt = None,
    workers: WorkersOpt = None,
    address: AddressOpt = None,
    epoch_timeout: TimeoutOpt = None,
    mirror: MirrorOpt = None,
    pool: PoolOpt = PoolKind.RAY,
    trust_trainer: TrustOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Go on with RUN where it stopped; a budget given here is added to the one it had."""
    from pipelines.runs.launch import resume

    _trusted(run / "spec.yaml", given=trust_trainer)
    added = _added(time, trials, total_epochs)
    crew = _crew(pool, workers, address, epoch_timeout, mirror)
    with _starting(shown=not (as_json or quiet)) as started, _to_errors(as_json):
        watch = _watch(started, silent=as_json or quiet, notes=not as_json)
        result = resume(run, added=added, crew=crew, watch=watch)
    _print_summary(result.folder, as_json=as_json)
    _ended(result, as_json=as_json)


@app.command()
def show(
    run: RunArg,
    importance: Annotated[
        bool, typer.Option("--importance", help="which hyperparameters matter, instead")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """What RUN came to, or has come to so far."""
    if not importance:
        _print_summary(run, as_json=as_json)
        return
    from pipelines.see.importance import format_importance
    from pipelines.see.importance import importance as found
    from pipelines.see.run import load, read_run_spec

    alone, pairs = found(read_run_spec(run), load(run))
    if as_json:
        _print_json([asdict(a) for a in alone])
        return
    for line in format_importance(alone, pairs):
        typer.echo(line)


@app.command("watch")
def watch_command(run: RunArg) -> None:
    """Follow RUN from another terminal until it ends; Ctrl-C leaves, the run goes on."""
    from rich.console import Console

    from pipelines.see.watch import follow

    follow(run, console=Console())


@app.command("why")
def why_command(
    run: RunArg, trial: Annotated[int, typer.Argument(metavar="TRIAL", help="its number")]
) -> None:
    """Where TRIAL of RUN came from, what was decided about it, and by which rule it ended."""
    from pipelines.see.run import load
    from pipelines.see.why import why

    typer.echo(why(load(run), trial))


@app.command("report")
def report_command(
    runs: RunsArg,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="[report.html in RUN's folder]")
    ] = None,
) -> None:
    """One page of charts that opens offline in any browser; of several RUNs side by side."""
    from pipelines.see.page import write_page

    page = out or runs[0] / "report.html"
    _writable(page)
    write_page(runs, page)
    typer.echo(f"{page}: open it in a browser")


@app.command("compare")
def compare_command(
    runs: RunsArg,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE.html", help="write the page as well")
    ] = None,
) -> None:
    """What each RUN came to, what their specs differ in; a paired test where seeds match."""
    from pipelines.see.compare import compare, format_comparison

    for line in format_comparison(compare(runs)):
        typer.secho(line, bold=line.lstrip().startswith("differs in"))
    if page:
        report_command(runs, out=page)


@app.command("finalists")
def finalists_command(
    run: RunArg,
    top: Annotated[int, typer.Option(help="how many of the best configurations")] = 5,
    seeds: Annotated[int, typer.Option(help="how often each is trained again")] = 5,
    out: Annotated[Path | None, typer.Option(help="the new run's folder [RUN-finalists]")] = None,
    workers: WorkersOpt = None,
    address: AddressOpt = None,
    epoch_timeout: TimeoutOpt = None,
    pool: PoolOpt = PoolKind.RAY,
    trust_trainer: TrustOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Train RUN's best configurations again on fresh seeds: which is best, by its mean?"""
    from pipelines.runs.finalists import finalists, format_finalists, make_finalists_spec
    from pipelines.see.run import load, read_run_spec

    _at_least(1, top=top, seeds=seeds)
    _trusted(run / "spec.yaml", given=trust_trainer)
    parent = load(run)
    _check_ended(parent)
    spec = make_finalists_spec(read_run_spec(run), parent, top=top, seeds=seeds)
    folder = out or run.with_name(f"{run.name}-finalists")
    crew = _crew(pool, workers, address, epoch_timeout, None)
    _train_again(spec, folder, crew, silent=as_json or quiet, as_json=as_json)
    again = load(folder)
    found = finalists(again)
    if as_json:
        _print_json([asdict(f) for f in found])
        return
    for line in format_finalists(again, parent, found):
        typer.echo(line)


@app.command("audit")
def audit_command(
    run: RunArg,
    total_epochs: EpochsOpt = None,
    out: Annotated[Path | None, typer.Option(help="the new run's folder [RUN-audit]")] = None,
    workers: WorkersOpt = None,
    address: AddressOpt = None,
    epoch_timeout: TimeoutOpt = None,
    pool: PoolOpt = PoolKind.RAY,
    trust_trainer: TrustOpt = False,
    as_json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Was pruning right? By RUN's own audits, or with --total-epochs by some trained now."""
    from pipelines.runs.audit import audit, format_audit, make_audit_spec
    from pipelines.see.run import load, read_run_spec

    _at_least(1, total_epochs=total_epochs)
    parent, spec = load(run), read_run_spec(run)
    folder = out or run.with_name(f"{run.name}-audit")
    if total_epochs is not None:
        _check_ended(parent)
        _trusted(run / "spec.yaml", given=trust_trainer)
        chosen = make_audit_spec(spec, parent, epochs=total_epochs)
        crew = _crew(pool, workers, address, epoch_timeout, None)
        _train_again(chosen, folder, crew, silent=as_json or quiet, as_json=as_json)
    if (folder / "spec.yaml").is_file():
        audits = load(folder)
    elif out is None and parent.audit is not None:
        audits = parent.audit
    else:
        given = f" --out {shlex.quote(str(out))}" if out else ""
        raise RunError(
            f"{out or run}: has no audits; `caviar audit {shlex.quote(str(run))} --total-epochs "
            f"{20 * spec.max_epochs}{given}` trains 20 of the trials that pruning left behind"
        )
    found = audit(spec, parent, audits)
    if as_json:
        _print_json(asdict(found))
        return
    if parent.status == "running":
        typer.echo(f"note: {run} is still going; all of this may change")
    for line in format_audit(found):
        typer.echo(line)


@app.command("export")
def export_command(
    run: RunArg,
    to: Annotated[Format, typer.Option(help="the tool that is to open it")],
    out: Annotated[Path | None, typer.Option(help="the file or folder [in RUN's folder]")] = None,
) -> None:
    """Write RUN as other tools read it: all its trials, or with onnx its best model."""
    from pipelines.export import export

    _writable(out or run)
    typer.echo(export(run, to=to.value, out=out))


@app.command("replay")
def replay_command(run: RunArg, trust_trainer: TrustOpt = False) -> None:
    """Take RUN's decisions again, from what was known when, and say whether they are the same."""
    from pipelines.runs.repair import replay_run

    _trusted(run / "spec.yaml", given=trust_trainer)
    found = replay_run(run)
    told = f"{found.decisions} decisions taken again, {found.applied} events taken as they were"
    if found.difference:
        sys.stderr.write(f"caviar: {run}: {told}; then {found.difference}\n")
        raise typer.Exit(1)
    typer.echo(f"{run}: {told}: the same")


@app.command("repair")
def repair_command(run: RunArg, trust_trainer: TrustOpt = False) -> None:
    """Keep all that can be read of RUN, some of whose files are damaged."""
    from pipelines.runs.repair import repair

    _trusted(run / "spec.yaml", given=trust_trainer)
    typer.echo(repair(run))


@app.command()
def predict(
    run: RunArg,
    data: DataArg,
    out: Annotated[Path, typer.Option(metavar="FILE.parquet", help="where the predictions go")],
) -> None:
    """Predict the rows of DATA with RUN's best model; reads only its best/ folder."""
    from orchestrator.store.files import atomic_write
    from pipelines.data.model import load_model
    from pipelines.see.formatting import format_number

    if out.suffix != ".parquet":
        raise RunError(f"--out needs a name that ends in .parquet, got {out}")
    _writable(out)
    frame, figures = load_model(run / "best").predict(data)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            frame.to_parquet(file, index=False)
    except OSError as e:
        raise RunError(f"--out needs a file that can be written, got {out}: {e.strerror}") from e
    told = ", ".join(f"{name} {format_number(value)}" for name, value in figures.items())
    typer.echo(f"{len(frame)} predictions in {out}" + (f": {told}" if told else ""))


@app.command()
def plan(
    data: DataArg,
    target: TargetOpt = None,
    test: TestOpt = None,
    task: TaskOpt = None,
    spec: SpecOpt = None,
    time: TimeOpt = None,
    trials: TrialsOpt = None,
    total_epochs: EpochsOpt = None,
    max_epochs: MaxEpochsOpt = None,
    metric: MetricOpt = None,
    workers: WorkersOpt = None,
    seed: SeedOpt = None,
    trust_trainer: TrustOpt = False,
) -> None:
    """How many trials, epochs, seconds and bytes a search would need; trains a few epochs."""
    from pipelines.runs.launch import make_job
    from pipelines.runs.plan import format_plan, measure_cost
    from pipelines.runs.specs import new_spec

    _trusted(spec, given=trust_trainer)
    made, ready = new_spec(
        data,
        spec_file=spec,
        target=target,
        test=test,
        task=task and task.value,
        metric=metric,
        seed=seed,
        max_epochs=max_epochs,
    )
    cost = measure_cost(made, make_job(made, ready))
    added = _added(time, trials, total_epochs)
    _at_least(1, workers=workers)
    count = workers or os.cpu_count() or 1
    for line in format_plan(made, ready, added, cost, workers=count):
        typer.echo(line)


@app.command()
def space(spec: SpecOpt = None, seed: SeedOpt = None) -> None:
    """What a search will draw from: each range, a histogram of draws, and warnings."""
    from pipelines.runs.specs import load_space_spec
    from pipelines.see.preview import format_space

    for line in format_space(load_space_spec(spec, seed=seed)):
        typer.echo(line)


def main() -> None:
    """Run the command; an error of the user's is one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except CaviarError as e:
        sys.exit(_told(e))
    except typer.Exit as e:
        sys.exit(e.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left
        sys.exit(141)
    except Exception as e:
        if hasattr(e, "format_message"):  # the command line itself was wrong
            sys.stderr.write(f"caviar: {e.format_message()}\n")
            sys.exit(2)
        raise
    sys.exit(code or 0)


def _told(error: CaviarError) -> int:
    sys.stderr.write(f"caviar: {' '.join(str(error).split())}\n")
    return error.exit_code


def _added(time: str | None, trials: int | None, epochs: int | None) -> Budget:
    from orchestrator.search.budget import Budget
    from pipelines.see.formatting import parse_duration

    seconds = None if time is None else parse_duration(time)
    _at_least(1, trials=trials, total_epochs=epochs)
    return Budget(seconds=seconds, trials=trials, epochs=epochs)


def _crew(
    pool: PoolKind,
    workers: int | None,
    address: str | None,
    epoch_timeout: str | None,
    mirror: str | None,
) -> ExecutionOptions:
    from orchestrator.runtime.pool import EPOCH_TIMEOUT
    from pipelines.runs.execution import ExecutionOptions
    from pipelines.see.formatting import parse_duration

    _at_least(1, workers=workers)
    if pool is PoolKind.INLINE and epoch_timeout is not None:
        raise SpecError("--epoch-timeout needs workers that can be killed; take --pool ray")
    if pool is PoolKind.INLINE and workers not in (None, 1):
        raise SpecError(f"--pool inline has one worker, this process; got --workers {workers}")
    if pool is PoolKind.INLINE and address is not None:
        raise SpecError("--pool inline has no cluster; leave --address out, or take --pool ray")
    return ExecutionOptions(
        pool=pool.value,
        workers=workers,
        address=address,
        epoch_timeout=parse_duration(epoch_timeout, "--epoch-timeout")
        if epoch_timeout is not None
        else EPOCH_TIMEOUT,
        mirror=mirror,
    )


def _at_least(least: int, **given: int | None) -> None:
    for name, value in given.items():
        if value is not None and value < least:
            raise SpecError(f"--{name.replace('_', '-')} needs at least {least}, got {value}")


def _check_ended(run: Run) -> None:
    """Who is best, or left behind, is not settled before."""
    if run.status == "running":
        raise RunError(f"{run.folder}: is still going; wait for its end, or stop it with Ctrl-C")


def _trusted(spec_file: Path | None, *, given: bool) -> None:
    from pipelines.runs.trust import check_trust

    if spec_file is not None and spec_file.is_file():  # what is not there is said elsewhere
        check_trust(spec_file, given=given)


def _writable(path: Path) -> None:
    """Fail before the work, not after it, where nothing could be written."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise RunError(f"--out needs a place that can be written to, got {path}: {existing} is not")


@contextmanager
def _to_errors(as_json: bool) -> Iterator[None]:
    """With --json: what a trainer prints goes to standard error, beside the one object."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield


@contextmanager
def _starting(*, shown: bool) -> Iterator[Callable[[], None]]:
    """On a terminal: say that the workers are starting, until they have."""
    if not (shown and sys.stdout.isatty()):
        yield lambda: None
        return
    from rich.console import Console

    status = Console().status("reading the data, starting the workers …")
    status.start()
    try:
        yield status.stop
    finally:
        status.stop()


def _watch(started: Callable[[], None], *, silent: bool, notes: bool) -> MakeWatcher:
    from pipelines.see.terminal import make_watcher

    def make(objective: Objective, folder: Path, told: tuple[str, ...], best: Score) -> Watcher:
        started()
        for note in told if notes else ():
            typer.echo(f"note: {note}")
        return make_watcher(objective, str(folder), best, silent=silent)

    return make


def _ended(result: Result, *, as_json: bool) -> None:
    folder, ending = result.folder, result.ending
    if ending.status == "failed":
        sys.stderr.write(
            f"caviar: {ending.reason}; `caviar show {shlex.quote(str(folder))}` has the rest\n"
        )
        raise typer.Exit(1)
    if ending.status == "interrupted":
        if not as_json:
            typer.echo(f"stopped; `caviar resume {shlex.quote(str(folder))}` goes on")
        raise typer.Exit(130)


def _train_again(
    spec: Spec, folder: Path, crew: ExecutionOptions, *, silent: bool, as_json: bool
) -> None:
    """Train what a spec gives, and leave if that did not come to its end."""
    from pipelines.runs.launch import train_again

    _writable(folder)
    with _starting(shown=not silent) as started, _to_errors(as_json):
        watch = _watch(started, silent=silent, notes=not as_json)
        result = train_again(spec, out=folder, crew=crew, watch=watch)
    if result is not None:
        _ended(result, as_json=as_json)


def _print_json(found: object) -> None:
    """On one line; a number that JSON does not have is null."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    typer.echo(json.dumps(plain(found), allow_nan=False))


def _print_summary(folder: Path, *, as_json: bool) -> None:
    from pipelines.see.run import load, locate_best_values, read_run_spec, summary
    from pipelines.see.terminal import format_summary

    spec = read_run_spec(folder)
    run = load(folder)
    found = summary(run)
    if as_json:
        _print_json(found)
        return
    for line in format_summary(found, locate_best_values(run), run.objective):
        typer.echo(line)
    if spec.search.audit and not found["audits"]:
        typer.echo(
            f"note: {spec.search.audit:.0%} of the epochs did not suffice for an audit, "
            f"which takes {spec.max_epochs}"
        )
