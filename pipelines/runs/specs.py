"""The spec of a run and its data: defaults, then a file, then what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from orchestrator.errors import RunError, SpecError
from orchestrator.runtime.trainer import choose_objective, load_trainer
from orchestrator.search.samplers.random import Random
from orchestrator.search.search import Search
from orchestrator.store.tables import Tables
from pipelines.data.builtin_trainers import BUILTIN_TRAINERS, is_builtin_trainer
from pipelines.data.datasets import BUILT_IN, Table, fingerprint, read
from pipelines.data.preprocessing import Prepared, prepare
from pipelines.runs.spec import Spec, load_spec, parse_yaml, read_yaml
from pipelines.runs.warm_start import select_warm_start
from trainers.errors import ConfigError
from trainers.training.settings import read_settings

__all__ = [
    "list_module_paths",
    "load_space_spec",
    "make_search",
    "make_tables",
    "new_spec",
    "prepared",
    "validate_before_start",
]

TRIED = 64  #: draws looked at for what the trainer would refuse; every option is among them


def new_spec(
    source: str,
    *,
    spec_file: Path | None = None,
    target: str | None = None,
    test: str | None = None,
    task: str | None = None,
    metric: str | None = None,
    seed: int | None = None,
    max_epochs: int | None = None,
    deterministic: bool = False,
    audit: float | None = None,
    like: Sequence[Path] = (),
) -> tuple[Spec, Prepared]:
    """The spec of a run, and its data: defaults, then the file, then what was typed.

    What was good in the runs of `like` is tried first, after what the file gives.

    Raises:
        InputError: If any of it is wrong; nothing has been written.
    """
    content, ours = _content(spec_file)
    _type(content, metric=metric, seed=seed, max_epochs=max_epochs)
    _type(content["search"], deterministic=deterministic or None, audit=audit)
    _type(content["data"], target=target, task=task, test=test and _absolute(test))
    content["data"]["source"] = _absolute(source)
    checked = _checked(content, spec_file)
    if like:
        given = checked.search.initial_configs + select_warm_start(like, checked.parameters())
        checked = replace(checked, search=replace(checked.search, initial_configs=given))
    table = read(source, target=checked.data.target, test=checked.data.test)
    ready = _prepare(checked, table)
    trainer = BUILTIN_TRAINERS[ready.task] if ours else checked.trainer
    full = replace(
        checked,
        trainer=trainer,
        data=replace(
            checked.data, target=table.target_name, task=ready.task, fingerprint=ready.fingerprint
        ),
    )
    objective = choose_objective(load_trainer(full.trainer, list_module_paths(full)), full.metric)
    return replace(full, metric=objective.metric.removeprefix("validation_")), ready


def validate_before_start(source: str, spec_file: Path | None) -> None:
    """What can be said before Ray is started and the data is read.

    Raises:
        InputError: If the source is not there, or the spec cannot be.
    """
    load_space_spec(spec_file, seed=None)
    if source not in BUILT_IN and not Path(source).exists():
        read(source)


def load_space_spec(spec_file: Path | None, *, seed: int | None) -> Spec:
    """A spec without data, for a look at its space."""
    content, _ = _content(spec_file)
    _type(content, seed=seed)
    content["data"]["source"] = "none"
    return _checked(content, spec_file)


def prepared(spec: Spec) -> Prepared:
    """The data of an existing run, read again.

    Raises:
        InputError: If it cannot be read, or its values are no longer those the run was made with.
    """
    table = read(spec.data.source, target=spec.data.target, test=spec.data.test)
    if fingerprint(table) != spec.data.fingerprint:
        raise RunError(
            f"{spec.data.source}: its values are not those this run was made with; "
            f"put the old file back, or begin a new run with `caviar search`"
        )
    return _prepare(spec, table)


def _prepare(spec: Spec, table: Table) -> Prepared:
    return prepare(
        table,
        task=spec.data.task,
        seed=spec.seed,
        validation_share=spec.data.validation_share,
        test_share=spec.data.test_share,
    )


def _content(spec_file: Path | None) -> tuple[dict[str, Any], bool]:
    """The defaults under what the file says; and whether the trainer is ours."""
    default = files("pipelines.runs").joinpath("default.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = parse_yaml(default, source="default.yaml") | {"data": {}}
    given = read_yaml(spec_file) if spec_file else {}
    ours = "trainer" not in given
    if not ours:
        content["space"] = {}  # the default space is our own trainer's
    for section in ("space", "search", "data"):
        part = given.pop(section, {})
        if not isinstance(part, Mapping):
            raise SpecError(f"{spec_file}: {section} needs a mapping, got {part!r}")
        if section == "space":
            part = {
                name: _inheriting(content["space"].get(name), new) for name, new in part.items()
            }
        content[section] |= part
    content = {"trainer": BUILTIN_TRAINERS["classification"], **content, **given}
    if spec_file and not ours:
        content.setdefault("modules", str(spec_file.absolute().parent))
    return content, ours


def _inheriting(old: object, new: object) -> object:
    """A new range keeps the default's `per` and `when`, unless it says otherwise itself."""
    kept = {k: old[k] for k in ("when", "per") if k in old} if isinstance(old, Mapping) else {}
    if not kept or (isinstance(new, Mapping) and new.keys() & {"when", "per"}):
        return new
    return {**kept, **(new if isinstance(new, Mapping) else {"fixed": new})}


def _type(content: dict[str, Any], **typed: object) -> None:
    """What was typed goes over what the file says."""
    content |= {key: value for key, value in typed.items() if value is not None}


def _checked(content: dict[str, Any], spec_file: Path | None) -> Spec:
    source = str(spec_file or "the command line")
    spec = load_spec(content, source=source)
    if is_builtin_trainer(spec.trainer):
        _try_some(spec, source)
    return spec


def _try_some(spec: Spec, source: str) -> None:
    """A name or a value that our trainer does not know is said here, not by failing trials."""
    space = spec.parameters()
    sampler = Random(space, seed=0)
    for draw in range(TRIED):
        try:
            read_settings(space.to_config(sampler.draw_point(draw)))
        except ConfigError as e:
            raise SpecError(f"{source}: space: {e}") from e


def _absolute(source: str) -> str:
    return source if source in BUILT_IN else str(Path(source).absolute())


def make_search(spec: Spec) -> Search:
    """The search of a run, with nothing known."""
    return Search(spec.parameters(), spec.search, seed=spec.seed, max_epochs=spec.max_epochs)


def make_tables(spec: Spec) -> Tables:
    """The schemas of a run's tables.

    Raises:
        SpecError: If the trainer cannot be found, or the metric is none of its own.
    """
    trainer = load_trainer(spec.trainer, list_module_paths(spec))
    return Tables(
        space=spec.parameters(),
        metrics={name: kind for name, (kind, _) in trainer.metrics.items()},
        objective=choose_objective(trainer, spec.metric),
    )


def list_module_paths(spec: Spec) -> tuple[str, ...]:
    """Where a trainer of the user's own is looked for: here, and beside the spec that named it."""
    return (str(Path.cwd()), *([spec.modules] if spec.modules else []))
