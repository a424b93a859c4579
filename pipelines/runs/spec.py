"""What makes a run this run, as a frozen value, and how it is checked and written out.

Each field is declared once, in a dataclass, with its limits and its default. pydantic stands at the
file's edge alone: the model that checks what a person wrote is built from the dataclass.
Workers, address, budget and versions are not in here: they may differ when a run goes on.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import PydanticCustomError

from orchestrator.errors import SpecError
from orchestrator.quote import quote
from orchestrator.search.methods import METHODS
from orchestrator.search.pruning import PRUNINGS
from orchestrator.search.rungs import geometric_rungs, wide_rungs
from orchestrator.search.samplers import SAMPLERS
from orchestrator.search.spec import ChosenByMethod, InBytes, RegisteredName, SearchSpec, Seed
from orchestrator.space.parse import OLD_KEYS, parse_parameter
from orchestrator.space.space import Space
from pipelines.runs.plain_content import copy_content
from pipelines.runs.spec_errors import describe_spec_error, name_place
from pipelines.runs.yaml_text import dump_yaml

__all__ = [
    "DataSpec",
    "Spec",
    "TaskName",
    "compare_specs",
    "dump_spec",
    "list_old_names",
    "load_spec",
]

TaskName = Literal["classification", "regression"]

MAX_EPOCHS = 1_000_000_000  #: epochs of one trial

Name = Annotated[str, MaxLen(500)]  #: a name that messages quote whole
Share = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSpec:
    """Which data, and how it is split."""

    #: name of a built-in data set, or a path; the path may change, the fingerprint may not
    source: str
    #: the column to predict; None = the last one
    target: Name | None = None
    #: a file with a separate test set
    test: str | None = None
    #: what the target is; None = guessed from its values
    task: TaskName | None = None
    #: share of the rows that scores each epoch
    validation_share: Share = 0.15
    #: share of the rows for the final test; not used with a separate test set
    test_share: Share = 0.15
    #: hash of the values that were read, whatever the path
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All that makes a run this run."""

    data: DataSpec
    #: import path of the trainer's class, package.module:Class
    trainer: Annotated[Name, Field(pattern=r"^[\w.]+:\w+$")]
    #: the metric that decides; None = the trainer's first one that has a goal
    metric: Name | None = None
    #: the same seed gives the same draws
    seed: Seed = 0
    #: the most epochs of one trial
    max_epochs: Annotated[int, Ge(1), Le(MAX_EPOCHS)] = 27
    #: the hyperparameters as written; `parameters` is what they mean
    space: Mapping[str, Any]
    #: conditions that every configuration fulfils, such as `units_2 <= units_1`
    constraints: tuple[str, ...] = ()
    #: the folder with a user's trainer; it may move
    modules: str | None = None
    #: the run whose configurations are trained again here; it may move
    parent_run: str | None = None
    search: SearchSpec = field(default_factory=SearchSpec)

    def parameters(self) -> Space:
        """The space, ready to draw from."""
        parameters = [parse_parameter(name, domain) for name, domain in self.space.items()]
        return Space(parameters, self.constraints)


# ---------------------------------------------------------------------- what a person wrote

#: Keys of `search` in version 0.1, and their names now.
_OLD_NAMES = {"given": "initial_configs", "given_seeds": "initial_seeds", "width": "max_in_flight"}


def list_old_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    """A sentence for each key of a spec that is written under its name of version 0.1."""
    search, space = _section(content, "search"), _section(content, "space")
    renamed = [(f"search.{old}", new) for old, new in _OLD_NAMES.items() if old in search]
    renamed += [
        (f"space.{name}.{old}", new)
        for name, written in space.items()
        for old, new in OLD_KEYS.items()
        if isinstance(written, Mapping) and old in written
    ]
    return tuple(f"{old} is called {new} now; the old name still works" for old, new in renamed)


