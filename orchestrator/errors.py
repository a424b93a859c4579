"""Every error that Caviar raises on purpose, as one tree.

    CaviarError
    ├── InputError        the user's input cannot be used; one line, exit code 2
    │   ├── SpecError     the spec or the space
    │   ├── DataError     the data set
    │   └── RunError      the run's folder, its lock, its log
    │       └── DamageError   the content of the run's tables is damaged; `caviar repair` helps
    │           └── InvalidEntry  a row of the log does not follow from the rows before it
    └── PoolError         the workers or the cluster are lost; exit code 1

A message is one line: what is needed, what was given, where, and what to type instead. `RunWarning`
is the category of a warning about a run's folder, which is one line too.
"""

from __future__ import annotations

__all__ = [
    "CaviarError",
    "DamageError",
    "DataError",
    "InputError",
    "InvalidEntry",
    "PoolError",
    "RunError",
    "RunWarning",
    "SpecError",
]


class CaviarError(Exception):
    """Base of all errors that Caviar raises on purpose."""

    exit_code = 1


class InputError(CaviarError):
    """The user's input cannot be used; nothing was changed."""

    exit_code = 2


class SpecError(InputError):
    """The spec file or the search space in it is wrong."""


class DataError(InputError):
    """The data set cannot be read, or cannot be used for training."""


class RunError(InputError):
    """The run's folder cannot be used as requested."""


class DamageError(RunError):
    """The content of a run's tables is damaged: a file, a gap, or rows that contradict each other.

    `caviar repair` acts on this error alone. A table of another version, or one that may not or
    cannot be read now, is another RunError, because its content may be sound.
    """


class InvalidEntry(DamageError):  # noqa: N818 # a term of the log: an entry that is invalid
    """A row of the log that does not follow from the rows before it.

    Args:
        problem: Description of the problem, in words.
        trial: Id of the row's trial, if the row belongs to a trial.
        story: Summary of the trial's earlier events.
        seq: Number of the row in the log, if known.
    """

    def __init__(
        self, problem: str, *, trial: int | None = None, story: str = "", seq: int | None = None
    ) -> None:
        where = f"row {seq} of the log: " if seq is not None else ""
        past = f" (trial {trial} so far: {story})" if story else ""
        super().__init__(f"{where}{problem}{past}")
        self.problem, self.trial, self.story, self.seq = problem, trial, story, seq


class PoolError(CaviarError):
    """No worker is available; the run's folder keeps everything that was written to it."""


class RunWarning(UserWarning):
    """A warning about a run's folder: the command goes on, and a person should look at a file."""
