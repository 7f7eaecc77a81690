"""A canonical digest of a JSON document, made from its events as they are read.

Equal are documents of equal values: order of keys, blanks, escapes and the spelling of numbers do
not count (`1`, `1.0` and `10e-1` are one number). A key that occurs twice is two members.

Each value has a canonical text. Where an array's or an object's would be longer than `_SMALL`, a
hash stands for it, of the array's items or of the object's multiset of members, so that one with a
million takes no more memory than a small one.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from itertools import chain
from typing import Any

from aero_core.errors import FetchError
from aero_core.models import Artifact, Progress
from aero_local.digests import Multiset
from aero_local.options import Options
from aero_local.reading import LINE_LIMIT, charset, open_bytes, open_text

_BLOCK = 1 << 14
_SMALL = 1 << 14
#: Levels that are held at once. What people publish has tens.
_DEEPEST = 100_000
#: Characters of a parser's words that an error repeats.
_REASON = 100
_EXACT = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)
# From here on digits are not written out: a source could ask for millions of them with a few bytes.
_LONG = 20
_LIMIT = 10**_LONG
_POINTER = re.compile(r"(/([^~/]|~[01])*)+")
# What a broken document can raise in the parser: a number that Python refuses comes out of the C
# code as SystemError.
_BROKEN = (ValueError, ArithmeticError, SystemError)


class Pointers:
    """JSON pointers (RFC 6901) to what is ignored; `*` stands for all items of an array."""

    def __init__(self, options: Options) -> None:
        self.tree: _Node = {}
        for pointer in options.texts("ignore", "a JSON pointer such as '/meta/generated_at'"):
            if not _POINTER.fullmatch(pointer):
                raise options.wrong("ignore", pointer, "a JSON pointer such as '/items/*/seen'")
            node = self.tree
            for token in pointer.split("/")[1:]:
                node = node.setdefault(token.replace("~1", "/").replace("~0", "~"), {})
            node[None] = True


_Node = dict[str | None, Any]
_Event = tuple[str, Any]


def digest(artifact: Artifact, progress: Progress, ignore: Pointers) -> str:
    """The digest of a file's document.

    Raises:
        FetchError: It is not JSON; the message says where.
    """
    return _digest(_events(artifact, progress), ignore)


# Reading


class _Blocks:
    """A file in blocks of UTF-8, without a mark at its start.

    The parser scans a string that is not yet whole anew with each block: blocks grow with it, so that
    a long one does not take the square of its length.

    Attributes:
        done: Bytes that the parser took.
        held: The last of them, of which no event came: it keeps these.
    """

    def __init__(self, artifact: Artifact, progress: Progress) -> None:
        self._artifact, self._progress = artifact, progress
        self.done = self.held = 0

    def __iter__(self) -> Iterator[bytes]:
        mark = codecs.BOM_UTF8
        for block in self._encoded():
            if block := block.removeprefix(mark):
                yield block
            mark = b""

    def took(self, block: bytes, *, events: bool) -> None:
        """Note what the parser took, and whether events came of it.

        Raises:
            FetchError: It keeps too much.
        """
        self.done += len(block)
        self.held = 0 if events else self.held + len(block)
        if self.held > LINE_LIMIT:
            raise FetchError(
                f"the content has a string, number or gap of more than {LINE_LIMIT >> 20} MiB, "
                f"near byte {self.done - self.held}: too long for the rule json; use rule='bytes'",
                retryable=False,
            )

    def _encoded(self) -> Iterator[bytes]:
        if charset(self._artifact) in ("utf-8", "utf-8-sig", "ascii"):
            with open_bytes(self._artifact, self._progress) as file:
                while block := file.read(self._size()):
                    yield block
        else:
            with open_text(self._artifact, self._progress, newline="") as text:
                while piece := text.read(self._size()):
                    yield piece.encode("utf-8", "replace")

    def _size(self) -> int:
        # No more than an eighth: what comes behind the string is in the block, too, and all its events are held.
        return max(_BLOCK, self.held // 8)


def _events(artifact: Artifact, progress: Progress) -> Iterator[list[_Event]]:
    """What the parser makes of each block; the list is emptied before the next one."""
    import ijson

    broken = (ijson.JSONError, *_BROKEN)
    events: list[_Event] = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events)
    blocks = _Blocks(artifact, progress)
    try:
        for block in chain(blocks, (b"",)):
            try:
                if block:
                    parser.send(block)
                else:
                    parser.close()
            except broken as problem:
                raise _broken(artifact, problem, blocks.done) from None
            blocks.took(block, events=bool(events))
            yield events
            events.clear()
    finally:
        # Left unfinished, the parser in pure Python would complain when it is collected.
        with suppress(*broken):
            parser.close()


def _broken(artifact: Artifact, problem: Exception, good: int) -> FetchError:
    """What is wrong, and where: found by reading what follows the `good` bytes again byte by byte."""
    import ijson

    events = ijson.sendable_list()
    parser = ijson.basic_parse_coro(events)
    blocks = _Blocks(artifact, lambda done, total: None)
    line, column, near = 1, 0, ""
    try:
        for block in blocks:
            if blocks.done >= good and blocks.held > _BLOCK:
                # The parser would scan the long string anew with each byte.
                near = "after "
                break
            came = False
            for piece in (block,) if blocks.done < good else (block[n : n + 1] for n in range(len(block))):
                line += piece.count(b"\n")
                newline = piece.rfind(b"\n")
                column = column + len(piece) if newline < 0 else len(piece) - newline - 1
                parser.send(piece)
                came = came or bool(events)
                events.clear()
            blocks.took(block, events=came)
        else:
            parser.close()
    except (ijson.JSONError, *_BROKEN) as again:
        problem = again
    message = f"the content is not JSON: {_reason(problem)} in line {line}, {near}byte {column}"
    return FetchError(message, retryable=False)


def _reason(problem: Exception) -> str:
    if isinstance(problem, (ArithmeticError, SystemError)):
        return "a number too long to be read"
    text = str(problem).replace("\\n", "\n").removeprefix("b'").strip()
    first = text.splitlines()[0] if text else type(problem).__name__
    # The parser in pure Python shows the whole of what it stumbles over.
    return re.sub("^(parse|lexical) error: ", "", first.strip().rstrip(".'\""))[:_REASON]


# Digesting

_ARRAY, _OBJECT = "[", "{"
_STARTS = {"start_array": _ARRAY, "start_map": _OBJECT}
_ENDS = ("end_array", "end_map")
_DEPTH = {"start_map": 1, "start_array": 1, "end_map": -1, "end_array": -1}


def _digest(blocks: Iterable[Iterable[_Event]], ignore: Pointers) -> str:
    # This loop runs for each key and value: it is one function, and what it needs is in its locals.
    # A text tells by its first character what it is and by its length or a sign where it ends.
    outer: list[_Open] = []
    hashes: list[_Items | _Members] = []
    kind, parts, name, index = _ARRAY, list[str](), "", -1
    nodes: tuple[_Node, ...] = ({"*": ignore.tree},) if ignore.tree else ()
    inner: tuple[_Node, ...] = ()
    skipping = 0
    for events in blocks:
        lowest = len(outer)
        for event, value in events:
            if skipping:
                skipping += _DEPTH.get(event, 0)
                continue
            if event == "map_key":
                name = f"{len(value)}:{value}"
                if nodes:
                    inner = _within(nodes, (value,))
                continue
            if nodes and event not in _ENDS:
                if kind is _ARRAY:
                    index += 1
                    inner = _within(nodes, (str(index), "*"))
                if inner and any(None in node for node in inner):
                    skipping = _DEPTH.get(event, 0)
                    continue
            if event == "string":
                parts.append(f"{name}s{len(value)}:{value}")
            elif event == "number":
                if type(value) is int and -_LIMIT < value < _LIMIT:
                    parts.append(f"{name}n{value};")
                    continue
                text = str(value)
                if text[-1] == "0" or "." not in text or "E" in text:
                    text = _number(value)
                parts.append(f"{name}n{text};")
            elif event in _ENDS:
                if kind is _OBJECT:
                    parts.sort()
                text = "".join(parts)
                if len(text) > _SMALL or len(hashes) >= len(outer):
                    text = _hashed((kind, parts), outer, hashes)
                else:
                    text = f"{kind}{text}]"
                kind, parts, name, index, nodes = outer.pop()
                parts.append(name + text)
                if len(outer) < lowest:
                    lowest = len(outer)
            elif event in _STARTS:
                outer.append((kind, parts, name, index, nodes))
                kind, parts, name, index = _STARTS[event], [], "", -1
                nodes = inner if nodes else ()
            else:
                parts.append(name + ("z" if value is None else "t" if value else "f"))
        if len(outer) > _DEEPEST:
            raise FetchError(
                f"the content is nested more than {_DEEPEST} deep: too deep for the rule json; use rule='bytes'",
                retryable=False,
            )
        outer.append((kind, parts, name, index, nodes))
        _settle(outer, hashes, lowest)
        outer.pop()
    return hashlib.sha256(_encode("".join(parts))).hexdigest()


def _within(nodes: tuple[_Node, ...], tokens: tuple[str, ...]) -> tuple[_Node, ...]:
    """The pointers that lead on into one item or member."""
    found: tuple[_Node, ...] = ()
    for node in nodes:
        for token in tokens:
            if token in node:
                found += (node[token],)
    return found


def _encode(text: str) -> bytes:
    # Half of a surrogate pair stands for nothing; parsers that take it at all make `?` of it.
    return text.encode("utf-8", "replace")


def _number(value: int | Decimal) -> str:
    """One spelling for equal numbers."""
    normal = _EXACT.normalize(Decimal(value))
    whole = normal.adjusted() < _LONG and normal == normal.to_integral_value()
    return str(int(normal)) if whole else str(normal)


# Large arrays and objects. Who is around a large one is large as well: of what is open, the
# outermost have hashes, the others together no more than a small text and what one block brings.

#: An array or object that is being read: kind, texts, own name in what is around it, index, pointers.
_Open = tuple[str, list[str], str, int, tuple[_Node, ...]]


class _Items:
    """A large array's items, hashed as they come."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def take(self, parts: list[str]) -> None:
        self._hash.update(_encode("".join(parts)))
        parts.clear()

    def text(self) -> str:
        return f"A{self._hash.hexdigest()}"


