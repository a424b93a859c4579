"""Finding and reading the code of a user's trainer, without running any of it.

A trainer in an installed package is imported by its name on every host, and the file that defines
it is read. Any other trainer is a module in a folder, and its code is all modules of this folder
that it imports, and that they import. The import statements say which: they are read from the
syntax tree. Names of installed packages and of the standard library are never searched in the
folder.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import io
import site
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path

from orchestrator.errors import SpecError
from orchestrator.quote import join_names
from orchestrator.runtime.trainer_code import CodeImporter, SourceFile, TrainerCode

__all__ = ["find_trainer_code"]

#: Size of all modules of a trainer, about 25,000 lines; to read them takes 3 s and 600 MB at worst.
MAX_BYTES = 1_000_000
MAX_MODULES = 500  #: number of modules of a trainer; each takes 1 ms to look for
#: Encodings that a module may declare. Python has others, which are slow, or run code.
_ENCODINGS = frozenset(("utf-8", "utf-8-sig", "iso-8859-1", "ascii", "us-ascii"))
#: Packages that are never searched in a user's folder, also where this product is not installed
#: but in development.
_PRODUCT = {"__main__", "caviar", "orchestrator", "pipelines", "trainers"}


def find_trainer_code(path: str, folders: Iterable[Path]) -> TrainerCode:
    """Read the code of a trainer.

    Args:
        path: Import path, package.module:Class.
        folders: Folders in which the module is searched: after the installed packages, and before
            the other places of sys.path.

    Raises:
        SpecError: If there is no such module, or its code cannot be read.
    """
    name = path.partition(":")[0]
    top = name.partition(".")[0]
    if not _is_module_name(name) or top == "__main__":
        raise SpecError(f"trainer needs package.module:Class of a file, got {path!r}")
    spec = _find_top(top)
    if spec is not None and _is_installed(top):
        return _read_installed(path, spec)
    places = [place.resolve() for place in (*folders, *_list_places(spec))]
    for place in places:
        if _find_file(place, name) is not None:
            return _read_with_imports(path, place)
    searched = join_names(dict.fromkeys(places), " or ")
    raise SpecError(
        f"trainer needs package.module:Class, got {path!r}: there is no module {name} among the "
        f"installed packages or in {searched}"
    )


# ---------------------------------------------------------------------- places of modules


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _find_top(name: str) -> ModuleSpec | None:
    """Return the spec that `import NAME` would load, for a name without dots."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if isinstance(loaded, ModuleSpec) and not isinstance(loaded.loader, CodeImporter):
        return loaded
    importlib.invalidate_caches()
    finders = [finder for finder in sys.meta_path if not isinstance(finder, CodeImporter)]
    specs = (finder.find_spec(name, None) for finder in finders)
    return next((spec for spec in specs if spec is not None), None)


def _is_installed(name: str) -> bool:
    """Whether a top module belongs to Python, to an installed package or to this product."""
    if name in sys.stdlib_module_names or name in _PRODUCT:
        return True
    places = _list_places(_find_top(name))
    return any(place.resolve() in _list_installation_places() for place in places)


def _list_places(spec: ModuleSpec | None) -> list[Path]:
    """The folders in which a top module lies; several for a namespace package."""
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(folder).parent for folder in spec.submodule_search_locations]
    return [Path(spec.origin).parent] if spec.has_location and spec.origin else []


