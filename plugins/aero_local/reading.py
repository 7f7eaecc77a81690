"""Files in blocks and text line by line, whatever its charset and line endings."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aero_core.errors import FetchError
from aero_core.models import Artifact, Progress

#: Characters of the longest line that is held in memory.
LINE_LIMIT = 1 << 24
#: Bytes that are read, and told, at once.
BLOCK = 1 << 16


def charset(artifact: Artifact) -> str:
    """The name by which Python knows an artifact's charset; UTF-8 where nothing is known.

    Raises:
        FetchError: Python does not know it.
    """
    name = artifact.encoding or "utf-8"
    try:
        # Python also knows codecs that are no charsets, such as `hex`: this refuses them.
        "".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise FetchError(f"the content is said to be in charset {name!r}, which is unknown", retryable=False) from None


class _Told(io.FileIO):
    """A file that tells how much of it has been read."""

    def __init__(self, artifact: Artifact, progress: Progress) -> None:
        super().__init__(artifact.path)
        self._progress, self._total, self._done = progress, artifact.size, 0

    def readinto(self, buffer: Any, /) -> int | None:
        if count := super().readinto(buffer):
            self._done += count
            self._progress(self._done, self._total)
        return count


def open_bytes(artifact: Artifact, progress: Progress) -> io.BufferedReader:
    """A file; what `progress` raises comes out of reading it."""
    return io.BufferedReader(_Told(artifact, progress), BLOCK)


@contextmanager
def open_text(artifact: Artifact, progress: Progress, newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """A file's text.

    Raises:
        FetchError: It is not in its charset; the message says where.
    """
    name = charset(artifact)
    with io.TextIOWrapper(open_bytes(artifact, progress), name, newline=newline) as file:
        try:
            yield file
        except UnicodeDecodeError:
            raise _undecodable(artifact, name) from None


def pieces(artifact: Artifact, progress: Progress) -> Iterator[str]:
    """Lines with their newlines, which the last may lack; lines over the limit in pieces."""
    first = True
    with open_text(artifact, progress) as file:
        while piece := file.readline(LINE_LIMIT):
            yield piece.removeprefix("\ufeff") if first else piece
            first = False


def whole_lines(artifact: Artifact, progress: Progress) -> Iterator[str]:
    """Lines as from `pieces`.

    Raises:
        FetchError: One is over the limit.
    """
    for number, piece in enumerate(pieces(artifact, progress), 1):
        if len(piece) == LINE_LIMIT and not piece.endswith("\n"):
            raise FetchError(
                f"the content has more than {LINE_LIMIT} characters in line {number}",
                retryable=False,
            )
        yield piece


def _undecodable(artifact: Artifact, name: str) -> FetchError:
    """Where a file is not in its charset: found by reading it again, which only errors pay for."""
    decoder = codecs.getincrementaldecoder(name)()
    line, offset = 1, 0
    with Path(artifact.path).open("rb") as file:
        while True:
            block = file.read(BLOCK)
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
        f"the content is not text in charset {name}: see line {line} (byte {offset})",
        retryable=False,
    )
