"""Rungs, the epochs at which trials are compared: rising integers that end with max_epochs."""

from __future__ import annotations

__all__ = ["geometric_rungs", "wide_rungs"]

RATIO = 2.65  #: ratio of the epochs of two neighbouring wide rungs


def geometric_rungs(*, max_epochs: int, eta: int) -> tuple[int, ...]:
    """Return the rungs 1, eta, eta^2, … and max_epochs.

    They are computed by multiplying integers: floor(log(R) / log(eta)) loses a rung at R = 243,
    eta = 3.
    """
    rungs = [1]
    while rungs[-1] * eta < max_epochs:
        rungs.append(rungs[-1] * eta)
    return (*rungs, max_epochs) if max_epochs > 1 else (1,)


def wide_rungs(max_epochs: int) -> tuple[int, ...]:
    """Return up to four rungs with a ratio of about 2.65: 2, 7, 20 and 52 for 52 epochs.

    The ratio of the two lowest rungs is larger, 2.65^1.35 = 3.7.
    """
    return tuple(sorted({max(round(max_epochs / RATIO**k), 1) for k in (0, 1, 2, 3.35)}))
