"""A pool that returns messages in the order of assignments: what makes a run repeat exactly.

What a search decides depends on the messages it gets, so it must get the same messages in the same
order, however many workers there are and whichever is quicker. A fixed number of assignments is in
flight at any time. The messages of an assignment are held back until its turn, and one assignment
is returned at a time, so that the search decides on its successor before it sees the next one.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from orchestrator.runtime.checkpoint import Checkpoint, Message, ends_assignment
from orchestrator.runtime.pool import Pool
from orchestrator.search.events import TrialMessage
from orchestrator.search.messages import Assignment, Failure

__all__ = ["OrderedPool"]


@dataclass(slots=True)
class _Turn:
    """An assignment in flight, and the messages that have come in for it."""

    assignment: Assignment
    messages: list[Message] = field(default_factory=list)
    has_ended: bool = False

    def accepts(self, message: Message) -> bool:
        """Whether the message belongs to this assignment, and the assignment has not ended."""
        a = self.assignment
        return (a.trial, a.attempt) == (message.trial, message.attempt) and not self.has_ended


class OrderedPool:
    """Wraps another pool; returns messages in the order in which assignments were submitted.

    Args:
        pool: The pool that trains.
        max_in_flight: The number of assignments in flight, however many workers the pool has.
    """

    def __init__(self, pool: Pool, *, max_in_flight: int) -> None:
        self._pool, self._max_in_flight = pool, max_in_flight
        self._turns: deque[_Turn] = deque()
        #: assignments that wait until the pool needs work
        self._waiting: deque[tuple[Assignment, Checkpoint | None]] = deque()
        self._failed_trial: int | None = None  #: the trial of the last turn, if it ended in failure

    @property
    def size(self) -> int:
        """The number of workers that the pool has once all are up."""
        return self._pool.size

    @property
    def workers(self) -> int:
        """The number of workers that are up now."""
        return self._pool.workers

    def free(self) -> int:
        """The number of assignments that are missing to `max_in_flight`."""
        return self._max_in_flight - len(self._turns)

    def busy(self) -> int:
        """The number of workers that have something to do; at least 1 while a turn is open."""
        return max(self._pool.busy(), bool(self._turns))

    def submit(self, assignment: Assignment, checkpoint: Checkpoint | None) -> None:
        """Append a turn; the new attempt of a trial that just failed gets the turn it had."""
        if assignment.trial == self._failed_trial:
            self._turns.appendleft(_Turn(assignment))
            self._waiting.appendleft((assignment, checkpoint))
        else:
            self._turns.append(_Turn(assignment))
            self._waiting.append((assignment, checkpoint))

    def deliver(self, message: TrialMessage) -> bool:
        """Return False: which epoch a message comes before depends on the workers' speed."""
        return False

    def poll(self, seconds: float, *, left: float = math.inf) -> list[Message]:
        """Return all messages of the assignment whose turn it is, once it has ended.

        Messages of attempts that were given up are returned at once: no turn waits for them.
        """
        while self._waiting and self._pool.free() > 0:
            self._pool.submit(*self._waiting.popleft())
        ready = bool(self._turns) and self._turns[0].has_ended
        arrived = self._pool.poll(0.0 if ready else seconds, left=left)
        late = [message for message in arrived if not self._assign_to_turn(message)]
        if not (self._turns and self._turns[0].has_ended):
            return late
        turn = self._turns.popleft()
        failed = isinstance(turn.messages[-1], Failure)
        self._failed_trial = turn.assignment.trial if failed else None
        return late + turn.messages

    def drain(self) -> list[Message]:
        """Return nothing: what came in out of turn is trained again when the run goes on."""
        return []

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def _assign_to_turn(self, message: Message) -> bool:
        """Add a message to its turn; False if no turn waits for it."""
        for turn in self._turns:
            if turn.accepts(message):
                turn.messages.append(message)
                turn.has_ended = ends_assignment(message)
                return True
        return False
