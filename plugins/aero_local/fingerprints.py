"""What counts as changed content: the rules `bytes`, `json`, `csv` and `text`.

All read their file as a stream and keep no more of it than a line, a row or one JSON value.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain

from aero_core.errors import FetchError
from aero_core.models import Artifact, Progress, Rule
from aero_local.copying import Guarded
from aero_local.digests import Multiset
from aero_local.options import Options
from aero_local.reading import LINE_LIMIT, pieces, whole_lines

_Digest = Callable[[Artifact, Progress], str]

_DELIMITERS = ",;\t|"
# ASCII alone: what Python takes for printable differs from one of its releases to the next.
_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def fingerprint(artifact: Artifact, rule: Rule, progress: Progress) -> str | None:
    """Digest of what counts in a file; see `aero_core.hookspecs.aero_fingerprint`.

    Raises:
        InvalidValue: The rule has no such option, or not of that form.
        FetchError: The rule cannot read the content.
    """
    digest = _digest_of(rule)
    if digest is None:
        return None
    guarded = Guarded(progress)
    try:
        return digest(artifact, guarded)
    except OSError as problem:
        if problem is guarded.raised:
            raise
        reason = problem.strerror or problem
        raise FetchError(f"the content cannot be read: {reason}") from problem


def check(rule: Rule) -> None:
    """Refuse options that cannot be; see `aero_core.hookspecs.aero_check_rule`.

    Raises:
        InvalidValue: The rule has no such option, or not of that form.
    """
    _digest_of(rule)


def _digest_of(rule: Rule) -> _Digest | None:
    make = _RULES.get(rule.name)
    if make is None:
        return None
    options = Options(rule)
    digest = make(options)
    options.finish()
    return digest


def _json(options: Options) -> _Digest:
    from aero_local import json_digest

    return partial(json_digest.digest, ignore=json_digest.Pointers(options))


def _text(options: Options) -> _Digest:
    ignored = [_compiled(options, pattern) for pattern in options.texts("ignore", "an expression")]
    return partial(_digest_lines, ignored=ignored)


def _digest_lines(artifact: Artifact, progress: Progress, ignored: Sequence[re.Pattern[str]]) -> str:
    """Lines in order; left out are those in which an `ignore` expression is found."""
    digest = hashlib.sha256()
    inside = False
    for piece in pieces(artifact, progress):
        whole = not inside and (piece.endswith("\n") or len(piece) < LINE_LIMIT)
        inside = not piece.endswith("\n")
        # A line that is read in pieces is never ignored: an expression is for whole lines.
        if whole and any(pattern.search(piece.rstrip("\n")) for pattern in ignored):
            inside = False
            continue
        digest.update(piece.encode("utf-8", "surrogatepass"))
    if inside:
        # The last line's newline is a line end, which does not count.
        digest.update(b"\n")
    return digest.hexdigest()


def _compiled(options: Options, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as problem:
        raise options.wrong("ignore", pattern, f"a regular expression ({problem})") from None


def _csv(options: Options) -> _Digest:
    return partial(
        _digest_rows,
        ignored=frozenset(options.texts("ignore", "a column's name")),
        any_order=options.flag("any_order"),
        delimiter=options.character("delimiter"),
    )


def _digest_rows(
    artifact: Artifact, progress: Progress, ignored: Collection[str], any_order: bool, delimiter: str | None
) -> str:
    """Rows of cells; left out are the `ignore` columns, and with `any_order` the rows' order."""
    rows = _rows(artifact, delimiter, progress)
    header = next(rows, [])
    kept = [at for at, name in enumerate(header) if name.strip() not in ignored]
    select = _selection(header, kept)
    digest = hashlib.sha256(_encode(select(header)).encode() + b"\n")
    if any_order:
        digest.update(Multiset(_encode(select(row)).encode() for row in rows).digest())
    else:
        for row in rows:
            digest.update(_encode(select(row)).encode() + b"\n")
    return digest.hexdigest()


def _selection(header: list[str], kept: list[int]) -> Callable[[list[str]], list[str]]:
    """A function that leaves the ignored columns out of a row, whatever the row's length."""
    width = len(header)
    if len(kept) == width:
        return lambda row: row
    return lambda row: [row[at] for at in kept if at < len(row)] + row[width:]


def _rows(artifact: Artifact, delimiter: str | None, progress: Progress) -> Iterator[list[str]]:
    """Rows with cells; blank lines between them say nothing."""
    # The module's own limit of 128 KiB a cell is less than an outline on a map takes. It is the
    # process's, and only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), LINE_LIMIT))
    lines = _RowLines(whole_lines(artifact, progress))
    first = next(lines, None)
    if first is None:
        return
    reader = csv.reader(chain((first,), lines), delimiter=delimiter or _likely_delimiter(first))
    while True:
        try:
            row = next(reader, None)
        except csv.Error as problem:
            raise FetchError(
                f"the content is not CSV: {problem} in line {reader.line_num}; is a quote left open?",
                retryable=False,
            ) from None
        if row is None:
            return
        lines.begin_row()
        if row:
            yield row


class _RowLines:
    """Lines that are read as rows: behind a quote that is left open, a row would hold all of them."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._number = self._first = 1
        self._size = 0

    def begin_row(self) -> None:
        """Count anew."""
        self._first, self._size = self._number, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        self._size += len(line)
        if self._size > LINE_LIMIT:
            raise FetchError(
                f"the content has a row of more than {LINE_LIMIT} characters that begins in line {self._first}: "
                "too long for the rule csv; is a quote left open? If not, use rule='bytes'",
                retryable=False,
            )
        return line


def _likely_delimiter(header: str) -> str:
    """The delimiter that occurs most often in the header outside quotes; a comma if none does."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)


_RULES: dict[str, Callable[[Options], _Digest]] = {
    "bytes": lambda options: lambda artifact, progress: artifact.checksum.rpartition(":")[2],
    "json": _json,
    "csv": _csv,
    "text": _text,
}
