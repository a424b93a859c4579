"""What makes a run this run, as a frozen value, and the YAML file it is read from and written to.

pydantic stands at the file's edge alone: it checks what a person wrote and builds the dataclasses.
Workers, address, budget and versions are not in here: they may differ when a run goes on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from orchestrator.errors import SpecError
from orchestrator.search.methods import METHODS
from orchestrator.search.pruning import PRUNINGS
from orchestrator.search.rungs import geometric_rungs, wide_rungs
from orchestrator.search.samplers import SAMPLERS
from orchestrator.search.spec import SearchSpec
from orchestrator.space.parse import parse_parameter
from orchestrator.space.space import Space

__all__ = [
    "DataSpec",
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
        parameters = [parse_parameter(name, domain) for name, domain in self.space.items()]
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


def _one_of(names: Collection[str]) -> AfterValidator:
    """Refuse a text that is not one of the names."""

    def check(value: str) -> str:
        if value not in names:
            listed = ", ".join(map(repr, names))
            raise PydanticCustomError("one_of", f"input should be one of {listed}")
        return value

    return AfterValidator(check)


_MethodName = Annotated[str, _one_of(METHODS)]
_SamplerName = Annotated[str, _one_of(SAMPLERS)]
_PruningName = Annotated[str, _one_of(PRUNINGS)]


class _SearchModel(_Strict):
    method: _MethodName = "caviar"
    sampler: _SamplerName | None = None  # the method's
    grid_levels: int = Field(3, ge=1)
    pruning: _PruningName | None = None  # the method's
    eta: int = Field(3, ge=2)
    rungs: Annotated[tuple[Annotated[int, Field(ge=1)], ...] | None, Field(strict=False)] = (
        None  # what suits the pruning
    )
    coarse_share: float = Field(0.4, gt=0, le=1)
    zooms: int | None = Field(None, ge=0)  # the method's
    initial_configs: Annotated[
        tuple[dict[str, bool | int | float | str], ...], Field(strict=False)
    ] = ()
    initial_seeds: Annotated[tuple[_Seed, ...], Field(strict=False)] = ()
    audit: float = Field(0.0, ge=0, le=0.5)
    explode_above: float = Field(1e4, gt=0)
    retries: int = Field(2, ge=0)
    state_budget: Annotated[int, BeforeValidator(_size), Field(ge=0)] = 2_000_000_000
    deterministic: bool = False
    max_in_flight: int = Field(8, ge=1)


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
    content = _with_present_names(content)
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
        for config in spec.search.initial_configs:
            if not space.satisfies_constraints(
                space.check_config(config, source="search.initial_configs")
            ):
                raise SpecError(
                    f"search.initial_configs: {dict(config)} breaks one of the constraints"
                )
    except SpecError as e:
        raise SpecError(f"{source}: {e}") from e
    return spec


#: Keys of `search` in version 0.1 that have another name now.
_OLD_NAMES = {"given": "initial_configs", "given_seeds": "initial_seeds", "width": "max_in_flight"}


def _with_present_names(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content with the keys that version 0.1 knew by another name."""
    search = content.get("search")
    if not isinstance(search, Mapping) or not search.keys() & _OLD_NAMES.keys():
        return content
    return {**content, "search": {_OLD_NAMES.get(key, key): search[key] for key in search}}


def _resolved(model: _SearchModel, *, max_epochs: int, source: str) -> dict[str, Any]:
    """What the method decides, where the spec does not."""
    search = model.model_dump()
    method = METHODS[model.method]
    for name in ("sampler", "pruning", "zooms"):
        if search[name] is None:
            search[name] = getattr(method, f"default_{name}")
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
    search |= {name: list(search[name]) for name in ("rungs", "initial_configs", "initial_seeds")}
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
        if repr(parse_parameter(name, written)) != repr(parse_parameter(other, others))
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
