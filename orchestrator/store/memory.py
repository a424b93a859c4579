"""How much memory this process can still have, to refuse what does not fit before it is read."""

from __future__ import annotations

import math
import re
import resource
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import InputError, RunError

__all__ = ["format_bytes", "measure_free_memory", "require_address_space", "require_memory"]

#: Least RLIMIT_AS that a command works with. Between 1 and 2.5 GB pyarrow's allocator takes 1 GB at
#: once, and what was left did not always suffice; the libraries then abort the process.
LEAST_ADDRESS_SPACE = 3e9
_PROCESS = Path("/proc/self/statm")  #: first number: pages of this process's address space
_MACHINE = Path("/proc/meminfo")
_CONTAINER = Path("/sys/fs/cgroup")  #: the container's own limit and use, with cgroup v2


def require_memory(place: Path | str, needed: float, error: type[InputError] = RunError) -> None:
    """Refuse what does not fit into the memory, before the reading of it ends the process.

    Raises:
        InputError: Of the type `error`, if the process cannot have so many bytes.
    """
    free = measure_free_memory()
    if needed > free:
        raise error(
            f"{place}: needs {format_bytes(needed)} of memory, {format_bytes(free)} are free; "
            f"take a machine with more memory, or read the file with DuckDB or Polars"
        )


def require_address_space() -> None:
    """Refuse to work under a limit of the address space that ends the process somewhere later.

    Raises:
        RunError: If RLIMIT_AS (`ulimit -v`) is below `LEAST_ADDRESS_SPACE`.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESS_SPACE:
        raise RunError(
            f"needs an address space of {format_bytes(LEAST_ADDRESS_SPACE)}, the limit is "
            f"{format_bytes(limit)}; `ulimit -v unlimited` raises it"
        )


def measure_free_memory() -> float:
    """Bytes that this process can still allocate; infinite where the system does not say."""
    return max(min(_free_of_machine(), _free_of_container(), _free_of_limit()), 0.0)


def format_bytes(count: float) -> str:
    """Write a number of bytes for a person: 3.1 GB, 12 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def _free_of_machine() -> float:
    with suppress(OSError, ValueError, IndexError):
        for line in _MACHINE.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    return math.inf


def _free_of_container() -> float:
    with suppress(OSError, ValueError):  # ValueError: the limit is the word "max"
        limit, used = (
            int((_CONTAINER / name).read_text(encoding="ascii"))
            for name in ("memory.max", "memory.current")
        )
        cached = re.search(r"^file (\d+)$", (_CONTAINER / "memory.stat").read_text("ascii"), re.M)
        return float(limit - used + (int(cached[1]) if cached else 0))  # the cache can be dropped
    return math.inf


def _free_of_limit() -> float:
    """What RLIMIT_AS (`ulimit -v`) leaves of the process's address space."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    with suppress(OSError, ValueError, IndexError):
        pages = int(_PROCESS.read_text(encoding="ascii").split()[0])
        return float(limit - pages * resource.getpagesize())
    return float(limit)
