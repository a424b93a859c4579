"""A pool that hands in by assignment, not by arrival: what makes a run repeat exactly.

What a search decides depends on what it has been told, so it must be told the same things in the
same order, however many workers there are and whichever is quicker. A fixed number of assignments
is out at any time; their messages are kept until it is their turn, and one assignment is handed in
at a time, so that the one that takes its place is decided upon before the next is looked at.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from orchestrator.runtime.pool import Pool
from orchestrator.runtime.worker import Checkpoint, Message
from orchestrator.search.messages import Assignment, Failure

__all__ = ["OrderedPool"]


@dataclass(slots=True)
class _Turn:
    """An assignment that is out, and what has come of it so far."""

    assignment: Assignment
    messages: list[Message] = field(default_factory=list)
    ended: bool = False


class OrderedPool:
    """Any pool behind it; the contract of `Pool`, and the order in which assignments were given."""

    def __init__(self, pool: Pool, *, max_in_flight: int) -> None:
        """Keep `max_in_flight` assignments out at a time, whatever the pool has room for."""
        self._pool, self._max_in_flight = pool, max_in_flight
        self._turns: deque[_Turn] = deque()
        self._waiting: deque[tuple[Assignment, Checkpoint | None]] = deque()  # for room in the pool
        self._failed: int | None = None  # the trial whose turn ended last, if it failed

    @property
    def size(self) -> int:
        """How many workers it has once all are up."""
        return self._pool.size

    @property
    def workers(self) -> int:
        """How many work side by side now."""
        return self._pool.workers

    def free(self) -> int:
        """How many more assignments may be out."""
        return self._max_in_flight - len(self._turns)

    def busy(self) -> int:
        """How many workers have something to do; one at least while a turn is outstanding."""
        return max(self._pool.busy(), bool(self._turns))

    def submit(self, assignment: Assignment, held: Checkpoint | None) -> None:
        """The next turn; what failed and is tried again keeps the turn it had."""
        if assignment.trial == self._failed:
            self._turns.appendleft(_Turn(assignment))
            self._waiting.appendleft((assignment, held))
        else:
            self._turns.append(_Turn(assignment))
            self._waiting.append((assignment, held))

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """All messages of the assignment whose turn it is, once it has ended."""
        while self._waiting and self._pool.free() > 0:
            self._pool.submit(*self._waiting.popleft())
        ready = bool(self._turns) and self._turns[0].ended
        came = self._pool.poll(0.0 if ready else seconds, left=left)
        late = [message for message in came if not self._kept(message)]
        if not (self._turns and self._turns[0].ended):
            return late
        turn = self._turns.popleft()
        failed = isinstance(turn.messages[-1], Failure)
        self._failed = turn.assignment.trial if failed else None
        return late + turn.messages

    def drain(self) -> list[Message]:
        """Nothing: what has come in out of turn is trained again when the run goes on."""
        return []

    def close(self) -> None:
        """Let go of the workers."""
        self._pool.close()

    def _kept(self, message: Message) -> bool:
        """Whether somebody waits for it; not for what a worker tells that was given up."""
        for turn in self._turns:
            a = turn.assignment
            if (a.trial, a.attempt) == (message.trial, message.attempt) and not turn.ended:
                turn.messages.append(message)
                turn.ended = isinstance(message, Failure) or message.last
                return True
        return False
