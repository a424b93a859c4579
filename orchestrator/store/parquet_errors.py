"""The one place where errors of pyarrow and of the operating system become errors of a run.

Only damage may be repaired: a table that may not be read, or cannot be read now, can be sound.
"""

from __future__ import annotations

import errno
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from orchestrator.errors import DamageError, RunError
from orchestrator.quote import get_first_line

__all__ = ["reading_part", "require_regular_file"]

_FORBIDDEN = (errno.EACCES, errno.EPERM)


@contextmanager
def reading_part(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a part is read into one line that names the file.

    Raises:
        DamageError: If the content of the file is damaged.
        RunError: If the file may not be read, cannot be read now, or needs more memory than there
            is.
    """
    try:
        yield
    except MemoryError as e:  # pyarrow's is one too
        raise RunError(f"{path}: needs more memory than this process can have") from e
    except OSError as e:
        # pyarrow sets errno where the operating system refused, and leaves it out where bytes do
        # not make sense
        raise _damage(path, e) if e.errno is None else RunError(_explain(path, e)) from e
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowTypeError, pa.ArrowIndexError) as e:
        raise _damage(path, e) from e
    except UnicodeDecodeError as e:  # of a column's name
        raise _damage(path, e) from e
    except pa.ArrowException as e:  # a codec that is not there, a thread that cannot start
        raise RunError(f"{path}: cannot be read here ({get_first_line(e)})") from e


def require_regular_file(path: Path) -> None:
    """Refuse a link, a pipe or a folder in the place of a part; to open a pipe would wait for ever.

    Raises:
        RunError: If the path is not a regular file.
    """
    with reading_part(path):
        mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        raise RunError(
            f"{path}: needs a regular file, got a link, a folder or a device; put the file itself "
            f"in its place"
        )


def _damage(path: Path, error: Exception) -> DamageError:
    return DamageError(
        f"{path}: not a whole Parquet file ({get_first_line(error)}); "
        f"`caviar repair {shlex.quote(str(path.parent.parent))}` keeps all that can be read"
    )


def _explain(path: Path, error: OSError) -> str:
    reason = error.strerror or get_first_line(error)
    if error.errno in _FORBIDDEN:
        return f"{path}: needs the right to read it, got {reason!r}; see `ls -l` for its owner"
    if error.errno == errno.ENOENT:
        return f"{path}: was moved while it was read; try again"
    return (
        f"{path}: cannot be read now, got {reason!r}; the file may be sound: look at the disk, or "
        f"at the connection to it, and try again"
    )
