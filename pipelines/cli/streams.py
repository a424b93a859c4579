"""Standard output and standard error of a command, whose reader may leave and whose disk may fill.

`caviar show RUN | head -1` closes the pipe while the command writes, `> /dev/full` has no room, and
`>&-` starts it without the stream. Python answers with a traceback, or with one more of them when
it flushes its buffer at the end. Here the first failure of standard output raises `OutputError`,
which ends a command that only prints; a command that trains goes on. After that, what is written is
discarded.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from orchestrator.errors import CaviarError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["OutputError", "describe_failure", "guard_streams", "train_without_output"]


class OutputError(CaviarError):
    """Standard output cannot be written to."""

    exit_code = 141  #: what a shell reports of a program that a closed pipe ends: 128 + SIGPIPE


class _Descriptor(io.FileIO):
    """The file descriptor of a standard stream; after a failure, it discards what is written."""

    def __init__(self, number: int, *, raises: bool) -> None:
        # A copy: where a trainer closes the original, the run's next file gets its number.
        super().__init__(os.dup(number), "w", closefd=False)
        self.failure: OSError | None = None
        self.raises = raises

    def write(self, data: ReadableBuffer, /) -> int:
        """Write some of the data, and return how many bytes were written or discarded.

        Raises:
            OutputError: At the first failure, unless the command's work is more than its output.
        """
        size = memoryview(data).nbytes
        if self.failure is not None:
            return size
        try:
            # None: another program has set the descriptor to non-blocking, and it is full
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as e:
            self.failure = e
            if self.raises:
                raise OutputError(describe_failure() or "standard output is closed") from e
            return size
        return written


_descriptors: dict[int, _Descriptor] = {}  # those in use, by the number of the standard stream


class _Stream(io.TextIOWrapper):
    """A standard stream that stays open when a trainer closes it."""

    def close(self) -> None:
        """Write what waits in the buffer."""
        self.flush()


@contextmanager
def guard_streams() -> Iterator[None]:
    """Let standard output and error fail in the way that the top of this file describes.

    Streams that a test or a notebook has put in their place stay as they are.
    """
    _open_missing_descriptors()
    before = sys.stdout, sys.stderr
    guarded = []
    if before[0] is sys.__stdout__:
        sys.stdout = _guard(before[0], 1, raises=True)
        guarded.append(sys.stdout)
    if before[1] is sys.__stderr__:
        sys.stderr = _guard(before[1], 2, raises=False)  # no place is left to report it
        guarded.append(sys.stderr)
    try:
        yield
    finally:
        train_without_output()  # whatever waits in the buffer, the exit code is settled
        for stream in guarded:
            stream.flush()
        sys.stdout, sys.stderr = before
        _descriptors.clear()


def train_without_output() -> None:
    """From now on, a failure of standard output ends nothing."""
    for descriptor in _descriptors.values():
        descriptor.raises = False


def describe_failure() -> str:
    """Why standard output could not be written, in one line; empty if it could.

    Empty also for a pipe whose reader has left: that reader has read all that it wanted.
    """
    output = _descriptors.get(1)
    failure = output.failure if output else None
    if failure is None or failure.errno == errno.EPIPE:
        return ""
    return f"standard output cannot be written: {failure.strerror}"


def _guard(stream: io.TextIOBase | None, number: int, *, raises: bool) -> _Stream:
    """The stream with the same encoding and buffering; characters that it lacks become `?`."""
    descriptor = _descriptors[number] = _Descriptor(number, raises=raises)
    return _Stream(
        io.BufferedWriter(descriptor),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="replace",
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )


def _open_missing_descriptors() -> None:
    """Open descriptors 0 to 2 where they are closed, or the next file of the run would get them.

    They are opened for reading, so that writing fails.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY)
            assert opened == number, "the lowest free descriptor is the next one"
