"""What of a Python file belongs to one of its functions.

The answer is made of source text, by token: comments, blank lines and spacing do not count, and
another Python that reads the same text finds the same parts.
"""

from __future__ import annotations

import ast
import io
import tokenize
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache

from attrs import frozen

from aero_core.bundle.names import Definition, bound_names, free_names

_DECLARING = ("ingest", "analysis")
_PACKAGES = ("aero_core", "aero_core.flowfile")
_SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER)
_LAYOUT = {tokenize.INDENT: "\x01", tokenize.DEDENT: "\x02", tokenize.NEWLINE: "\n"}
# From Python 3.12 on an f-string is several tokens; it is taken whole here, as it was before.
_STRING_STARTS = ("FSTRING_START", "TSTRING_START")
_STRING_ENDS = ("FSTRING_END", "TSTRING_END")

_Position = tuple[int, int]
_Import = ast.Import | ast.ImportFrom


@frozen
class Used:
    """What one function uses of its file: pieces of text in the file's order, and imports."""

    parts: tuple[str, ...]
    imports: tuple[_Import, ...]


@frozen(eq=False)
class _Statement:
    """A top-level statement, or one name of an import.

    Attributes:
        binds: Names that it gives a value.
        acts: Whether it does anything beside that.
        text: Its text where that is not a piece of the file.
    """

    node: ast.stmt
    binds: frozenset[str]
    acts: bool
    text: str = ""
    imported: _Import | None = None


class SourceFile:
    """A parsed Python file.

    Args:
        text: Its text.

    Raises:
        SyntaxError: It is no Python.
    """

    def __init__(self, text: str) -> None:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.tree = ast.parse(text)
        self._lines = text.split("\n")
        self._tokens = list(_tokens(text, self._lines))
        self._starts = [start for start, _, _ in self._tokens]
        declaring = _declaring_names(self.tree)
        self._cut = {id(found) for node in ast.walk(self.tree) for found in _declarations(node, declaring)}
        self._statements = [part for node in self.tree.body for part in self._split(node)]

    def definitions(self, name: str) -> list[int]:
        """The lines of the statements at the top of the file that define a function or class."""
        return [node.lineno for node in self.tree.body if name in _defined(node)]

    def imports(self) -> list[_Import]:
        """Every import of the file, those inside functions included."""
        return [node for node in ast.walk(self.tree) if isinstance(node, _Import)]

    def exports(self) -> frozenset[str] | None:
        """The names that the file gives in `__all__`; None where only executing it tells them."""
        makers = [node for node in ast.walk(self.tree) if isinstance(node, ast.stmt) and _sets_all(node)]
        if any(isinstance(node, ast.ImportFrom) for node in makers):
            return None
        values = [value for node in makers if (value := getattr(node, "value", None)) is not None]
        inner = [part for value in values for part in ast.walk(value)]
        if not all(isinstance(part, _LITERAL) or _is_all(getattr(part, "value", part)) for part in inner):
            return None
        return frozenset(part.value for part in inner if isinstance(part, ast.Constant) and isinstance(part.value, str))

    def used_by(self, function: str) -> Used:
        """What belongs to a function: its text without decorators, and transitively what it uses.

        Statements that bind no name belong to every function, other than declarations of flows.
        """
        makers: dict[str, list[_Statement]] = {}
        for statement in self._statements:
            for name in statement.binds:
                makers.setdefault(name, []).append(statement)
        todo = [part for part in self._statements if part.acts] + makers.get(function, [])
        used: set[_Statement] = set()
        while todo:
            statement = todo.pop()
            if statement in used:
                continue
            used.add(statement)
            if statement.imported is None:
                names = free_names(statement.node, self._left_out(statement.node, function))
                todo += [part for name in names for part in makers.get(name, ())]
        ordered = [statement for statement in self._statements if statement in used]
        parts = [part.text or self._text(part.node, function) for part in ordered]
        imports = [imported for part in ordered for imported in _imports(part)]
        return Used(tuple(parts), tuple(imports))

    def _split(self, node: ast.stmt) -> Iterator[_Statement]:
        if _is_main_block(node):
            return
        if isinstance(node, _Import):
            yield from _split_import(node)
            return
        binds = bound_names([node])
        if _is_docstring(node):
            # No code sees the file's first text unless by this name.
            binds = {"__doc__"} if node is self.tree.body[0] else set()
        yield _Statement(node, frozenset(binds), self._acts(node))

    def _acts(self, node: ast.stmt) -> bool:
        """Whether a statement does something that no name it binds shows."""
        if isinstance(node, (*_DEFINITIONS, *_IDLE, *_IMPORTS)) or _is_docstring(node):
            return isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        inner = [child for child in _blocks(node) if isinstance(child, ast.stmt)]
        if inner:
            return any(self._acts(child) for child in inner)
        if any(id(part) in self._cut for part in ast.walk(node)):
            return False
        targets = _targets(node)
        return not targets or not all(isinstance(target, ast.Name) for target in targets)

    def _left_out(self, node: ast.stmt, function: str) -> set[int]:
        """Nodes in a statement that do not count: declarations, and the function's decorators."""
        if isinstance(node, Definition) and node.name == function:
            return self._cut | {id(decorator) for decorator in node.decorator_list}
        return self._cut

    def _text(self, node: ast.stmt, function: str) -> str:
        left_out = self._left_out(node, function)
        cuts = [self._span(part) for part in ast.walk(node) if id(part) in left_out]
        decorators = getattr(node, "decorator_list", [])
        kept = ["@" + self._between(*self._span(part), cuts) for part in decorators]
        kept = [text for text in kept if text != "@"]
        return "\n".join([*kept, self._between(*self._span(node), cuts)])

    def _between(self, start: _Position, end: _Position, cuts: Iterable[tuple[_Position, _Position]]) -> str:
        texts = []
        for begin, stop, text in self._tokens[bisect_left(self._starts, start) :]:
            if begin >= end:
                break
            if begin == stop == start:
                continue  # the end of the block before
            if not any(first <= begin and stop <= last for first, last in cuts):
                texts.append(text)
        return "\0".join(texts)

    def _span(self, node: ast.AST) -> tuple[_Position, _Position]:
        """Start and end in characters; the tree counts bytes."""
        place: tuple[int, ...] = tuple(
            getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")
        )
        return self._position(*place[:2]), self._position(*place[2:])

    def _position(self, line: int, column: int) -> _Position:
        text = self._lines[line - 1]
        return line, column if text.isascii() else len(text.encode()[:column].decode())


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_IDLE = (ast.Pass, ast.Break, ast.Continue, ast.Global)
# What `__all__ = ["a"] + ["b"]`, `__all__ += ["a"]` and `__all__.append("a")` consist of, beside `__all__` itself.
_LITERAL = (ast.List, ast.Tuple, ast.Constant, ast.BinOp, ast.Add, ast.Call, ast.expr_context)


