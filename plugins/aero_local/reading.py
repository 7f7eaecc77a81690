"""Text files line by line, whatever their charset and line endings."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from aero_core.errors import FetchError
from aero_core.models import Artifact

#: Characters of the longest line that is held in memory.
LINE_LIMIT = 1 << 24
_BLOCK = 1 << 20


def charset(artifact: Artifact) -> str:
    """The name by which Python knows an artifact's charset; UTF-8 where nothing is known.

    Raises:
        FetchError: Python does not know it.
    """
    name = artifact.encoding or "utf-8"
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise FetchError(
            f"{artifact.path} is said to be in charset {name!r}, which is unknown", retryable=False
        ) from None


def pieces(artifact: Artifact) -> Iterator[str]:
    """Lines with their newlines, which the last may lack; lines over the limit in pieces."""
    name = charset(artifact)
    first = True
    with Path(artifact.path).open(encoding=name) as file:
        try:
            while piece := file.readline(LINE_LIMIT):
                yield piece.removeprefix("\ufeff") if first else piece
                first = False
        except UnicodeDecodeError:
            raise _undecodable(artifact, name) from None


def whole_lines(artifact: Artifact) -> Iterator[str]:
    """Lines as from `pieces`.

    Raises:
        FetchError: One is over the limit.
    """
    for number, piece in enumerate(pieces(artifact), 1):
        if len(piece) == LINE_LIMIT and not piece.endswith("\n"):
            raise FetchError(
                f"{artifact.path}: line {number} has more than {LINE_LIMIT} characters",
                retryable=False,
            )
        yield piece


def _undecodable(artifact: Artifact, name: str) -> FetchError:
    """Where a file is not in its charset: found by reading it again, which only errors pay for."""
    decoder = codecs.getincrementaldecoder(name)()
    line, offset = 1, 0
    with Path(artifact.path).open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            pending = len(decoder.getstate()[0])
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as problem:
                good = problem.object[: problem.start]
                line += good.decode(name, "replace").count("\n")
                offset += problem.start - pending
                break
            if not block:
                break
            offset += len(block)
    return FetchError(
        f"{artifact.path} is not text in charset {name}: see line {line} (byte {offset})",
        retryable=False,
    )
