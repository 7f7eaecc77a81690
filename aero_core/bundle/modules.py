"""The local modules that a Python file imports: files below its folder, never outside."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from aero_core.bundle.source import SourceFile, parsed
from aero_core.errors import FlowFileError


class LocalFiles:
    """Files below one folder, read once each.

    Args:
        folder: Where imports begin to look, as the folder of a script does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._bytes: dict[str, bytes] = {}

    def read(self, name: str) -> bytes:
        """The bytes of a file, by its path below the folder.

        Raises:
            FlowFileError: It cannot be read, or lies outside behind a link.
        """
        if name not in self._bytes:
            path = self.folder / name
            try:
                if not path.resolve().is_relative_to(self.folder):
                    raise FlowFileError(
                        f"{path} leads out of {self.folder}: code travels with its folder only, put a copy there"
                    )
                self._bytes[name] = path.read_bytes()
            except OSError as error:
                raise FlowFileError(f"cannot read {path}: {error.strerror or error}") from None
        return self._bytes[name]

    def text(self, name: str) -> str:
        """The text of a Python file.

        Raises:
            FlowFileError: As `read`, or the bytes are no text.
        """
        return decode(self.read(name), str(self.folder / name))

    def source(self, name: str) -> SourceFile:
        """A parsed Python file.

        Raises:
            FlowFileError: As `text`, or it is no Python.
        """
        text = self.text(name)
        try:
            return parsed(text)
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            message = getattr(error, "msg", str(error))
            raise FlowFileError(f"{self.folder / name}:{line}: SyntaxError: {message}") from None

    def imported(self, name: str, imports: Iterable[ast.Import | ast.ImportFrom]) -> set[str]:
        """The local files that importing executes, and those that they import, transitively.

        Args:
            name: The file that imports.
            imports: Its imports that count.
        """
        found: set[str] = set()
        todo = list(self._targets(name, imports))
        while todo:
            target = todo.pop()
            if target not in found:
                found.add(target)
                todo += self._targets(target, self.source(target).imports())
        return found

    def _targets(self, name: str, imports: Iterable[ast.Import | ast.ImportFrom]) -> Iterator[str]:
        for node in imports:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._find(alias.name.split("."))
                continue
            base = self._base(name, node)
            if base is None:
                continue
            yield from self._find(base)
            # What is imported from a package may be a module of it.
            for given in self._exported(base) if node.names[0].name == "*" else [alias.name for alias in node.names]:
                yield from self._find([*base, given])

    def _exported(self, base: list[str]) -> Iterable[str]:
        """What `from PACKAGE import *` may import as modules: what its `__all__` names."""
        package = PurePosixPath(*base)
        init = package / "__init__.py"
        if not (self.folder / init).is_file():
            return ()
        names = self.source(str(init)).exports()
        if names is None:
            # Computed, most often from what lies there.
            names = frozenset(path.stem for path in (self.folder / package).iterdir()) - {"__init__"}
        return sorted(name for name in names if name.isidentifier())

    def _base(self, name: str, node: ast.ImportFrom) -> list[str] | None:
        """The module that names are imported from; None where a relative import leads nowhere."""
        module = node.module.split(".") if node.module else []
        if not node.level:
            return module
        package = list(PurePosixPath(name).parent.parts)
        up = node.level - 1
        if not package or up >= len(package):
            return None
        return package[: len(package) - up] + module

    def _find(self, parts: list[str]) -> Iterator[str]:
        """The files that importing a dotted name executes, as far as they are local."""
        found: list[str] = []
        place = PurePosixPath()
        for part in parts:
            package, module = place / part / "__init__.py", place / f"{part}.py"
            place = place / part
            if (self.folder / package).is_file():
                found.append(str(package))
            elif (self.folder / module).is_file():
                found.append(str(module))
                break
            elif not (self.folder / place).is_dir():
                break
        if found and parts[0] in sys.stdlib_module_names:
            raise FlowFileError(f"{self.folder / found[0]} is named like Python's own {parts[0]!r}: rename it")
        yield from found


def decode(content: bytes, shown: str) -> str:
    """The text of a Python file: UTF-8, or what its first lines say.

    Raises:
        FlowFileError: The bytes are not such text.
    """
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding)
    except (SyntaxError, UnicodeDecodeError):
        raise FlowFileError(f"{shown} is not UTF-8 text: save it as UTF-8") from None