def _section(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = content.get(name)
    return section if isinstance(section, Mapping) else {}


def load_spec(content: Mapping[str, Any], *, source: str) -> Spec:
    """Check a spec's mapping and build the value.

    Args:
        content: The mapping as read from YAML; what is missing has its default.
        source: Where it came from, for the messages.

    Raises:
        SpecError: What is wrong, where, and what to type instead; one line.
    """
    try:
        plain = copy_content(content, source=source)
        checked = _make_model(Spec).model_validate(_with_new_names(plain)).model_dump()
    except ValidationError as e:
        raise SpecError(f"{source}: {_describe(e)}") from e
    try:
        checked["search"] = _resolve(checked["search"], max_epochs=checked["max_epochs"])
        spec = Spec(**checked | {"data": DataSpec(**checked["data"])})
        space = spec.parameters()
        for config in spec.search.initial_configs:
            if not space.satisfies_constraints(
                space.check_config(config, source="search.initial_configs")
            ):
                raise SpecError(
                    f"search.initial_configs: {quote(config)} breaks one of the constraints"
                )
    except SpecError as e:
        raise SpecError(f"{source}: {e}") from e
    return spec


def _with_new_names(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content with the keys of version 0.1 under their names of today."""
    search = content.get("search")
    if not isinstance(search, Mapping):
        return content
    return {**content, "search": {_OLD_NAMES.get(key, key): search[key] for key in search}}


def _resolve(search: dict[str, Any], *, max_epochs: int) -> SearchSpec:
    """The search section with what the method decides where the spec does not."""
    method = METHODS[search["method"]]
    for name in ("sampler", "pruning", "zooms"):
        if search[name] is None:
            search[name] = getattr(method, f"default_{name}")
    if search["pruning"] == "shares" and search["method"] != "caviar":
        raise SpecError(
            f"search.pruning: shares asks the model of method: caviar, "
            f"got method: {quote(search['method'])}; write method: caviar, or another pruning"
        )
    if search["rungs"] is None:
        search["rungs"] = (
            wide_rungs(max_epochs)
            if search["pruning"] == "shares"
            else geometric_rungs(max_epochs=max_epochs, eta=search["eta"])
        )
    rungs = search["rungs"]
    if not rungs or list(rungs) != sorted(set(rungs)) or rungs[-1] != max_epochs:
        raise SpecError(
            f"search.rungs needs a rising list of epochs that ends at max_epochs = "
            f"{max_epochs}, got {quote(list(rungs))}"
        )
    return SearchSpec(**search)


# ---------------------------------------------------------------------- pydantic's models


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@cache
def _make_model(kind: type) -> type[BaseModel]:
    """Make the strict model that checks the fields of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {
        f.name: _make_field(hints[f.name], f) for f in dataclasses.fields(kind)
    }
    return create_model(kind.__name__, __base__=_Strict, **fields)


def _make_field(hint: Any, declared: dataclasses.Field[Any]) -> tuple[Any, Any]:
    """The type that a file may give for a field, and the default where the file omits it."""
    default = ... if declared.default is dataclasses.MISSING else declared.default
    if dataclasses.is_dataclass(hint):
        model = _make_model(hint)  # type: ignore[arg-type] # a class, not a value of it
        required = declared.default_factory is dataclasses.MISSING
        return model, ... if required else Field(default_factory=model)
    markers = getattr(hint, "__metadata__", ())
    if InBytes() in markers:
        hint = Annotated[hint, BeforeValidator(_parse_size)]
    if RegisteredName() in markers:
        hint = Annotated[hint, AfterValidator(_refuse_unknown(_REGISTRIES[declared.name]))]
    if get_origin(get_args(hint)[0] if markers else hint) is tuple:
        hint = Annotated[hint, Field(strict=False)]  # YAML has lists alone
    return (hint | None, None) if ChosenByMethod() in markers else (hint, default)


#: The names that a field marked as a RegisteredName may have.
_REGISTRIES: dict[str, Collection[str]] = {
    "method": METHODS,
    "sampler": SAMPLERS,
    "pruning": PRUNINGS,
}


def _refuse_unknown(names: Collection[str]) -> Callable[[str], str]:
    """A check that a text is one of the names."""

    def check(name: str) -> str:
        if name not in names:
            raise PydanticCustomError("one_of", "{names}", {"names": " | ".join(names)})
        return name

    return check


def _parse_size(written: object) -> object:
    """The bytes of a text such as "2 GB"; anything else as it is."""
    if not isinstance(written, str):
        return written
    number = r"\d{1,15}(?:\.\d{1,15})?"
    match = re.fullmatch(rf"\s*({number})\s*([kmgt]?)b\s*", written.lower(), re.ASCII)
    if match is None:
        raise PydanticCustomError("size", "needs a number of bytes")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2] or " "))


def _describe(error: ValidationError) -> str:
    """Write the first error that pydantic found as one line."""
    first = error.errors()[0]
    where = name_place(first["loc"])
    if first["type"] == "extra_forbidden":
        sections: dict[tuple[int | str, ...], type] = {("data",): DataSpec, ("search",): SearchSpec}
        names = [f.name for f in dataclasses.fields(sections.get(first["loc"][:-1], Spec))]
        close = difflib.get_close_matches(str(first["loc"][-1]), names, n=1)
        hint = f"did you mean {close[0]}? There" if close else "there"
        return f"unknown key {quote(where)}; {hint} are {', '.join(names)}"
    if first["type"] == "missing":
        return f"needs a value for {where}"
    return describe_spec_error(first)


# ---------------------------------------------------------------------- written out, compared


def dump_spec(spec: Spec) -> str:
    """The YAML text of a spec, defaults written out; `load_spec` gives back the same value.

    Raises:
        SpecError: If the text could not be read again, for example because a path or the name of a
            column holds a control character, or there are too many configurations.
    """
    return dump_yaml(copy_content(asdict(spec), source="the spec of this run"))


def compare_specs(old: Spec, new: Spec) -> list[str]:
    """List the differences of two specs as `path: old -> new`; places of files do not count."""
    a, b = _flatten(asdict(old)), _flatten(asdict(new))
    changes = [
        f"{key}: {a.get(key, 'not set')} -> {b.get(key, 'not set')}"
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key) and key not in _MOVING
    ]
    if changes:
        return changes
    # what is left: 1, 1.0 and true are equal but make other columns, another order other draws
    pairs = zip(old.space.items(), new.space.items(), strict=True)
    return [
        f"space.{name}: {written!r} -> {other}: {others!r}"
        for (name, written), (other, others) in pairs
        if repr(parse_parameter(name, written)) != repr(parse_parameter(other, others))
    ]


#: Keys that name places of files: another place does not make another run.
_MOVING = ("data.source", "data.test", "modules", "parent_run")


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat
