"""The commands that write, each with the place it starts from and what is typed after a fault.

`export --to optuna` and `--to mlflow` are left out: SQLite needs 600 operations, all in a temporary
folder, and what they share with the other formats (the folder, its rename) is tried with those.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COMMANDS", "SPEC", "Command"]

#: A search of 8 epochs takes a tenth of a second; its log is flushed at every fourth report.
SPEC = """\
max_epochs: 3
search: {method: asha}
space: {layers: 1, units: {int_log2: [4, 8], per: layers}, batch_size: 128}
"""
_TRAIN = "--pool inline --quiet"
_SEARCH = f"search wine --spec spec.yaml --total-epochs 8 --out run {_TRAIN}"
_RESUME = f"resume run {_TRAIN}"
_MIRRORED = f"{_SEARCH} --mirror mirror"
_PYTHON = "python:caviar.search('wine', spec='spec.yaml', epochs=8, out='run', pool='inline')"
_LOSE_RUN = "python:import shutil; shutil.rmtree('run')"
_DAMAGE = (
    "python:import pathlib; p = pathlib.Path('run/epochs/part-00000.parquet'); "
    "p.write_bytes(p.read_bytes()[:-9])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of the sweep: what is typed, and where it writes."""

    name: str  #: name in the table of docs/reliability.md
    words: str  #: what is typed
    setup: tuple[str, ...] = ()  #: commands that make the place it starts from
    run: str = "run"  #: folder of the run that must be whole in the end
    again: tuple[str, ...] = (_RESUME,)  #: what is typed to go on where the run has a spec
    writes: tuple[str, ...] = ("run",)  #: files and folders that it may write
    epochs: int = 8  #: number of epochs that the run must have in the end, at least


def _reads(words: str, *writes: str, setup: tuple[str, ...] = ()) -> Command:
    """A command that reads a finished run and writes one file or folder beside it."""
    name = words.partition(" --out")[0].replace(" run", "").replace(" wine", "")
    return Command(name=name, words=words, setup=(_SEARCH, *setup), again=(words,), writes=writes)


COMMANDS = (
    Command(name="search", words=_SEARCH),
    Command(
        name="search --mirror",
        words=_MIRRORED,
        again=(f"{_RESUME} --mirror mirror",),
        writes=("run", "mirror"),
    ),
    Command(name="caviar.search", words=_PYTHON),
    Command(name="resume", words=f"{_RESUME} --total-epochs 4", setup=(_SEARCH,)),
    Command(
        name="resume --mirror, run lost",
        words=f"{_RESUME} --mirror mirror --total-epochs 6",
        setup=(_MIRRORED, _LOSE_RUN),
        again=(f"{_RESUME} --mirror mirror --total-epochs 6",),
        writes=("run", "mirror"),
    ),
    Command(
        name="repair",
        words="repair run",
        setup=(_SEARCH, _DAMAGE),
        again=("repair run", f"{_RESUME} --total-epochs 6"),
    ),
    *(
        Command(
            name=name,
            words=f"{name} run {options} {_TRAIN}",
            setup=(_SEARCH,),
            run=f"run-{name}",
            again=(f"{name} run {options} {_TRAIN}",),
            writes=(f"run-{name}",),
            epochs=epochs,
        )
        for name, options, epochs in (
            ("finalists", "--top 2 --seeds 2", 12),
            ("audit", "--total-epochs 6", 6),
        )
    ),
    _reads("report run --out page.html", "page.html", setup=("report run --out page.html",)),
    _reads("predict run wine --out rows.parquet", "rows.parquet"),
    _reads("export run --to csv --out table.csv", "table.csv"),
    _reads("export run --to onnx --out model.onnx", "model.onnx"),
    _reads("export run --to tensorboard --out board", "board"),
)
