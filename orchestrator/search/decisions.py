"""Builders of events: pure functions from a decision, as values, to the event that records it.

`Search` decides and applies. These functions fill in the fields of an event and word its reason.
"""

from __future__ import annotations

import math

from orchestrator.search.draws import Draw
from orchestrator.search.events import (
    AssignmentEnded,
    TrialCompleted,
    TrialDiverged,
    TrialFailed,
    TrialPaused,
    TrialPromoted,
    TrialPruned,
    TrialRetried,
    TrialStarted,
    TrialStopped,
)
from orchestrator.search.messages import Failure
from orchestrator.search.pruning.base import Promotion, Verdict
from orchestrator.search.trial import AUDIT, Trial
from orchestrator.space.domains import Config, Point
from orchestrator.space.space import Space

__all__ = [
    "end_assignment",
    "fail_trial",
    "promote",
    "prune",
    "retry",
    "retry_lost",
    "start_audit",
    "start_draw",
    "start_initial",
    "stop_trial",
]

_END_TYPES = {cls.kind: cls for cls in (TrialPaused, TrialPruned, TrialCompleted, TrialDiverged)}


def start_initial(
    space: Space, config: Config, *, trial: int, seed: int, stop_epoch: int
) -> TrialStarted:
    """Start a trial with an initial configuration of the spec."""
    return TrialStarted(
        trial=trial,
        stage="given",
        config=config,
        unit=_name_coordinates(space, space.to_point(config)),
        seed=seed,
        stop_epoch=stop_epoch,
        reason="given in the spec",
    )


def start_draw(space: Space, draw: Draw, *, trial: int, seed: int, stop_epoch: int) -> TrialStarted:
    """Start a trial at a point that the method proposed."""
    config = space.to_config(draw.point)
    return TrialStarted(
        trial=trial,
        stage=draw.stage,
        config=config,
        unit=_name_coordinates(space, space.to_point(config)),
        seed=seed,
        zoom=draw.zoom.number if draw.zoom else None,
        box=draw.zoom.box if draw.zoom else None,
        parents=draw.zoom.parents if draw.zoom else None,
        stop_epoch=stop_epoch,
        forecast=draw.forecast,
        reason=draw.reason,
    )


def start_audit(space: Space, audited: Trial, *, trial: int, stop_epoch: int) -> TrialStarted:
    """Train a trial once more, to the end, with the same seed, so that its first epochs repeat."""
    return TrialStarted(
        trial=trial,
        stage=AUDIT,
        parents=(audited.id,),
        config=audited.config,
        unit=_name_coordinates(space, audited.point),
        seed=audited.seed,
        stop_epoch=stop_epoch,
        reason=f"to see what would have become of trial {audited.id}, which was left behind "
        f"after epoch {audited.epoch}",
    )


def promote(trial: Trial, promotion: Promotion) -> TrialPromoted:
    """Let a paused trial go on to the next rung."""
    return TrialPromoted(
        trial=trial.id,
        attempt=trial.attempt + 1,
        start_epoch=promotion.start_epoch,
        stop_epoch=promotion.stop_epoch,
        value=trial.score[0],
        comparison=promotion.comparison,
        forecast=promotion.forecast,
        reason=promotion.reason,
    )


def retry(trial: Trial, reason: str) -> TrialRetried:
    """Hand out the rest of a trial's present assignment again, as a new attempt."""
    return TrialRetried(
        trial=trial.id,
        attempt=trial.attempt + 1,
        start_epoch=trial.epoch,
        stop_epoch=trial.stop_epoch,
        reason=reason,
    )


def retry_lost(trial: Trial, failure: Failure, *, retries: int) -> TrialRetried:
    """Hand out the assignment of a lost worker again; `retries` is the number allowed."""
    tries = f"try {trial.retries + 2} of {retries + 1}"
    return retry(trial, f"{failure.message}; {tries}")


def end_assignment(trial: Trial, verdict: Verdict) -> AssignmentEnded:
    """End a trial's assignment as the verdict says: pause, prune, complete or diverge."""
    return _END_TYPES[verdict.kind](
        trial=trial.id,
        attempt=trial.attempt,
        epoch=trial.epoch,
        value=None if trial.cause else trial.score[0],
        comparison=verdict.comparison,
        reason=verdict.reason,
    )


def fail_trial(trial: Trial, failure: Failure) -> TrialFailed:
    """Give up a trial whose trainer raised an error, or whose workers died too often."""
    times = f", {trial.retries + 1} times" if failure.kind == "lost" else ""
    return TrialFailed(
        trial=trial.id,
        attempt=trial.attempt,
        epoch=trial.epoch,
        reason=failure.message + times,
        traceback=failure.traceback or None,
    )


def stop_trial(trial: Trial, reason: str) -> TrialStopped:
    """Stop a running trial at the end of a session; the next session goes on with it."""
    return TrialStopped(trial=trial.id, epoch=trial.epoch, reason=reason)


def prune(trial: Trial, reason: str) -> TrialPruned:
    """Give up a paused trial to make space for checkpoints."""
    return TrialPruned(trial=trial.id, epoch=trial.epoch, reason=reason)


def _name_coordinates(space: Space, point: Point) -> dict[str, float]:
    """Coordinates of a point by dimension, without the inactive ones."""
    pairs = zip(space.dimensions, point.tolist(), strict=True)
    return {d.name: u for d, u in pairs if not math.isnan(u)}
