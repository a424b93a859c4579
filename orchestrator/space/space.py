"""The search space: hyperparameters, their conditions, points and configurations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from orchestrator.errors import SpecError
from orchestrator.space.constraints import Constraint
from orchestrator.space.domains import (
    Choice,
    Config,
    Domain,
    Fixed,
    Integer,
    Point,
    Real,
    Value,
    is_number,
)

__all__ = [
    "Dimension",
    "Parameter",
    "Space",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A hyperparameter: its domain, when it is active, and whether each layer has its own."""

    name: str
    domain: Domain
    #: active only while each of these parameters has one of the values named
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    per: str | None = None  #: an integer parameter: one value for each of 1 … its value
    start_at: Value | None = None  #: a value that usually works; the search begins there

    def __post_init__(self) -> None:
        """Refuse a start value outside the domain."""
        if self.start_at is not None and not self.domain.contains(self.start_at):
            raise SpecError(f"start_at needs a value of {self.domain}, got {self.start_at!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One coordinate of the cube: a searched parameter, or one layer's copy of it."""

    name: str  #: as in the config and in the log: learning_rate, units_1
    parameter: Parameter
    copy: int = 0  #: 1, 2, … where the parameter has one value for each layer

    @property
    def domain(self) -> Real | Integer | Choice:
        """The domain; a fixed parameter has no dimension."""
        assert not isinstance(self.parameter.domain, Fixed)
        return self.parameter.domain


class Space:
    """The hyperparameters of a search, in the order in which the spec lists them.

    Raises:
        SpecError: If a name stands twice, or `when` or `per` names what is not there, or in a ring.
    """

    def __init__(self, parameters: Iterable[Parameter], constraints: Iterable[str] = ()) -> None:
        self.parameters: tuple[Parameter, ...] = tuple(parameters)
        self._by_name = {p.name: p for p in self.parameters}
        if len(self._by_name) != len(self.parameters):
            raise SpecError("space: a parameter stands twice")
        self._order = self._in_dependency_order()
        self._copies = {p.name: _copies(p, self._by_name) for p in self.parameters}
        #: every name a config may have, fixed ones included, with its parameter and layer
        self.names = {d.name: d for copies in self._copies.values() for d in copies}
        if len(self.names) != sum(map(len, self._copies.values())):
            raise SpecError(
                "space: a per-layer copy (units_1, …) has the name of another parameter"
            )
        self.dimensions: tuple[Dimension, ...] = tuple(
            d for d in self.names.values() if not isinstance(d.parameter.domain, Fixed)
        )
        self.index: dict[str, int] = {d.name: i for i, d in enumerate(self.dimensions)}
        #: none of them is broken by a configuration that is tried
        try:
            self.constraints = tuple(Constraint.read(c, known=self.names) for c in constraints)
        except SpecError as e:
            raise SpecError(f"constraints: {e}") from e

    def __len__(self) -> int:
        return len(self.dimensions)

    @property
    def start_point(self) -> Point | None:
        """The point of all start values, the middle where one has none; None if no one has one."""
        start = [d.parameter.start_at for d in self.dimensions]
        if all(value is None for value in start):
            return None
        middle = [
            0.5 if v is None else d.domain.to_unit(v)
            for d, v in zip(self.dimensions, start, strict=True)
        ]
        return np.array(middle)

    def config(self, point: Point) -> Config:
        """The configuration at a point of the cube; what is not active there is left out."""
        assert point.shape == (len(self),)
        config: Config = {}
        coordinates: list[float] = point.tolist()  # a hundred times as fast as one by one
        for p in self._order:
            if p.when and not _active(p, config):
                continue
            domain = p.domain
            for d in self._active_copies(p, config):
                config[d.name] = (
                    domain.value
                    if isinstance(domain, Fixed)
                    else domain.from_unit(coordinates[self.index[d.name]])
                )
        return {name: config[name] for name in self.names if name in config}

    def point(self, config: Mapping[str, Value]) -> Point:
        """The coordinates of a configuration, shape (dimensions,); NaN where it is not active."""
        return np.array(
            [
                d.domain.to_unit(config[d.name]) if d.name in config else math.nan
                for d in self.dimensions
            ]
        )

    def canonical(self, points: np.ndarray) -> np.ndarray:
        """`point(config(p))` of many points at once, shape (n, dimensions).

        Whole numbers and options are put in the middle of their share of the range, and what is
        not active becomes NaN.
        """
        snapped = np.empty_like(points)
        active: dict[str, np.ndarray] = {}
        for p in self._order:
            on = np.ones(len(points), dtype=bool)
            for name, values in p.when.items():
                on &= active[name] & self._has_one_of(name, values, snapped)
            active[p.name] = on
            for d in self._copies[p.name]:
                if (i := self.index.get(d.name)) is None:
                    continue
                snapped[:, i] = d.domain.snap(points[:, i])
                if p.when or p.per:
                    there = on & (self._at_least(p.per, d.copy, active, snapped) if p.per else True)
                    snapped[~there, i] = np.nan
        return snapped

    def allowed(self, points: np.ndarray) -> np.ndarray:
        """At which canonical points no constraint is broken, shape (n,)."""
        allowed = np.ones(len(points), dtype=bool)
        for constraint in self.constraints:
            values = {name: self._values(name, points) for name in constraint.names}
            active = [
                ~np.isnan(points[:, self.index[name]])
                for name in constraint.names
                if name in self.index
            ]
            applies = np.logical_and.reduce(active) if active else np.True_
            allowed &= ~applies | constraint.holds(values)
        return allowed

    def allows(self, config: Config) -> bool:
        """Whether a configuration breaks no constraint."""
        return not self.constraints or bool(self.allowed(self.point(config)[None])[0])

    def _values(self, name: str, points: np.ndarray) -> np.ndarray:
        domain = self.names[name].parameter.domain
        if isinstance(domain, Fixed):
            return np.full(len(points), domain.value)
        u = np.nan_to_num(points[:, self.index[name]])
        return np.array([self.names[name].domain.from_unit(float(x)) for x in u])

    def fitted(self, config: Mapping[str, Value]) -> Config | None:
        """What this space has of a configuration of another one; None if it does not make one."""
        searched = {name: v for name, v in config.items() if name in self.index}
        try:
            found = self.check(searched, source="")  # which fills in what is fixed
        except SpecError:
            return None
        return found if self.allows(found) else None

    def _has_one_of(
        self, name: str, values: tuple[Value, ...], points: np.ndarray
    ) -> np.ndarray | bool:
        """At which points a parameter without copies has one of these values (if it is active)."""
        domain = self._by_name[name].domain
        if isinstance(domain, Fixed):
            return domain.value in values
        u = np.nan_to_num(points[:, self.index[name]])
        if isinstance(domain, Choice):
            allowed = np.array([option in values for option in domain.options])
            return np.asarray(allowed[domain.places(u)])
        if isinstance(domain, Integer):
            return np.isin(domain.values(u), [float(v) for v in values if is_number(v)])
        return np.array([domain.from_unit(float(x)) in values for x in u], dtype=bool)

    def _at_least(
        self, name: str, count: int, active: Mapping[str, np.ndarray], points: np.ndarray
    ) -> np.ndarray | bool:
        """At which points the whole number `name` is active and is at least `count`."""
        domain = self._by_name[name].domain
        if isinstance(domain, Fixed):
            return active[name] & (int(domain.value) >= count)
        assert isinstance(domain, Integer)
        enough = domain.values(np.nan_to_num(points[:, self.index[name]])) >= count
        return np.asarray(active[name] & enough)

    def check(self, config: Mapping[str, Value], *, source: str) -> Config:
        """A configuration given by hand, completed by the fixed values.

        Raises:
            SpecError: If a value is missing, not in its domain, or of no parameter of this space.
        """
        if unknown := sorted(config.keys() - self.names.keys()):
            raise SpecError(
                f"{source}: no hyperparameter {unknown[0]!r}; there are {', '.join(self.names)}"
            )
        checked: Config = {}
        for p in self._order:
            for d in self._active_copies(p, checked) if _active(p, checked) else ():
                if d.name in config:
                    checked[d.name] = _whole(p.domain, config[d.name])
                elif isinstance(p.domain, Fixed):
                    checked[d.name] = p.domain.value
                else:
                    raise SpecError(f"{source}: needs a value for {d.name} ({p.domain})")
                if not p.domain.contains(checked[d.name]):
                    raise SpecError(
                        f"{source}: {d.name} needs a value in {p.domain}, got {checked[d.name]!r}"
                    )
        if idle := sorted(config.keys() - checked.keys()):
            raise SpecError(
                f"{source}: {idle[0]} is not active in this configuration; leave it out"
            )
        return {name: checked[name] for name in self.names if name in checked}

    def next_open(self, config: Config) -> Dimension | None:
        """The first name that is active beside these values and has none yet; None at the end."""
        for p in self._order:
            for d in self._active_copies(p, config) if _active(p, config) else ():
                if d.name not in config:
                    return d
        return None

    def _active_copies(self, p: Parameter, config: Config) -> list[Dimension]:
        copies = self._copies[p.name]
        if p.per is None:
            return copies
        count = config.get(p.per, 0)
        assert isinstance(count, int)
        return copies[:count]

    def _in_dependency_order(self) -> tuple[Parameter, ...]:
        """Parameters so that each stands after those that its `when` and `per` name."""
        ordered: dict[str, Parameter] = {}
        for p in self.parameters:
            for name in [*p.when, *([p.per] if p.per else [])]:
                if name not in self._by_name:
                    raise SpecError(
                        f"space: {p.name} depends on {name!r}, which is not in the space; "
                        f"there are {', '.join(self._by_name)}"
                    )
                if self._by_name[name].per:
                    raise SpecError(
                        f"space: {p.name} depends on {name}, of which each layer has its own; "
                        f"let it depend on a parameter without `per`"
                    )
            if p.per and not _counts(self._by_name[p.per].domain):
                raise SpecError(
                    f"space: {p.name} has one value per {p.per}, so {p.per} needs to be a whole "
                    f"number of at least 1, got {self._by_name[p.per].domain}"
                )
        waiting = dict(self._by_name)
        while waiting:
            ready = [
                p
                for p in waiting.values()
                if all(name in ordered for name in [*p.when, *([p.per] if p.per else [])])
            ]
            if not ready:
                raise SpecError(
                    f"space: {', '.join(sorted(waiting))} depend on each other in a ring; "
                    f"take one `when` or `per` out"
                )
            for p in ready:
                ordered[p.name] = waiting.pop(p.name)
        return tuple(ordered.values())


def _copies(p: Parameter, by_name: Mapping[str, Parameter]) -> list[Dimension]:
    if p.per is None:
        return [Dimension(name=p.name, parameter=p)]
    count = by_name[p.per].domain
    most = int(count.value) if isinstance(count, Fixed) else getattr(count, "high", 1)
    return [Dimension(name=f"{p.name}_{i}", parameter=p, copy=i) for i in range(1, most + 1)]


def _active(p: Parameter, config: Mapping[str, Value]) -> bool:
    return all(name in config and config[name] in values for name, values in p.when.items())


def _counts(domain: Domain) -> bool:
    if isinstance(domain, Fixed):
        return isinstance(domain.value, int) and domain.value >= 1
    return isinstance(domain, Integer) and domain.low >= 1


def _whole(domain: Domain, value: Value) -> Value:
    """64.0 as 64 where a whole number is wanted: people and files write both."""
    if isinstance(domain, Integer) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
