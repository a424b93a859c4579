"""What makes a run this run, as a frozen value, and the YAML file it is read from and written to.

pydantic stands at the file's edge alone: it checks what a person wrote and builds the dataclasses.
Workers, address, budget and versions are not in here: they may differ when a run goes on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestrator.errors import SpecError
from orchestrator.rungs import geometric_rungs, wide_rungs
from orchestrator.space import Choice, Config, Domain, Fixed, Integer, Parameter, Real, Space, Value

__all__ = [
    "METHODS",
    "PRUNINGS",
    "SAMPLERS",
    "DataSpec",
    "Method",
    "SearchSpec",
    "Spec",
    "differences",
    "dump_spec",
    "load_spec",
    "parse_yaml",
    "read_yaml",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """Which data, and how it is split."""

    source: str  #: a built-in name or a path; where it lies may change, the fingerprint may not
    target: str | None = None  #: the column to predict; the last one unless named
    test: str | None = None  #: a file with a test set of its own
    task: str | None = None  #: classification | regression; guessed from the target unless named
    validation_share: float = 0.15
    test_share: float = 0.15  #: not used where the data brings its own test set
    fingerprint: str = ""  #: of the values read, whatever the path


MethodName = Literal[
    "caviar", "asha", "hyperband", "median", "random", "sobol", "grid", "finalists", "audit"
]
SamplerName = Literal["sobol", "random", "grid", "none"]
PruningName = Literal["shares", "asha", "hyperband", "median", "none"]
SAMPLERS, PRUNINGS = get_args(SamplerName), get_args(PruningName)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What a search method is made of."""

    sampler: SamplerName
    pruning: PruningName
    zooms: int = 0


