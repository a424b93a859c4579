"""The search space: hyperparameters, their conditions, points and configurations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

import numpy as np

from orchestrator.errors import SpecError
from orchestrator.quote import join_names, quote
from orchestrator.space.constraints import Constraint, Kind, to_operand
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

#: Values that a configuration may have, one for each layer; some code calls itself for each value.
MAX_NAMES = 500
#: Inputs of the search's model: one for each number, and one for each option of a choice.
MAX_COLUMNS = 2_000
MAX_CONSTRAINTS = 100  #: constraints of one space


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A hyperparameter: its domain, its conditions, and whether each layer has its own value."""

    name: str
    domain: Domain
    #: other parameter -> values; the parameter is active only if each of these has such a value
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    #: name of an integer parameter n; the parameter has one value for each of 1 … n
    per: str | None = None
    start_at: Value | None = None  #: value that usually works; the search begins there

    def __post_init__(self) -> None:
        """Refuse a start value outside the domain."""
        if self.start_at is not None and not self.domain.contains(self.start_at):
            raise SpecError(f"start_at needs a value of {self.domain}, got {quote(self.start_at)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A coordinate of the cube: a searched parameter, or one layer's copy of it."""

    name: str  #: name in configurations and in the log: learning_rate, units_1
    parameter: Parameter
    copy: int = 0  #: number of the layer, from 1; 0 if the parameter has one value in all

    @property
    def domain(self) -> Real | Integer | Choice:
        """Domain of the parameter; a fixed parameter has no dimension."""
        assert not isinstance(self.parameter.domain, Fixed)
        return self.parameter.domain


class Space:
    """The hyperparameters of a search, in the order in which the spec lists them.

    Raises:
        SpecError: If a name occurs twice, if `when` or `per` names no parameter of the space, if
            parameters depend on each other in a ring, or if the space is too large.
    """

    def __init__(self, parameters: Iterable[Parameter], constraints: Iterable[str] = ()) -> None:
        self.parameters: tuple[Parameter, ...] = tuple(parameters)
        self._by_name = {p.name: p for p in self.parameters}
        if len(self._by_name) != len(self.parameters):
            raise SpecError("space: a parameter stands twice")
        self._order = self._sort_by_dependency()
        _check_size(self.parameters, self._by_name)
        self._copies = {p.name: _make_copies(p, self._by_name) for p in self.parameters}
        #: every name that a configuration may have, fixed ones included -> parameter and layer
        self.names = {d.name: d for copies in self._copies.values() for d in copies}
        if len(self.names) != sum(map(len, self._copies.values())):
            raise SpecError(
                "space: a per-layer copy (units_1, …) has the name of another parameter"
            )
        self.dimensions: tuple[Dimension, ...] = tuple(
            d for d in self.names.values() if not isinstance(d.parameter.domain, Fixed)
        )
        self.index: dict[str, int] = {d.name: i for i, d in enumerate(self.dimensions)}
        self._kinds = {name: _find_kind(d.parameter.domain) for name, d in self.names.items()}
        #: every configuration that is tried satisfies all of them
        self.constraints = self._parse_constraints(tuple(constraints))

    def _parse_constraints(self, texts: tuple[str, ...]) -> tuple[Constraint, ...]:
        if len(texts) > MAX_CONSTRAINTS:
            raise SpecError(
                f"constraints: needs at most {MAX_CONSTRAINTS}, got {len(texts):,}; "
                f"join several with `and`"
            )
        try:
            return tuple(Constraint.parse(text, kinds=self._kinds) for text in texts)
        except SpecError as e:
            raise SpecError(f"constraints: {e}") from e

    def __len__(self) -> int:
        return len(self.dimensions)

    @property
    def start_point(self) -> Point | None:
        """Point of the start values; 0.5 in other dimensions; None if there is no start value."""
        start = [d.parameter.start_at for d in self.dimensions]
        if all(value is None for value in start):
            return None
        coordinates = [
            0.5 if v is None else d.domain.to_unit(v)
            for d, v in zip(self.dimensions, start, strict=True)
        ]
        return np.array(coordinates)

    def to_config(self, point: Point) -> Config:
        """Convert a point of the cube to a configuration, without inactive hyperparameters."""
        assert point.shape == (len(self),)
        config: Config = {}
        coordinates: list[float] = point.tolist()  # a hundred times as fast as one by one
        for p in self._order:
            if p.when and not _is_active(p, config):
                continue
            domain = p.domain
            for d in self._active_copies(p, config):
                config[d.name] = (
                    domain.value
                    if isinstance(domain, Fixed)
                    else domain.from_unit(coordinates[self.index[d.name]])
                )
        return {name: config[name] for name in self.names if name in config}

    def to_point(self, config: Mapping[str, Value]) -> Point:
        """Convert a configuration to its point, shape (dimensions,); NaN where inactive."""
        return np.array(
            [
                d.domain.to_unit(config[d.name]) if d.name in config else math.nan
                for d in self.dimensions
            ]
        )

    def canonicalise(self, points: np.ndarray) -> np.ndarray:
        """Compute `to_point(to_config(p))` of many points at once, shape (n, dimensions).

        Integers and options move to the middle of their interval; inactive coordinates become NaN.
        """
        snapped = np.empty_like(points)
        active: dict[str, np.ndarray] = {}
        for p in self._order:
            on = np.ones(len(points), dtype=bool)
            for name, values in p.when.items():
                on &= active[name] & self._mask_value_among(name, values, snapped)
            active[p.name] = on
            for d in self._copies[p.name]:
                if (i := self.index.get(d.name)) is None:
                    continue
                snapped[:, i] = d.domain.snap(points[:, i])
                if p.when or p.per:
                    active_here = on & (
                        self._mask_at_least(p.per, d.copy, active, snapped) if p.per else True
                    )
                    snapped[~active_here, i] = np.nan
        return snapped

    def allowed_mask(self, points: np.ndarray) -> np.ndarray:
        """Mask of the canonical points that break no constraint, shape (n,)."""
        mask = np.ones(len(points), dtype=bool)
        for constraint in self.constraints:
            values = {name: self._read_values(name, points) for name in constraint.names}
            active = [
                ~np.isnan(points[:, self.index[name]])
                for name in constraint.names
                if name in self.index
            ]
            applies = np.logical_and.reduce(active) if active else np.True_
            mask &= ~applies | constraint.evaluate(values)
        return mask

    def satisfies_constraints(self, config: Config) -> bool:
        """Whether a configuration breaks no constraint."""
        return not self.constraints or bool(self.allowed_mask(self.to_point(config)[None])[0])

    def _read_values(self, name: str, points: np.ndarray) -> np.ndarray:
        domain = self.names[name].parameter.domain
        if isinstance(domain, Fixed):
            return to_operand([domain.value] * len(points), self._kinds[name])
        u = np.nan_to_num(points[:, self.index[name]])
        return to_operand([domain.from_unit(float(x)) for x in u], self._kinds[name])

    def project_config(self, config: Mapping[str, Value]) -> Config | None:
        """Convert a configuration of another space to this one; None if that is not possible.

        Hyperparameters that this space does not search are left out.
        """
        searched = {name: v for name, v in config.items() if name in self.index}
        try:
            projected = self.check_config(searched, source="")  # adds the fixed values
        except SpecError:
            return None
        return projected if self.satisfies_constraints(projected) else None

    def _mask_value_among(
        self, name: str, values: tuple[Value, ...], points: np.ndarray
    ) -> np.ndarray | bool:
        """Mask of the points where a parameter without copies, if active, has one of `values`."""
        domain = self._by_name[name].domain
        if isinstance(domain, Fixed):
            return domain.value in values
        u = np.nan_to_num(points[:, self.index[name]])
        if isinstance(domain, Choice):
            is_allowed = np.array([option in values for option in domain.options])
            return np.asarray(is_allowed[domain.to_indexes(u)])
        if isinstance(domain, Integer):
            return np.isin(domain.to_values(u), [float(v) for v in values if is_number(v)])
        return np.array([domain.from_unit(float(x)) in values for x in u], dtype=bool)

    def _mask_at_least(
        self, name: str, count: int, active: Mapping[str, np.ndarray], points: np.ndarray
    ) -> np.ndarray | bool:
        """Mask of the points at which the integer `name` is active and is at least `count`."""
        domain = self._by_name[name].domain
        if isinstance(domain, Fixed):
            return active[name] & (int(domain.value) >= count)
        assert isinstance(domain, Integer)
        enough = domain.to_values(np.nan_to_num(points[:, self.index[name]])) >= count
        return np.asarray(active[name] & enough)

    def check_config(self, config: Mapping[str, Value], *, source: str) -> Config:
        """Check a configuration written by a user, and complete it with the fixed values.

        Raises:
            SpecError: If a value is missing or not in its domain, or a name is not in this space.
        """
        if unknown := sorted(config.keys() - self.names.keys()):
            raise SpecError(
                f"{source}: no hyperparameter {quote(unknown[0])}; "
                f"there are {join_names(self.names)}"
            )
        completed: Config = {}
        for p in self._order:
            for d in self._active_copies(p, completed) if _is_active(p, completed) else ():
                completed[d.name] = _complete_value(d, config, source)
        if inactive := sorted(config.keys() - completed.keys()):
            raise SpecError(
                f"{source}: {inactive[0]} is not active in this configuration; leave it out"
            )
        return {name: completed[name] for name in self.names if name in completed}

    def find_next_open(self, config: Config) -> Dimension | None:
        """Find the first name that is active with these values and has no value yet, or None."""
        for p in self._order:
            for d in self._active_copies(p, config) if _is_active(p, config) else ():
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

    def _sort_by_dependency(self) -> tuple[Parameter, ...]:
        """Sort the parameters so that each comes after those that its `when` and `per` name."""
        for p in self.parameters:
            for name in _list_dependencies(p):
                if name not in self._by_name:
                    raise SpecError(
                        f"space: {p.name} depends on {quote(name)}, which is not in the space; "
                        f"there are {join_names(self._by_name)}"
                    )
                if self._by_name[name].per:
                    raise SpecError(
                        f"space: {p.name} depends on {name}, of which each layer has its own; "
                        f"let it depend on a parameter without `per`"
                    )
            if p.per and not _is_count(self._by_name[p.per].domain):
                raise SpecError(
                    f"space: {p.name} has one value per {p.per}, so {p.per} needs to be a whole "
                    f"number of at least 1, got {self._by_name[p.per].domain}"
                )
        sorter = TopologicalSorter({p.name: _list_dependencies(p) for p in self.parameters})
        try:
            sorter.prepare()
        except CycleError as e:
            raise SpecError(
                f"space: {join_names(sorted(set(e.args[1])))} depend on each other in a ring; "
                f"take one `when` or `per` out"
            ) from e
        place = {name: i for i, name in enumerate(self._by_name)}
        ordered: list[Parameter] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=place.__getitem__)
            ordered += [self._by_name[name] for name in ready]
            sorter.done(*ready)
        return tuple(ordered)


