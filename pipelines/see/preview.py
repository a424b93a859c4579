"""`caviar space`: the space that a search would draw from, before anything is trained."""

from __future__ import annotations

import math
import time

import numpy as np

from orchestrator.search.samplers import Sampler, make_sampler
from orchestrator.space.domains import Choice, Config, Domain, Fixed, Integer, Real
from orchestrator.space.space import Space
from orchestrator.space.warnings import find_warnings
from pipelines.runs.spec import Spec
from pipelines.see.formatting import format_number

__all__ = ["format_space"]

DRAWS = 1024  #: configurations to draw: enough for a histogram, and a power of two for Sobol
DRAW_SECONDS = 2.0  #: no further configuration is drawn after this time: constraints make them rare
_BARS = " ▁▂▃▄▅▆▇█"


def format_space(spec: Spec) -> list[str]:
    """Write a space as lines: each hyperparameter with its range and a histogram, then warnings."""
    space = spec.parameters()
    sampler = make_sampler(
        spec.search.sampler, space, seed=spec.seed, grid_levels=spec.search.grid_levels
    )
    configs = _draw_configs(space, sampler)
    lines = [
        f"{len(space)} dimensions; {len(configs)} draws of the {spec.search.sampler} sampler",
        "",
    ]
    lines += [_format_line(space, name, configs) for name in space.names]
    lines += ["", "three of them:"]
    for config in configs[:3]:
        lines.append("  " + "  ".join(f"{k}={format_number(v)}" for k, v in config.items()))
    warnings = find_warnings(space)
    lines += ["", *(f"warning: {w}" for w in warnings)] if warnings else ["", "no warnings"]
    return lines


def _draw_configs(space: Space, sampler: Sampler) -> list[Config]:
    configs: list[Config] = []
    deadline = time.perf_counter() + DRAW_SECONDS
    for number in range(DRAWS):
        point = sampler.draw_point(number)
        if point is None or (configs and time.perf_counter() > deadline):
            break
        configs.append(space.to_config(point))
    return configs


def _format_line(space: Space, name: str, configs: list[Config]) -> str:
    domain = space.names[name].parameter.domain
    values = [config[name] for config in configs if name in config]
    share = len(values) / len(configs) if configs else 0.0
    active = f"{share:4.0%} active" if share < 1 else ""
    return f"  {name:<20} {domain!s:<28} {_format_histogram(domain, values):<44} {active}".rstrip()


def _format_histogram(domain: Domain, values: list[bool | int | float | str]) -> str:
    if isinstance(domain, Fixed) or not values:
        return ""
    if isinstance(domain, Choice):
        return "  ".join(f"{o} {values.count(o) / len(values):.0%}" for o in domain.options)
    numbers = np.array([float(v) for v in values])
    edges, label = _compute_edges(domain)
    counts, _ = np.histogram(numbers, bins=edges)
    bars = "".join(_BARS[math.ceil(8 * c / max(counts.max(), 1))] for c in counts)
    return (
        f"{format_number(float(domain.low))} |{bars}| {format_number(float(domain.high))} {label}"
    )


def _compute_edges(domain: Real | Integer) -> tuple[np.ndarray, str]:
    """Edges of the histogram's bins, and how they are spaced in words.

    A range of two decades or more has a bin for each decade, a range on the scale of 1 - v one for
    each third of a decade of it; other ranges have at most ten equal bins.
    """
    low, high = float(domain.low), float(domain.high)
    if isinstance(domain, Real) and domain.scale == "reverse_log":
        steps = np.logspace(math.log10(1 - low), math.log10(1 - high), 7)
        return np.concatenate([[low], (1 - steps)[1:-1], [high]]), "thirds of a decade of 1 - v"
    if low > 0 and high / low >= 100:
        first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
        decades = 10.0 ** np.arange(first, last + 1)
        decades[0], decades[-1] = low, high
        return decades, "by decade"
    if isinstance(domain, Integer):
        if domain.scale == "log2":
            return np.geomspace(low - 0.5, high + 0.5, 9), "evenly on log2"
        return np.linspace(low - 0.5, high + 0.5, min(int(high - low) + 1, 10) + 1), ""
    return np.linspace(low, high, 11), ""