#: By name; what stands beside `method` in a spec goes over what the method says.
METHODS: dict[MethodName, Method] = {
    "caviar": Method(sampler="sobol", pruning="shares", zooms=2),  # and a model: advisor.py
    "asha": Method(sampler="random", pruning="asha"),
    "hyperband": Method(sampler="random", pruning="hyperband"),
    "median": Method(sampler="random", pruning="median"),
    "random": Method(sampler="random", pruning="none"),
    "sobol": Method(sampler="sobol", pruning="none"),
    "grid": Method(sampler="grid", pruning="none"),
    "finalists": Method(sampler="none", pruning="none"),  # the given ones, by their means
    "audit": Method(sampler="none", pruning="none"),  # those that another run left behind
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """How the space is searched."""

    method: str = "caviar"  #: one of METHODS
    sampler: str = "sobol"  #: of the coarse stage: sobol | random | grid | none
    grid_levels: int = 3  #: values of each hyperparameter, for the grid
    pruning: str = "shares"  #: shares | asha | hyperband | median | none
    eta: int = 3  #: about 1/eta of a rung goes on, with asha and hyperband
    rungs: tuple[int, ...] = (1, 4, 10, 27)  #: epochs to compare at; the last is max_epochs
    coarse_share: float = 0.4  #: of the budget, for the whole space; the zooms share the rest
    zooms: int = 2  #: boxes of the fine stage; 0 = coarse only
    given: tuple[Config, ...] = ()  #: configurations to try first
    given_seeds: tuple[int, ...] = ()  #: of their random numbers, in order; drawn where missing
    audit: float = 0.0  #: share of the epochs for training on what pruning left behind
    explode_above: float = 1e4  #: a train_loss beyond it counts as diverged
    retries: int = 2  #: of an assignment whose worker was lost
    state_budget_bytes: int = 2_000_000_000  #: for the states of trials that wait
    deterministic: bool = False  #: whether results are taken in by assignment, not by arrival
    width: int = 8  #: assignments that are out at a time, where they are


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All that makes a run this run."""

    data: DataSpec
    trainer: str  #: import path, package.module:Class
    metric: (
        str | None
    )  #: the one that decides; the trainer's first one that has a goal, unless named
    seed: int
    max_epochs: int
    space: Mapping[str, Any]  #: as written; `parameters` is what it means
    constraints: tuple[str, ...] = ()  #: what no configuration breaks: `units_2 <= units_1`
    modules: str | None = None  #: the folder with a user's own trainer; it may move
    parent_run: str | None = None  #: the run whose configurations these are; it may move
    search: SearchSpec = field(default_factory=SearchSpec)

    def parameters(self) -> Space:
        """The space, ready to draw from."""
        parameters = [_parameter(name, domain) for name, domain in self.space.items()]
        return Space(parameters, self.constraints)


# ---------------------------------------------------------------------- the file's edge


class _Loader(yaml.SafeLoader):
    """YAML as people write it: 1e-4 is a number, and a key that stands twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise SpecError(
                    f"{self.name}, line {node.value[i][0].start_mark.line + 1}: "
                    f"{key!r} stands twice; take one out"
                )
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would take for a number."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),  # YAML 1.1 wants a dot in 1.0e-4
        list("-+.0123456789"),
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        SpecError: If there is no such file, or no mapping in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise SpecError(f"--spec needs a file that can be read, got {path}: {e.strerror}") from e
    except UnicodeDecodeError as e:
        raise SpecError(f"{path}: needs to be text in UTF-8, got other bytes") from e
    return parse_yaml(text, source=str(path))


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """The mapping in a YAML text.

    Raises:
        SpecError: If it is not YAML, or no mapping, or a key stands twice.
    """
    try:
        loader = _Loader(text)
        loader.name = source
        content = loader.get_single_data()
    except yaml.YAMLError as e:
        raise SpecError(f"{source}: not YAML: {' '.join(str(e).split())}") from e
    if content is None:
        return {}  # nothing but comments: the defaults
    if not isinstance(content, dict):
        raise SpecError(f"{source}: needs a mapping such as `max_epochs: 27`, got {content!r}")
    return content


def _size(value: object) -> object:
    """'2 GB' as bytes."""
    match = (
        re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?)b\s*", value.lower())
        if isinstance(value, str)
        else None
    )
    if match is None:
        return value
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2] or " "))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _DataModel(_Strict):
    source: str
    target: str | None = None
    test: str | None = None
    task: Literal["classification", "regression"] | None = None
    validation_share: float = Field(0.15, gt=0, lt=1)
    test_share: float = Field(0.15, gt=0, lt=1)
    fingerprint: str = ""


_Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _SearchModel(_Strict):
    method: MethodName = "caviar"
    sampler: SamplerName | None = None  # the method's
    grid_levels: int = Field(3, ge=1)
    pruning: PruningName | None = None  # the method's
    eta: int = Field(3, ge=2)
    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...] | None, Field(strict=False)] = (
        None  # what suits the pruning
    )
    coarse_share: float = Field(0.4, gt=0, le=1)
    zooms: int | None = Field(None, ge=0)  # the method's
    given: Annotated[tuple[dict[str, bool | int | float | str], ...], Field(strict=False)] = ()
    given_seeds: Annotated[tuple[_Seed, ...], Field(strict=False)] = ()
    audit: float = Field(0.0, ge=0, le=0.5)
    explode_above: float = Field(1e4, gt=0)
    retries: int = Field(2, ge=0)
    state_budget: Annotated[int, BeforeValidator(_size), Field(ge=0)] = 2_000_000_000
    deterministic: bool = False
    width: int = Field(8, ge=1)


class _SpecModel(_Strict):
    data: _DataModel
    trainer: str = Field(pattern=r"^[\w.]+:\w+$")
    metric: str | None = None
    seed: _Seed = 0
    max_epochs: int = Field(27, ge=1)
    space: dict[str, Any]
    constraints: Annotated[tuple[str, ...], Field(strict=False)] = ()
    modules: str | None = None
    parent_run: str | None = None
    search: _SearchModel