def _list_dependencies(p: Parameter) -> list[str]:
    return [*p.when, *([p.per] if p.per else [])]


def _check_size(parameters: Iterable[Parameter], by_name: Mapping[str, Parameter]) -> None:
    """Refuse a space that the search cannot handle, before its copies are made.

    Raises:
        SpecError: Naming the parameter with which a limit is passed.
    """
    names = columns = 0
    for p in parameters:
        copies = _count_copies(p, by_name)
        names += copies
        columns += copies * (len(p.domain.options) if isinstance(p.domain, Choice) else 1)
        if names > MAX_NAMES:
            raise SpecError(
                f"space.{p.name}: a configuration needs at most {MAX_NAMES} values, one for each "
                f"layer counted; got {names:,} up to here; search fewer, or fewer layers"
            )
        if columns > MAX_COLUMNS:
            raise SpecError(
                f"space.{p.name}: needs at most {MAX_COLUMNS:,} inputs of the search's model, one "
                f"for each number and for each option of a choice; got {columns:,} up to here; "
                f"write a range instead of a choice, such as {{int: [1, 100000]}}"
            )


def _find_kind(domain: Domain) -> Kind:
    """Return what constraints may do with a domain's values."""
    if isinstance(domain, Real | Integer):
        return "number"
    values = domain.options if isinstance(domain, Choice) else (domain.value,)
    texts = [isinstance(value, str) for value in values]
    return "text" if all(texts) else "mixed" if any(texts) else "number"


