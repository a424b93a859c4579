"""The spec of a new run: the default space, then a user's spec, then what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from orchestrator.errors import SpecError
from orchestrator.quote import quote, shorten
from orchestrator.runtime.trainer import choose_objective
from orchestrator.search.samplers.random import Random
from pipelines.data.builtin_trainers import BUILTIN_TRAINERS, is_builtin_trainer
from pipelines.data.datasets import BUILT_IN, read_table
from pipelines.data.prepare import PreparedData
from pipelines.runs.from_spec import prepare_spec_table
from pipelines.runs.plain_content import copy_content
from pipelines.runs.spec import Spec, TaskName, list_old_names, load_spec
from pipelines.runs.trust import check_trust, load_spec_trainer
from pipelines.runs.warm_start import select_warm_start
from pipelines.runs.yaml_text import parse_yaml, read_yaml
from trainers.errors import ConfigError
from trainers.training.settings import read_settings

__all__ = [
    "SearchRequest",
    "WrittenSpec",
    "list_spec_notes",
    "load_space_spec",
    "new_spec",
    "validate_before_start",
]

#: A user's spec: a YAML file, its content, or none.
WrittenSpec = Path | Mapping[str, Any] | None
MAX_MESSAGE = 600  #: characters of a trainer's message that are shown
TRIED = 64  #: draws checked for values that the trainer would refuse; every option is among them
#: Draws checked for constraints, and how many have to fulfil them. A search that draws by trial and
#: error takes 40 us for each try: 40 ms for a configuration if 1 of 1,000 fulfils the constraints.
DRAWN, FULFILLING = 4_096, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What a user asks of a new run; None = what the spec says, or the default."""

    #: name of a built-in data set, or a path
    source: str
    #: a YAML file or its content, with what differs from the defaults
    spec: WrittenSpec = None
    #: the column to predict
    target: str | None = None
    #: a file with a separate test set
    test: str | None = None
    #: classification | regression
    task: str | None = None
    #: the metric that decides
    metric: str | None = None
    #: the same seed gives the same draws
    seed: int | None = None
    #: the most epochs of one trial
    max_epochs: int | None = None
    #: whether the same seed gives the same run with any number of workers
    deterministic: bool = False
    #: share of the epochs for trials that pruning left behind
    audit: float | None = None
    #: runs whose best configurations are tried first, after those of the spec
    like: Sequence[Path] = ()
    #: whether the user allows the code of the spec's trainer
    trust_trainer: bool = False


def new_spec(request: SearchRequest) -> tuple[Spec, PreparedData]:
    """The spec of a run, and its data; what the request names goes over what its spec says.

    Raises:
        InputError: If any of it is wrong; nothing has been written.
    """
    spec = request.spec
    content, has_trainer = _merge(spec)
    _override(content, metric=request.metric, seed=request.seed, max_epochs=request.max_epochs)
    _override(content["search"], deterministic=request.deterministic or None, audit=request.audit)
    test = request.test and _make_absolute(request.test)
    _override(content["data"], target=request.target, task=request.task, test=test)
    content["data"]["source"] = _make_absolute(request.source)
    checked = _add_warm_start(_check(content, spec), request.like)
    check_trust(checked, granted=request.trust_trainer)
    table = read_table(request.source, target=checked.data.target, test=checked.data.test)
    ready = prepare_spec_table(checked, table)
    data = replace(
        checked.data,
        target=table.target_name,
        task=cast(TaskName, ready.task),
        fingerprint=ready.fingerprint,
    )
    trainer = checked.trainer if has_trainer else BUILTIN_TRAINERS[ready.task]
    full = replace(checked, trainer=trainer, data=data)
    objective = choose_objective(load_spec_trainer(full)[0], full.metric)
    full = replace(full, metric=objective.metric.removeprefix("validation_"))
    return full, replace(ready, notes=(*list_spec_notes(spec), *ready.notes))


def validate_before_start(request: SearchRequest) -> None:
    """Check what can be checked before Ray is started and the data is read.

    Raises:
        InputError: If the source is not there, or the spec cannot be.
    """
    check_trust(load_space_spec(request.spec, seed=None), granted=request.trust_trainer)
    if request.source not in BUILT_IN and not Path(request.source).exists():
        read_table(request.source)


def load_space_spec(spec: WrittenSpec, *, seed: int | None) -> Spec:
    """A spec without data, for a look at its space."""
    content, _ = _merge(spec)
    _override(content, seed=seed)
    content["data"]["source"] = "none"
    return _check(content, spec)