@functools.cache
def _list_installation_places() -> set[Path]:
    places = [*site.getsitepackages(), site.getusersitepackages()]
    places += [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return {Path(place).resolve() for place in places}


def _lies_in_installation(file: Path) -> bool:
    """Whether a file is installed; a namespace package can also have a part in any folder."""
    product = Path(__file__).parents[2].resolve()
    places = {*_list_installation_places(), product}
    return not places.isdisjoint(parent.resolve() for parent in file.parents)


def _find_file(folder: Path, name: str) -> Path | None:
    """The file of a module in a folder, by its whole name; as in Python, a package comes first."""
    base = folder.joinpath(*name.split("."))
    files = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return next((file for file in files if file.is_file()), None)


# ---------------------------------------------------------------------- reading


def _read_installed(path: str, top: ModuleSpec) -> TrainerCode:
    name = path.partition(":")[0]
    spec: ModuleSpec | None = top
    parts = name.split(".")
    for length in range(2, len(parts) + 1):
        places = spec.submodule_search_locations if spec is not None else None
        spec = PathFinder.find_spec(".".join(parts[:length]), places) if places else None
    file = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
    if file is None or not file.is_file() or not _lies_in_installation(file):
        raise SpecError(f"trainer needs package.module:Class, and no file defines a module {name}")
    modules = {name: _read(file)}
    return TrainerCode(path=path, file=str(file), modules=modules, installed=True)


def _read_with_imports(path: str, folder: Path) -> TrainerCode:
    """The code of a module in a folder, with all that it imports from there."""
    name = path.partition(":")[0]
    is_installed = functools.cache(_is_installed)
    modules: dict[str, SourceFile] = {}
    pending = [name]
    size = 0
    while pending:
        wanted = pending.pop()
        if wanted in modules or not _is_module_name(wanted):
            continue
        file = _find_file(folder, wanted)
        if file is None or is_installed(wanted.partition(".")[0]):
            continue
        module = _read(file)
        size += len(module.source)
        if size > MAX_BYTES or len(modules) >= MAX_MODULES:
            raise SpecError(
                f"{folder}: trainer {name} imports more than {MAX_MODULES:,} modules or "
                f"{MAX_BYTES:,} bytes from this folder; install them as a package, which is "
                f"imported by its name"
            )
        modules[wanted] = module
        pending += [*_list_parents(wanted), *_list_imports(wanted, module)]
    for package in {parent for child in modules for parent in _list_parents(child)}:
        if package not in modules:  # a folder without __init__.py
            place = str(folder.joinpath(*package.split(".")))
            modules[package] = SourceFile(path=place, source=b"", is_package=True)
    return TrainerCode(path=path, file=modules[name].path, modules=modules, installed=False)


def _read(file: Path) -> SourceFile:
    try:
        with file.open("rb") as opened:
            source = opened.read(MAX_BYTES + 1)
    except OSError as e:
        raise SpecError(f"{file}: needs a module that can be read: {e.strerror}") from e
    return SourceFile(path=str(file), source=source, is_package=file.name == "__init__.py")


def _list_parents(name: str) -> list[str]:
    """The packages that a module lies in: of a.b.c, a and a.b."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _list_imports(name: str, module: SourceFile) -> list[str]:
    """Names that a module may import; some are names of attributes, not of modules.

    A call of import_module or __import__ counts if it has the name as text.

    Raises:
        SpecError: If the module is not Python.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # they come when the module is compiled
            encoding, _ = tokenize.detect_encoding(io.BytesIO(module.source).readline)
            if encoding not in _ENCODINGS:
                raise ValueError(f"encoding UTF-8 is needed, got {encoding}")
            tree = ast.parse(module.source, module.path)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as e:
        raise SpecError(
            f"{module.path}: needs a module in Python: {str(e) or type(e).__name__}"
        ) from e
    package = name if module.is_package else name.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        with contextlib.suppress(ImportError):  # of a relative name that leaves the package
            names += _list_names(node, package)
    return names


def _list_names(node: ast.AST, package: str) -> list[str]:
    """Names of modules that a statement or a call may import."""
    match node:
        case ast.Import(names=aliases):
            return [alias.name for alias in aliases]
        case ast.ImportFrom(module=module, names=aliases, level=level):
            base = resolve_name("." * level + (module or ""), package)
            return [base, *(f"{base}.{alias.name}" for alias in aliases)]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__")
            | ast.Attribute(attr="import_module" | "__import__"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            return [resolve_name(name, package)]
    return []
