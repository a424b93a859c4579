"""The fine stage: when the search zooms in, and the share of the budget that each box gets."""

from __future__ import annotations

import math
from collections.abc import Collection

from orchestrator.search.budget import Cycle
from orchestrator.search.events import ZoomedIn
from orchestrator.search.spec import SearchSpec
from orchestrator.search.trial import Trial
from orchestrator.search.zoom import ELITES, Zoom, zoom_in
from orchestrator.space.space import Space

__all__ = ["FineStage"]


class FineStage:
    """The present box of the fine stage.

    Only `use_box`, `note_report` and `restart` change it; `Search.apply` calls them.
    """

    def __init__(self, space: Space, spec: SearchSpec) -> None:
        self._space, self._spec = space, spec
        self.zoom: Zoom | None = None  #: the present box; None in the coarse stage
        self.zooms = 0  #: number of boxes so far, over all cycles of the budget
        self._has_result = False  # whether a trial of the present box has reported

    def use_box(self, event: ZoomedIn) -> None:
        """Use this box from now on."""
        self.zoom = Zoom(number=event.zoom, box=event.box, parents=event.parents)
        self.zooms, self._has_result = event.zoom, False

    def note_report(self, trial: Trial) -> None:
        """Note that a trial has reported an epoch without an error."""
        if self.zoom is not None and trial.zoom == self.zoom.number:
            self._has_result = True

    def restart(self) -> None:
        """Leave the present box: a new budget is searched from coarse to fine again."""
        self.zoom = None

    def propose_zoom(
        self, trials: Collection[Trial], *, progress: float, cycle: Cycle, exhausted: bool
    ) -> ZoomedIn | None:
        """Propose a new box if its share of the budget begins and there are results to use.

        Args:
            trials: All trials so far.
            progress: Share of the present budget that is used.
            cycle: Use of the run when the present budget was set.
            exhausted: Whether the coarse stage has no more points, so that the first zoom is due.
        """
        done = self.zooms - cycle.zooms
        if done >= self._spec.zooms:
            return None
        coarse = self._spec.coarse_share
        due = coarse + done * (1 - coarse) / self._spec.zooms
        if progress < due and not (exhausted and self.zoom is None):
            return None
        if self.zoom is not None and not self._has_result:
            return None  # a box is narrowed only after one of its trials has reported
        return self._zoom_to_elites(trials, progress)

    def _zoom_to_elites(self, trials: Collection[Trial], progress: float) -> ZoomedIn | None:
        ranking = sorted(
            (t for t in trials if t.best[0] < math.inf and not t.is_audit),
            key=lambda t: (t.best, t.id),
        )
        elites = ranking[: min(ELITES, len(ranking) // 4)]
        if not elites:
            return None
        zoom = zoom_in(
            self._space,
            points=[t.point for t in elites],
            trials=[t.id for t in elites],
            number=self.zooms + 1,
            previous=self.zoom.box if self.zoom else {},
        )
        return ZoomedIn(
            zoom=zoom.number,
            parents=zoom.parents,
            box=zoom.box,
            reason=f"zoom {zoom.number}: the best {len(elites)} of {len(ranking)} trials, "
            f"{progress:.0%} of the budget used",
        )