class _Members:
    """A large object's members."""

    def __init__(self) -> None:
        self._multiset = Multiset()

    def take(self, parts: list[str]) -> None:
        self._multiset.update(map(_encode, parts))
        parts.clear()

    def text(self) -> str:
        return f"O{self._multiset.digest().hex()}"


def _start(kind: str, parts: list[str]) -> _Items | _Members:
    started = _Items() if kind is _ARRAY else _Members()
    started.take(parts)
    return started


def _hashed(ended: tuple[str, list[str]], outer: list[_Open], hashes: list[_Items | _Members]) -> str:
    """The text of a large array or object that has ended, whose depth is `len(outer)`."""
    kind, parts = ended
    hashes.extend(_start(*outer[depth][:2]) for depth in range(len(hashes) + 1, len(outer)))
    if len(hashes) < len(outer):
        return _start(kind, parts).text()
    own = hashes.pop()
    own.take(parts)
    return own.text()


def _settle(opened: list[_Open], hashes: list[_Items | _Members], lowest: int) -> None:
    """Hash, of what is open, what is large by now; at depths from `lowest` on there is something new."""
    small = opened[len(hashes) + 1 :]
    sizes = [2 + sum(map(len, parts)) for _, parts, *_ in small]
    total = sum(sizes) - 2
    for depth in range(max(1, lowest), len(hashes) + 1):
        hashes[depth - 1].take(opened[depth][1])
    for (kind, parts, *_), size in zip(small, sizes, strict=True):
        if total <= _SMALL:
            break
        hashes.append(_start(kind, parts))
        total -= size
