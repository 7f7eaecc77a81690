"""Importing the code of bundles and flow files, such that no two of them mix in one process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from importlib.abc import PathEntryFinder
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path, PurePosixPath
from types import CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle

from aero_core.bundle.archive import unpacked
from aero_core.bundle.pickled import PICKLE_NAME
from aero_core.errors import FunctionError

# sys.path and sys.modules belong to the whole process: one bundle at a time.
_lock = threading.RLock()
_importing: ContextVar[bool] = ContextVar("importing", default=False)
_KEPT = frozenset({"__main__", "aero_core"}) | sys.stdlib_module_names


def importing() -> bool:
    """Whether a bundle's file is being imported: what registers flows must then do nothing."""
    return _importing.get()


@contextmanager
def loaded(
    archive: Callable[[], Path], bundle_id: str, cache: Path, entry: str, function: str
) -> Iterator[Callable[..., Any]]:
    """Load a function from its bundle, for as long as the `with` block lasts.

    The whole file is imported, its declarations of flows being inert, with the bundle's folder
    first on the path. At the end of the block its modules are dropped, so that another bundle's
    modules of equal names are never met. Blocks of several threads follow one another.

    Args:
        archive: Brings the bundle. Not called where the cache has it.
        bundle_id: `sha256:<hex>` of the archive.
        cache: Folder for unpacked bundles.
        entry: The file that holds the function; empty for a pickled one.
        function: The function's name.

    Raises:
        StoreError: The archive is not the one of that id, or cannot be unpacked.
        FunctionError: The file has no such function.
        Exception: Whatever the file raises when it is imported.
    """
    with _lock, unpacked(archive, bundle_id, cache) as folder, imports_from(folder), _from_source(folder):
        token = _importing.set(True)
        try:
            found = _unpickled(folder) if not entry else _attribute(folder, entry, function)
        finally:
            _importing.reset(token)
        yield found


@contextmanager
def imports_from(folder: Path) -> Iterator[None]:
    """Import local modules from a folder first, keep no compiled files there, and forget them at the end."""
    with _lock:
        path, bytecode = list(sys.path), sys.dont_write_bytecode
        roots = _local_names(folder) - _KEPT
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _root(name) in roots}
        before = set(sys.modules)
        sys.path.insert(0, str(folder))
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path[:] = path
            sys.dont_write_bytecode = bytecode
            new = {name: sys.modules[name] for name in set(sys.modules) - before}
            # All are asked before any goes: a package without `__init__.py` asks the one that it is in for its place.
            local = [name for name, module in new.items() if _root(name) in roots or _is_local(name, module, folder)]
            for name in local:
                del sys.modules[name]
            sys.modules.update(hidden)
            for key in [key for key in sys.path_importer_cache if Path(key).is_relative_to(folder)]:
                del sys.path_importer_cache[key]


@contextmanager
def _from_source(folder: Path) -> Iterator[None]:
    """Import what is below a folder without regard to compiled files in `__pycache__`."""
    hook = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_SourceLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )

    def below(path: str) -> PathEntryFinder:
        if not Path(path).is_relative_to(folder):
            raise ImportError
        return hook(path)

    sys.path_hooks.insert(0, below)
    try:
        yield
    finally:
        sys.path_hooks[:] = [other for other in sys.path_hooks if other is not below]


class _SourceLoader(SourceFileLoader):
    """Compiles what stands in a file, once in a process: a compiled file may be another file's."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return _compiled(self.get_data(path), path)


@lru_cache(maxsize=256)
def _compiled(source: bytes, path: str) -> CodeType:
    code: CodeType = compile(source, path, "exec", dont_inherit=True)
    return code


def module_name(path: PurePosixPath) -> str:
    """The name to import a file under: its own where that is free, as its modules may use it."""
    stem = path.stem
    return stem if stem.isidentifier() and stem not in _KEPT else "aero_flow_file"


def _local_names(folder: Path) -> set[str]:
    """Names of the modules and packages directly in a folder."""
    return {
        item.stem if item.suffix == ".py" else item.name
        for item in folder.iterdir()
        if item.suffix == ".py" or (item / "__init__.py").is_file()
    }


def _root(name: str) -> str:
    return name.partition(".")[0]


def _is_local(name: str, module: ModuleType, folder: Path) -> bool:
    """Whether a module was found in the folder itself, not in an environment that lies below it."""
    if _root(name) in _KEPT:
        return False
    try:
        places = [getattr(module, "__file__", None) or "", *map(str, getattr(module, "__path__", ()))]
    # Anything may be put among the modules, and that must not be told as the function's failure.
    except Exception:  # noqa: BLE001
        return False
    below = (folder / _root(name), folder / f"{_root(name)}.py")
    return any(Path(place).is_relative_to(root) for place in places if place for root in below)


def _attribute(folder: Path, entry: str, function: str) -> Callable[..., Any]:
    module = _import(folder, PurePosixPath(entry))
    found = getattr(module, function, None)
    if not isinstance(found, FunctionType):
        found = getattr(found, "function", found)  # a declaration stands where its function did
    if not callable(found):
        raise FunctionError(f"{entry} has no function {function!r} once it is imported")
    return found


def _import(folder: Path, entry: PurePosixPath) -> ModuleType:
    if len(entry.parts) > 1 and all(part.isidentifier() for part in entry.with_suffix("").parts):
        parts = entry.with_suffix("").parts
        return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    name = module_name(entry)
    loader = _SourceLoader(name, str(folder / entry))
    spec = importlib.util.spec_from_file_location(name, folder / entry, loader=loader)
    if spec is None or spec.loader is None:
        raise FunctionError(f"{entry} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _unpickled(folder: Path) -> Callable[..., Any]:
    # Unpickling executes code. This code is the owner's: it comes from an archive whose SHA-256 is
    # the id under which the owner registered the function.
    found: Callable[..., Any] = cloudpickle.loads((folder / PICKLE_NAME).read_bytes())
    return found
