"""Every error that Caviar raises on purpose, as one tree.

    CaviarError
    ├── InputError        something a user gave cannot be used; one line, exit code 2
    │   ├── SpecError     the spec or the space
    │   ├── DataError     the data set
    │   └── RunError      the run's folder, its lock, its log
    │       └── InvalidEntry  a row of the log that does not follow from the rows before it
    └── PoolError         the workers or the cluster are gone; exit code 1

A message is one line: what was needed, what was given, where, and what to type instead.
"""

from __future__ import annotations

__all__ = [
    "CaviarError",
    "DataError",
    "InputError",
    "InvalidEntry",
    "PoolError",
    "RunError",
    "SpecError",
]


class CaviarError(Exception):
    """The root: catch it to catch all that Caviar raises on purpose."""

    exit_code = 1


class InputError(CaviarError):
    """Something a user gave cannot be used; nothing was changed."""

    exit_code = 2


class SpecError(InputError):
    """The spec file or the search space in it is wrong."""


class DataError(InputError):
    """The data set cannot be read or cannot be learnt from."""


class RunError(InputError):
    """The run's folder cannot be used as asked."""


class InvalidEntry(RunError):  # noqa: N818 # the name that the log's readers use
    """A row of the log that does not follow from the rows before it.

    Args:
        problem: What is wrong with the row, in words.
        trial: The trial that the row is about, if it is about one.
        story: What the log said of that trial up to here.
        seq: The row's number in the log, where it is known.
    """

    def __init__(
        self, problem: str, *, trial: int | None = None, story: str = "", seq: int | None = None
    ) -> None:
        where = f"row {seq} of the log: " if seq is not None else ""
        history = f" (trial {trial} so far: {story})" if story else ""
        super().__init__(f"{where}{problem}{history}")
        self.problem, self.trial, self.story, self.seq = problem, trial, story, seq


class PoolError(CaviarError):
    """No worker can be had; the run's folder keeps all that reached it."""
