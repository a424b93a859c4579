"""The source code of a user's trainer, and the importer that compiles it from these bytes.

find_trainer.py reads the code once, in the driver. What it has read is hashed, trusted, sent to the
workers and compiled: there is no second look at the folder that it came from, so no .pyc, no .so
and no file that was changed in the meantime is loaded, and the folder is never on sys.path.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from types import ModuleType

__all__ = ["CodeImporter", "SourceFile", "TrainerCode", "import_module"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A module of a user's trainer."""

    path: str  #: the module's file on the driver's host; tracebacks show it
    source: bytes  #: the content of the file when it was read
    is_package: bool  #: whether other modules can lie below this one


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerCode:
    """The code of a user's trainer: the trainer's module, and the modules that it brings along."""

    path: str  #: import path of the trainer, package.module:Class
    file: str  #: the file that defines the trainer, on the driver's host
    modules: Mapping[str, SourceFile]  #: by name; the trainer's own module is one of them
    #: Whether the trainer's module is imported by its name, as installed packages are; otherwise
    #: all `modules` are compiled from the bytes here.
    installed: bool

    @property
    def digest(self) -> str:
        """SHA-256 of the trainer's import path, and of the paths and contents of all modules."""
        content = [
            (name, m.path, m.is_package, m.source) for name, m in sorted(self.modules.items())
        ]
        whole = repr((self.path, self.file, self.installed, content))
        return hashlib.sha256(whole.encode()).hexdigest()


def import_module(name: str, code: TrainerCode | None) -> ModuleType:
    """Import a trainer's module: from the bytes of its code, or an installed one by its name."""
    with _lock:
        if code is not None and not code.installed:
            _importer.serve(code.modules)
        return importlib.import_module(name)


class CodeImporter(MetaPathFinder, ExecutionLoader):
    """Serves the modules of one trainer's code at a time; the next code takes their place."""

    def __init__(self) -> None:
        self._modules: Mapping[str, SourceFile] = {}

    def serve(self, modules: Mapping[str, SourceFile]) -> None:
        """Serve these modules from now on, whatever sys.path has under their names."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        if modules == self._modules:
            return
        replaced = {name.partition(".")[0] for name in (*self._modules, *modules)}
        for name in [name for name in sys.modules if name.partition(".")[0] in replaced]:
            del sys.modules[name]
        self._modules = modules

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Return the spec of a module that is served, and None for any other module."""
        file = self._modules.get(fullname)
        if file is None:
            return None
        spec = ModuleSpec(fullname, self, origin=file.path, is_package=file.is_package)
        spec.has_location = True  # sets __file__; the __path__ of a package stays empty
        return spec

    def is_package(self, fullname: str) -> bool:
        """Whether other modules can lie below a module that is served."""
        return self._modules[fullname].is_package

    def get_source(self, fullname: str) -> str:
        """Return the text of a module that is served."""
        return decode_source(self._modules[fullname].source)

    def get_filename(self, fullname: str) -> str:
        """Return the file of a module that is served, as it was named on the driver's host."""
        return self._modules[fullname].path


_importer = CodeImporter()
_lock = threading.RLock()  # two searches in one process may load two trainers
