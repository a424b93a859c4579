"""Every error that Caviar raises on purpose, as one tree.

    CaviarError
    ├── InputError        something a user gave cannot be used; one line, exit code 2
    │   ├── SpecError     the spec or the space
    │   ├── DataError     the data set
    │   └── RunError      the run's folder, its lock, its log
    └── PoolError         the workers or the cluster are gone; exit code 1

A message is one line: what was needed, what was given, where, and what to type instead.
"""

from __future__ import annotations

__all__ = ["CaviarError", "DataError", "InputError", "PoolError", "RunError", "SpecError"]


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


class PoolError(CaviarError):
    """No worker can be had; the run's folder keeps all that reached it."""
