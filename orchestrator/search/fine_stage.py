"""When the search zooms in: the boxes of the fine stage, and how much of the budget each gets."""

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
    """The present box; changed by `enter`, `observe` and `restart`, which `Search.apply` calls."""

    def __init__(self, space: Space, spec: SearchSpec) -> None:
        self._space, self._spec = space, spec
        self.zoom: Zoom | None = None  #: the present box; None in the coarse stage
        self.zooms = 0  #: number of boxes so far, over all cycles of the budget
        self._has_result = False  # whether a trial of the present box has reported

    def enter(self, event: ZoomedIn) -> None:
        """Draw from this box from now on."""
        self.zoom = Zoom(number=event.zoom, box=event.box, parents=event.parents)
        self.zooms, self._has_result = event.zoom, False

    def observe(self, trial: Trial) -> None:
        """A trial has reported a sound epoch."""
        if self.zoom is not None and trial.zoom == self.zoom.number:
            self._has_result = True

    def restart(self) -> None:
        """A budget was added: it is searched from coarse to fine again."""
        self.zoom = None

    def propose_zoom(
        self, trials: Collection[Trial], *, progress: float, cycle: Cycle, exhausted: bool
    ) -> ZoomedIn | None:
        """A new box, when its share of the budget begins and there are results to go by.

        Args:
            trials: All trials so far.
            progress: Share of the present budget that is used.
            cycle: What had been used when the present budget was given.
            exhausted: Whether the coarse stage has no more points; the first zoom is due then.
        """
        done = self.zooms - cycle.zooms
        if done >= self._spec.zooms:
            return None
        coarse = self._spec.coarse_share
        due = coarse + done * (1 - coarse) / self._spec.zooms
        if progress < due and not (exhausted and self.zoom is None):
            return None
        if self.zoom is not None and not self._has_result:
            return None  # a box is not narrowed again before one of its trials has reported
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
