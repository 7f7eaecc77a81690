"""What a function's code is made of, and the digest that tells whether the function changed."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import FunctionType
from typing import Any

from attrs import field, frozen

from aero_core.bundle.modules import LocalFiles
from aero_core.bundle.pickled import describe_pickled
from aero_core.errors import FlowFileError
from aero_core.models import canonical_json

#: Goes into each digest: another way of making digests is another number.
DIGEST_FORMAT = 1


@frozen
class Description:
    """A function's code, read and ready to be packed.

    Attributes:
        function: The function's name in its file.
        digest: `sha256:<hex>` of the part of the code that decides whether the function changed.
        entry: The file that holds the function, by its name in `files`; empty when it is pickled.
        parameters: The function's parameter names, in order.
        files: Content of each file of the bundle, by its path there.
    """

    function: str
    digest: str
    entry: str
    parameters: tuple[str, ...]
    files: Mapping[str, bytes] = field(repr=lambda files: repr(sorted(files)))


def plain_function(function: object, what: str = "it") -> FunctionType:
    """Answer the function if it can travel as code.

    Args:
        function: What is to be run.
        what: What it is for, for the message.

    Raises:
        FlowFileError: It is no function defined by `def` at the top of a file, or in a notebook.
    """
    inner = inspect.unwrap(function) if callable(function) else function
    fix = "define it with def at the top of the file"
    if not isinstance(inner, FunctionType):
        kind = "a class" if isinstance(inner, type) else f"{type(inner).__name__} {_shown(inner)}"
        raise FlowFileError(f"{what} needs a Python function, not {kind}: {fix}")
    if inner.__name__ == "<lambda>":
        raise FlowFileError(f"{what} cannot run a lambda: {fix}")
    if inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner):
        raise FlowFileError(f"{what} cannot run async {inner.__name__}: make it a plain def")
    if inspect.isgeneratorfunction(inner):
        raise FlowFileError(f"{what} cannot run {inner.__name__}, which yields: let it return")
    if source_path(inner) is not None and inner.__qualname__ != inner.__name__:
        raise FlowFileError(f"{what} cannot run {inner.__qualname__}, an inner function: {fix}")
    return inner


def source_path(function: FunctionType) -> Path | None:
    """The file that a function was defined in; None in a notebook or at the prompt."""
    path = Path(function.__code__.co_filename)
    return path.resolve() if path.is_file() else None


def describe(function: Callable[..., Any], folder: Path | None = None, code: Sequence[str | Path] = ()) -> Description:
    """Find out what a function's code is made of.

    Args:
        function: Defined at the top of a file, or in a notebook.
        folder: The flow file's folder: nothing outside it travels. None: that of the function's
            file, or of the outermost package that it is in.
        code: Further files that the function needs, relative to the folder.

    Raises:
        FlowFileError: The function or a file is not such as can travel.
    """
    inner = plain_function(function)
    path = source_path(inner)
    if path is None:
        files = _named(LocalFiles(folder or Path.cwd()), code)
        name, digest, pickled = describe_pickled(function, inner)
        whole = _digest({"source": digest, "code": _checksums(files)})
        return Description(name, whole, "", _parameters(function), {**files, **pickled})
    local = LocalFiles(folder or _root(path))
    if not path.is_relative_to(local.folder) or "site-packages" in path.parts:
        raise FlowFileError(
            f"{inner.__name__} is defined in {path}, outside of {local.folder}: call it from a function there"
        )
    entry = path.relative_to(local.folder).as_posix()
    source = local.source(entry)
    _check_definitions(inner, path, source.definitions(inner.__name__))
    used = source.used_by(inner.__name__)
    named = _named(local, code)
    modules = {name: local.text(name) for name in local.imported(entry, used.imports)}
    digest = _digest(
        {"parts": used.parts, "modules": modules, "code": _checksums(named)},
    )
    names = {entry, *_inits(local, entry), *local.imported(entry, source.imports())}
    files = {name: local.read(name) for name in names} | named
    return Description(inner.__name__, digest, entry, _parameters(function), files)


def _check_definitions(function: FunctionType, path: Path, lines: list[int]) -> None:
    name = function.__name__
    if not lines:
        raise FlowFileError(f"{path} has no function {name!r} at its top: define it there with def, under that name")
    if len(lines) > 1:
        raise FlowFileError(
            f"{path} defines {name!r} more than once, in lines {', '.join(map(str, lines))}: give each its own name"
        )


def _root(path: Path) -> Path:
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _inits(local: LocalFiles, entry: str) -> list[str]:
    """The `__init__.py` of each package that the entry lies in: importing it executes them."""
    folders = list(PurePosixPath(entry).parents)[:-1]
    names = [str(folder / "__init__.py") for folder in folders]
    return [name for name in names if (local.folder / name).is_file()]


def _named(local: LocalFiles, code: Sequence[str | Path]) -> dict[str, bytes]:
    """The files named in `code=`."""
    found = {}
    for item in code:
        path = Path(os.path.normpath(local.folder / item))
        if not path.is_relative_to(local.folder):
            raise FlowFileError(f"code names {str(item)!r}, which is outside of {local.folder}: put a copy there")
        if not path.is_file():
            problem = "is a folder: name its files" if path.is_dir() else "is not there"
            raise FlowFileError(f"code names {str(item)!r}, but {path} {problem}")
        name = path.relative_to(local.folder).as_posix()
        found[name] = local.read(name)
    return found


def _checksums(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def _digest(content: Mapping[str, Any]) -> str:
    text = canonical_json({"format": DIGEST_FORMAT, **content})
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(part.name for part in parameters if part.kind not in variable)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
