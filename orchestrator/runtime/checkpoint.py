"""The values that travel between a driver and its workers: checkpoints and messages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestrator.search.events import TrialMessage
from orchestrator.search.messages import Failure, Report, State

__all__ = ["Checkpoint", "Message", "ends_assignment"]

Message = Report | Failure | TrialMessage  #: what a worker answers with


def ends_assignment(message: Message) -> bool:
    """Whether a worker's message is the last one of its assignment."""
    return isinstance(message, Failure) or (isinstance(message, Report) and message.last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trial's state after an epoch.

    A checkpoint is a cache: if it is lost, the trial is trained again from an earlier one, or from
    scratch, and comes to the same numbers.
    """

    epoch: int  #: the epoch after which the state was taken
    state: State  #: what the trainer's `load` needs to go on from there

    @property
    def bytes(self) -> int:
        """About how much memory the state takes: arrays exactly, 64 bytes for any other value."""
        return sum(v.nbytes if isinstance(v, np.ndarray) else 64 for v in self.state.values())