def load_spec(content: Mapping[str, Any], *, source: str) -> Spec:
    """Check a spec's mapping and build the value.

    Args:
        content: As read from YAML, defaults filled in.
        source: Where it came from, for the messages.

    Raises:
        SpecError: What is wrong, where, and what to type instead; one line.
    """
    try:
        model = _SpecModel.model_validate(content)
    except ValidationError as e:
        raise SpecError(f"{source}: {_told(e)}") from e
    search = _resolved(model.search, max_epochs=model.max_epochs, source=source)
    spec = Spec(
        data=DataSpec(**model.data.model_dump()),
        trainer=model.trainer,
        metric=model.metric,
        seed=model.seed,
        max_epochs=model.max_epochs,
        space=model.space,
        constraints=model.constraints,
        modules=model.modules,
        parent_run=model.parent_run,
        search=SearchSpec(state_budget_bytes=search.pop("state_budget"), **search),
    )
    try:
        space = spec.parameters()
        for config in spec.search.given:
            if not space.allows(space.check(config, source="search.given")):
                raise SpecError(f"search.given: {dict(config)} breaks one of the constraints")
    except SpecError as e:
        raise SpecError(f"{source}: {e}") from e
    return spec


def _resolved(model: _SearchModel, *, max_epochs: int, source: str) -> dict[str, Any]:
    """What the method decides, where the spec does not."""
    search = model.model_dump()
    method = METHODS[model.method]
    for name in ("sampler", "pruning", "zooms"):
        if search[name] is None:
            search[name] = getattr(method, name)
    if search["pruning"] == "shares" and model.method != "caviar":
        raise SpecError(
            f"{source}: search.pruning: shares asks the model of method: caviar, "
            f"got method: {model.method}; write method: caviar, or another pruning"
        )
    if search["rungs"] is None:
        search["rungs"] = (
            wide_rungs(max_epochs)
            if search["pruning"] == "shares"
            else geometric_rungs(max_epochs=max_epochs, eta=model.eta)
        )
    rungs = search["rungs"]
    if not rungs or list(rungs) != sorted(set(rungs)) or rungs[-1] != max_epochs:
        raise SpecError(
            f"{source}: search.rungs needs a rising list of epochs that ends at max_epochs = "
            f"{max_epochs}, got {list(rungs)}"
        )
    return search


def dump_spec(spec: Spec) -> str:
    """The YAML text of a spec, defaults written out; `load_spec` gives back the same value."""
    content = asdict(spec)
    search = content["search"]
    search["state_budget"] = search.pop("state_budget_bytes")
    search |= {name: list(search[name]) for name in ("rungs", "given", "given_seeds")}
    content["constraints"] = list(content["constraints"])
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def differences(old: Spec, new: Spec) -> list[str]:
    """What differs between two specs, as `path: old -> new`; where the data lies does not count."""
    a, b = _flat(asdict(old)), _flat(asdict(new))
    told = [
        f"{key}: {a.get(key, 'not set')} -> {b.get(key, 'not set')}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key) and key not in _MOVING
    ]
    if told:
        return told
    # what is left: 1, 1.0 and true are equal but make other columns, another order other draws
    pairs = zip(old.space.items(), new.space.items(), strict=True)
    return [
        f"space.{name}: {written!r} -> {other}: {others!r}"
        for (name, written), (other, others) in pairs
        if repr(_parameter(name, written)) != repr(_parameter(other, others))
    ]