def _complete_value(d: Dimension, config: Mapping[str, Value], source: str) -> Value:
    """Return the value of a configuration, or the fixed value; refuse one outside the domain."""
    domain = d.parameter.domain
    if d.name not in config and not isinstance(domain, Fixed):
        raise SpecError(f"{source}: needs a value for {d.name} ({domain})")
    if d.name in config and not domain.contains(config[d.name]):
        raise SpecError(
            f"{source}: {d.name} needs a value in {domain}, got {quote(config[d.name])}"
        )
    return domain.value if isinstance(domain, Fixed) else _convert(domain, config[d.name])


def _make_copies(p: Parameter, by_name: Mapping[str, Parameter]) -> list[Dimension]:
    if p.per is None:
        return [Dimension(name=p.name, parameter=p)]
    layers = range(1, _count_copies(p, by_name) + 1)
    return [Dimension(name=f"{p.name}_{i}", parameter=p, copy=i) for i in layers]


def _count_copies(p: Parameter, by_name: Mapping[str, Parameter]) -> int:
    if p.per is None:
        return 1
    count = by_name[p.per].domain
    return int(count.value) if isinstance(count, Fixed) else getattr(count, "high", 1)


def _is_active(p: Parameter, config: Mapping[str, Value]) -> bool:
    return all(name in config and config[name] in values for name, values in p.when.items())


def _is_count(domain: Domain) -> bool:
    if isinstance(domain, Fixed):
        return type(domain.value) is int and domain.value >= 1  # True is an int too
    return isinstance(domain, Integer) and domain.low >= 1


def _convert(domain: Domain, value: Value) -> Value:
    """Convert 64.0 to 64 where an integer is needed: people and files write both."""
    if isinstance(domain, Integer) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
