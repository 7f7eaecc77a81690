"""A canonical digest of a JSON document, made from its events as they are read.

Equal are documents of equal values: order of keys, blanks, escapes and the spelling of numbers do
not count (`1`, `1.0` and `10e-1` are one number). An object is the multiset of its members, so that
one with a million keys takes no more memory than a small one; a key that occurs twice is two
members.
"""

from __future__ import annotations

import codecs
import hashlib
import io
import re
from collections.abc import Iterable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from pathlib import Path
from typing import Any, BinaryIO, Final

from aero_core.errors import FetchError
from aero_core.models import Artifact
from aero_local.digests import Multiset
from aero_local.options import Options
from aero_local.reading import charset

_BLOCK = 1 << 16
_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
_POINTER = re.compile(r"(/([^~/]|~[01])*)+")
# What a broken document can raise in the parser: a number that Python refuses comes out of the C
# code as SystemError.
_BROKEN = (ValueError, ArithmeticError, SystemError)


class Pointers:
    """JSON pointers (RFC 6901) to what is ignored; `*` stands for all items of an array."""

    def __init__(self, options: Options) -> None:
        self.tree: dict[str | None, Any] = {}
        for pointer in options.texts("ignore", "a JSON pointer such as '/meta/generated_at'"):
            if not _POINTER.fullmatch(pointer):
                raise options.wrong("ignore", pointer, "a JSON pointer such as '/items/*/seen'")
            node = self.tree
            for token in pointer.split("/")[1:]:
                node = node.setdefault(token.replace("~1", "/").replace("~0", "~"), {})
            node[None] = True


_Nodes = tuple[dict[str | None, Any], ...]
_IGNORED: Final = None


class _Array:
    """An array that is being read; also, as the whole document, an array of one."""

    __slots__ = ("_digest", "_index", "_nodes", "key")

    def __init__(self, nodes: _Nodes) -> None:
        self._digest = hashlib.sha256(b"[")
        self.key = ""
        self._nodes = nodes
        self._index = -1

    def enter(self) -> _Nodes | None:
        """The pointers that lead into the next item; None if one leads just there."""
        if not self._nodes:
            return ()
        self._index += 1
        tokens = (str(self._index), "*")
        found = tuple(node[t] for node in self._nodes for t in tokens if t in node)
        return _IGNORED if any(None in node for node in found) else found

    def add(self, value: bytes) -> None:
        self._digest.update(value)

    def close(self) -> bytes:
        return b"a" + self._digest.digest()


class _Document(_Array):
    def enter(self) -> _Nodes | None:
        return self._nodes


class _Object:
    """An object that is being read."""

    __slots__ = ("_members", "_nodes", "key")

    def __init__(self, nodes: _Nodes) -> None:
        self._members = Multiset()
        self._nodes = nodes
        self.key = ""

    def enter(self) -> _Nodes | None:
        if not self._nodes:
            return ()
        found = tuple(node[self.key] for node in self._nodes if self.key in node)
        return _IGNORED if any(None in node for node in found) else found

    def add(self, value: bytes) -> None:
        self._members.add(_text(self.key) + value)

    def close(self) -> bytes:
        return b"o" + self._members.digest()


def digest(artifact: Artifact, ignore: Pointers) -> str:
    """The digest of a file's document.

    Raises:
        FetchError: It is not JSON; the message says where.
    """
    import ijson

    charset(artifact)
    with _Source(artifact) as source:
        try:
            return _digest(ijson.basic_parse(source, buf_size=_BLOCK), ignore)
        except (ijson.JSONError, *_BROKEN) as problem:
            raise _broken(artifact, problem, source.start_of_block) from None