#: Where things lie does not make another run of it.
_MOVING = ("data.source", "data.test", "modules", "parent_run")


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _told(error: ValidationError) -> str:
    """The first of pydantic's findings in one line of ours."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        close = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"unknown key {where!r}{hint} There are {', '.join(known)}".replace("' T", "'. T")
    if first["type"] == "missing":
        return f"needs a value for {where}"
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    models: dict[tuple[int | str, ...], type[BaseModel]] = {
        (): _SpecModel,
        ("data",): _DataModel,
        ("search",): _SearchModel,
    }
    return list(models[path].model_fields)


# ---------------------------------------------------------------------- one hyperparameter


class _Range:
    """The kinds of domain a spec can name, and what each is built from."""

    NUMBERS: ClassVar[dict[str, tuple[type[Real] | type[Integer], str]]] = {
        "linear": (Real, "linear"),
        "log": (Real, "log"),
        "reverse_log": (Real, "reverse_log"),
        "int": (Integer, "linear"),
        "int_log2": (Integer, "log2"),
    }
    KINDS = (*NUMBERS, "choice", "fixed")


_KEYS = (*_Range.KINDS, "when", "per", "usual")  #: of one hyperparameter in a spec


def _parameter(name: str, written: object) -> Parameter:
    """`learning_rate: {log: [1e-4, 1]}` as a parameter."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise SpecError(f"space: a name needs letters, digits and _, got {name!r}")
    if _is_value(written):
        return Parameter(name=name, domain=Fixed(value=written))  # type: ignore[arg-type] # is one
    example = f"write for example `{name}: {{log: [1e-4, 1e-1]}}`"
    if not isinstance(written, Mapping):
        raise SpecError(f"space.{name}: needs a value or a range, got {written!r}; {example}")
    kinds = [key for key in written if key in _Range.KINDS]
    if extra := [key for key in written if key not in _KEYS]:
        close = difflib.get_close_matches(str(extra[0]), _KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_Range.KINDS)}"
        raise SpecError(f"space.{name}: unknown key {extra[0]!r}; {hint}")
    if len(kinds) != 1:
        raise SpecError(
            f"space.{name}: needs exactly one of {', '.join(_Range.KINDS)}, "
            f"got {', '.join(kinds) or 'none'}; {example}"
        )
    per = written.get("per")
    if per is not None and not isinstance(per, str):
        raise SpecError(f"space.{name}: per needs the name of a whole number, got {per!r}")
    try:
        domain = _domain(kinds[0], written[kinds[0]])
    except SpecError as e:
        raise SpecError(f"space.{name}: {e}") from e
    when = _when(name, written.get("when", {}))
    try:
        return Parameter(name=name, domain=domain, when=when, per=per, usual=written.get("usual"))
    except SpecError as e:
        raise SpecError(f"space.{name}: {e}") from e


def _domain(kind: str, written: object) -> Domain:
    if kind == "fixed":
        if not _is_value(written):
            raise SpecError(f"fixed needs one value, got {written!r}")
        return Fixed(value=written)  # type: ignore[arg-type] # checked the line before
    if kind == "choice":
        if not isinstance(written, list) or not all(map(_is_value, written)):
            raise SpecError(f"choice needs a list of values, got {written!r}")
        if {type(v) for v in written} == {int, float}:
            written = [float(v) for v in written]  # [0, 0.1] are two numbers of one kind
        return Choice(options=tuple(written))
    if not isinstance(written, list) or len(written) != 2:
        raise SpecError(f"{kind} needs [low, high], got {written!r}")
    low, high = written
    build, scale = _Range.NUMBERS[kind]
    whole = build is Integer
    for bound in (low, high):
        if isinstance(bound, bool) or not isinstance(bound, int if whole else int | float):
            raise SpecError(f"{kind} needs two {'whole ' * whole}numbers, got {written!r}")
    if whole:
        return Integer(low=low, high=high, scale=scale)  # type: ignore[arg-type] # from the table
    return Real(low=float(low), high=float(high), scale=scale)  # type: ignore[arg-type] # same


def _when(name: str, written: object) -> dict[str, tuple[Value, ...]]:
    if not isinstance(written, Mapping):
        raise SpecError(f"space.{name}: when needs `{{optimizer: adam}}`, got {written!r}")
    return {
        str(other): tuple(values) if isinstance(values, list) else (values,)
        for other, values in written.items()
    }


def _is_value(written: object) -> bool:
    return isinstance(written, bool | int | float | str)