@lru_cache(maxsize=32)
def parsed(text: str) -> SourceFile:
    """A parsed file; the last few are kept, as a file's functions are described in a row."""
    return SourceFile(text)


def _tokens(text: str, lines: list[str]) -> Iterator[tuple[_Position, _Position, str]]:
    starts = {getattr(tokenize, name, None) for name in _STRING_STARTS}
    ends = {getattr(tokenize, name, None) for name in _STRING_ENDS}
    depth, begin = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in starts:
            begin = token.start if depth == 0 else begin
            depth += 1
        elif token.type in ends:
            depth -= 1
            if depth == 0:
                yield begin, token.end, _slice(lines, begin, token.end)
        elif depth == 0 and token.type not in _SKIPPED:
            yield token.start, token.end, _LAYOUT.get(token.type, token.string)


def _slice(lines: list[str], start: _Position, end: _Position) -> str:
    chosen = lines[start[0] - 1 : end[0]]
    chosen[-1] = chosen[-1][: end[1]]
    chosen[0] = chosen[0][start[1] :]
    return "\n".join(chosen)


def _declaring_names(tree: ast.Module) -> set[str]:
    """Names, dotted ones too, by which the file declares flows: imported, or made from those."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(_from_import(node))
        elif isinstance(node, ast.ImportFrom) and node.module in _PACKAGES and not node.level:
            names.update(_from_import_from(node))
    while True:
        more = {name for node in tree.body for name in _wraps(node, names)} - names
        if not more:
            return names
        names |= more


def _from_import(node: ast.Import) -> Iterator[str]:
    for alias in node.names:
        if alias.name in _PACKAGES:
            package = alias.asname or alias.name
            yield from (f"{package}.{word}" for word in _DECLARING)
            if not alias.asname:
                yield from (f"aero_core.{word}" for word in _DECLARING)


def _from_import_from(node: ast.ImportFrom) -> Iterator[str]:
    for alias in node.names:
        if alias.name == "*":
            yield from _DECLARING
        elif alias.name in _DECLARING:
            yield alias.asname or alias.name
        elif alias.name == "flowfile":
            yield from (f"{alias.asname or alias.name}.{word}" for word in _DECLARING)


def _wraps(node: ast.stmt, declaring: set[str]) -> Iterator[str]:
    """The name of a top-level function that declares flows, or of a value made to do so."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        inside = (part for statement in node.body for part in ast.walk(statement))
        if any(_dotted(part) in declaring for part in inside):
            yield node.name
    elif isinstance(node, ast.Assign):
        called = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
        handed = (part for part in ast.walk(node.value) if id(part) not in called)
        if any(_dotted(part) in declaring for part in handed):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _declarations(node: ast.AST, declaring: set[str]) -> Iterator[ast.AST]:
    """The node if it is a call that declares flows; of a function, the decorators that do."""
    if isinstance(node, ast.Call) and _dotted(node.func) in declaring:
        yield node
    for decorator in getattr(node, "decorator_list", ()):
        if _dotted(decorator) in declaring:
            yield decorator


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return None