def _digest(events: Iterable[tuple[str, Any]], ignore: Pointers) -> str:
    document = _Document((ignore.tree,) if ignore.tree else ())
    frame: _Array | _Object = document
    outer: list[_Array | _Object] = []
    skipping = 0
    for event, value in events:
        if skipping:
            skipping += _DEPTH.get(event, 0)
            continue
        if event == "map_key":
            frame.key = value
            continue
        if event in _ENDS:
            closed = frame.close()
            frame = outer.pop()
            frame.add(closed)
            continue
        nodes = frame.enter()
        if nodes is _IGNORED:
            skipping = _DEPTH.get(event, 0)
        elif event in _CONTAINERS:
            outer.append(frame)
            frame = _CONTAINERS[event](nodes)
        else:
            frame.add(_scalar(event, value))
    return document.close()[1:].hex()


_CONTAINERS: dict[str, type[_Array] | type[_Object]] = {"start_map": _Object, "start_array": _Array}
_ENDS = ("end_map", "end_array")
_DEPTH = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


def _scalar(event: str, value: Any) -> bytes:
    if event == "string":
        return _text(value)
    if event == "number":
        return b"n" + _number(value).encode() + b";"
    return b"z" if value is None else (b"t" if value else b"f")


def _text(value: str) -> bytes:
    # Half of a surrogate pair stands for nothing; parsers that take it at all make `?` of it.
    data = value.encode("utf-8", "replace")
    return b"s%d:%b" % (len(data), data)


def _number(value: int | Decimal) -> str:
    """The shortest exact spelling: equal for equal numbers."""
    if isinstance(value, int):
        if value % 10 or value == 0:
            return str(value)
        value = Decimal(value)
    text = str(_EXACT.normalize(value))
    return "0" if text == "-0" else text


class _Source:
    """A file as UTF-8 without a mark at its start, and how far it has been read.

    Attributes:
        start_of_block: Bytes that were read before the last block.
        line: Number of the line that was read last.
        column: Bytes that were read of it.
    """

    def __init__(self, artifact: Artifact, slow_from: int | None = None) -> None:
        self._file = _open_as_utf8(artifact)
        self._slow_from = slow_from
        self._read = 0
        self.start_of_block = 0
        self.line = 1
        self.column = 0

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        if self._slow_from is not None:
            size = min(size, max(1, self._slow_from - self._read))
        block = self._file.read(size)
        if self._read == 0:
            block = block.removeprefix(codecs.BOM_UTF8)
        self.start_of_block = self._read
        self._read += len(block)
        if self._slow_from is not None:
            self.line += block.count(b"\n")
            newline = block.rfind(b"\n")
            self.column = self.column + len(block) if newline < 0 else len(block) - newline - 1
        return block


class _Recoder(io.RawIOBase):
    """A text file in another charset, read as UTF-8."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._text = path.open(encoding=encoding, newline="")
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        block = self._rest or self._text.read(_BLOCK).encode("utf-8", "replace")
        block, self._rest = block[:size], block[size:]
        return block

    def close(self) -> None:
        self._text.close()
        super().close()


def _open_as_utf8(artifact: Artifact) -> BinaryIO | _Recoder:
    path, name = Path(artifact.path), charset(artifact)
    if name in ("utf-8", "utf-8-sig", "ascii"):
        return path.open("rb")
    return _Recoder(path, name)


def _broken(artifact: Artifact, problem: Exception, start_of_block: int) -> FetchError:
    """What is wrong, and where: found by reading the last block again byte by byte."""
    import ijson

    with _Source(artifact, slow_from=start_of_block) as source:
        try:
            for _ in ijson.basic_parse(source, buf_size=_BLOCK):
                pass
        except (ijson.JSONError, *_BROKEN) as again:
            problem = again
        where = f"line {source.line}, byte {source.column}"
    message = f"{artifact.path} is not JSON: {_reason(problem)} in {where}"
    return FetchError(message, retryable=False)


def _reason(problem: Exception) -> str:
    if isinstance(problem, (ArithmeticError, SystemError)):
        return "a number too long to be read"
    text = str(problem).replace("\\n", "\n").removeprefix("b'").strip()
    first = text.splitlines()[0] if text else type(problem).__name__
    return re.sub("^(parse|lexical) error: ", "", first.strip().rstrip(".'\""))