def list_spec_notes(spec: WrittenSpec) -> tuple[str, ...]:
    """What a person should know about how a spec is written, in sentences."""
    return tuple(f"{_name_source(spec)}: {note}" for note in list_old_names(_read(spec)))


def _merge(spec: WrittenSpec) -> tuple[dict[str, Any], bool]:
    """The content of a user's spec over the defaults, and whether it names a trainer."""
    written = _read(spec)
    has_trainer = "trainer" in written
    sections: dict[str, Any] = {"data": {}, "search": {}, "space": {}}
    if not has_trainer:  # the default space is the built-in trainer's
        default = files("pipelines.runs").joinpath("default.yaml").read_text(encoding="utf-8")
        sections |= parse_yaml(default, source="default.yaml")
    for name in sections:
        section = written.pop(name, {})
        if not isinstance(section, Mapping):
            raise SpecError(f"{_name_source(spec)}: {name} needs a mapping, got {quote(section)}")
        if name == "space":
            section = {n: _inherit(sections[name].get(n), new) for n, new in section.items()}
        sections[name] |= section
    content = {"trainer": BUILTIN_TRAINERS["classification"], **sections, **written}
    if has_trainer and not is_builtin_trainer(content["trainer"]):
        folder = spec.absolute().parent if isinstance(spec, Path) else Path.cwd()
        content.setdefault("modules", str(folder))
    return content, has_trainer


def _read(spec: WrittenSpec) -> dict[str, Any]:
    if isinstance(spec, Path):
        return read_yaml(spec)
    return {} if spec is None else copy_content(spec, source=_name_source(spec))


def _name_source(spec: WrittenSpec) -> str:
    """Where a spec's mistakes are, for a message."""
    return str(spec) if isinstance(spec, Path) else "the command line" if spec is None else "spec"


def _inherit(default: object, new: object) -> object:
    """A new range with the default's `per` and `when`, unless it has one of them itself."""
    if not isinstance(default, Mapping):
        return new
    inherited = {key: default[key] for key in ("when", "per") if key in default}
    if not inherited or (isinstance(new, Mapping) and new.keys() & {"when", "per"}):
        return new
    return {**inherited, **(new if isinstance(new, Mapping) else {"fixed": new})}


def _override(content: dict[str, Any], **typed: object) -> None:
    """Put what was typed over what the spec says."""
    content |= {key: value for key, value in typed.items() if value is not None}


def _check(content: dict[str, Any], spec: WrittenSpec) -> Spec:
    checked = load_spec(content, source=_name_source(spec))
    if is_builtin_trainer(checked.trainer):
        _try_draws(checked, _name_source(spec))
    _check_constraints(checked, _name_source(spec))
    return checked


def _try_draws(spec: Spec, source: str) -> None:
    """Refuse now what the built-in trainer does not know, instead of by failing trials later."""
    space = spec.parameters()
    sampler = Random(space, seed=0)
    for draw in range(TRIED):
        try:
            read_settings(space.to_config(sampler.draw_point(draw)))
        except ConfigError as e:
            raise SpecError(f"{source}: space: {shorten(str(e), MAX_MESSAGE)}") from e


def _check_constraints(spec: Spec, source: str) -> None:
    """Refuse constraints that nothing or nearly nothing fulfils: drawing would take for ever.

    A grid is not tried: of its few values, all may fulfil `a == b`, which no random draw fulfils.
    """
    space = spec.parameters()
    if not space.constraints or spec.search.sampler in ("grid", "none"):
        return
    sampler = Random(space, seed=0)
    points = space.canonicalise(np.array([sampler.draw_point(i) for i in range(DRAWN)]))
    count = int(space.allowed_mask(points).sum())
    if count < FULFILLING:
        texts = " | ".join(quote(c.text) for c in islice(space.constraints, 3))
        raise SpecError(
            f"{source}: constraints: {count} of {DRAWN:,} draws fulfil {texts}, "
            f"at least {FULFILLING} are needed; make them wider, or search narrower ranges"
        )


def _add_warm_start(spec: Spec, like: Sequence[Path]) -> Spec:
    """The spec with the best configurations of other runs after its initial ones."""
    if not like:
        return spec
    configs = spec.search.initial_configs + select_warm_start(like, spec.parameters())
    return replace(spec, search=replace(spec.search, initial_configs=configs))


def _make_absolute(source: str) -> str:
    return source if source in BUILT_IN else str(Path(source).absolute())