def _split_import(node: _Import) -> Iterator[_Statement]:
    """One statement for each name, so that a further name in the same line changes nothing."""
    for alias in node.names:
        single: _Import
        if isinstance(node, ast.Import):
            single, text = ast.Import([alias]), f"import {alias.name}"
            name = alias.asname or alias.name.partition(".")[0]
        else:
            single = ast.ImportFrom(node.module, [alias], node.level)
            text = f"from {'.' * node.level}{node.module or ''} import {alias.name}"
            name = alias.asname or alias.name
        star = alias.name == "*"
        binds = frozenset() if star else frozenset([name])
        yield _Statement(node, binds, star, f"{text} as {name}", single)


def _imports(statement: _Statement) -> list[_Import]:
    if statement.imported is not None:
        return [statement.imported]
    return [node for node in ast.walk(statement.node) if isinstance(node, _Import)]


def _blocks(node: ast.AST) -> Iterator[ast.AST]:
    """The statements directly within a compound statement, through its handlers and cases."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from _blocks(child)
        elif isinstance(child, ast.stmt):
            yield child


def _defined(node: ast.AST) -> Iterator[str]:
    """Names that `def` and `class` bind in a statement, or within one such as `if`."""
    if isinstance(node, _DEFINITIONS):
        yield node.name
    else:
        for child in _blocks(node):
            yield from _defined(child)


def _targets(node: ast.stmt) -> list[ast.expr]:
    if isinstance(node, (ast.Assign, ast.Delete)):
        return [part for target in node.targets for part in _unpacked(target)]
    if isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        return [node.target]
    if type(node).__name__ == "TypeAlias":
        return [getattr(node, "name")]  # noqa: B009  the class exists from Python 3.12 on
    return []


def _unpacked(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            yield from _unpacked(part)
    elif isinstance(target, ast.Starred):
        yield from _unpacked(target.value)
    else:
        yield target


def _sets_all(node: ast.stmt) -> bool:
    """Whether a statement gives `__all__` a value, or adds to it."""
    if isinstance(node, ast.ImportFrom):
        return any("__all__" in (alias.name, alias.asname) for alias in node.names)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Attribute) and _is_all(node.value.func.value)
    return any(_is_all(target) for target in _targets(node))


def _is_all(node: object) -> bool:
    return isinstance(node, ast.Name) and node.id == "__all__"


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_main_block(node: ast.stmt) -> bool:
    """Whether this is `if __name__ == "__main__":`, which no run ever enters."""
    if not isinstance(node, ast.If) or node.orelse or not isinstance(node.test, ast.Compare):
        return False
    sides = [node.test.left, *node.test.comparators]
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    values = [side.value for side in sides if isinstance(side, ast.Constant)]
    return isinstance(node.test.ops[0], ast.Eq) and names == ["__name__"] and values == ["__main__"]
