"""Content codings that a server applies although none was asked for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_PIECE = 1 << 20
#: gzip or zlib, whichever the first bytes tell.
_ANY_HEADER = 47
CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


class Inflater:
    """Undoes gzip and deflate, in pieces: a bomb is met by the size limit, not by the memory."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_ANY_HEADER)

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The content in a block.

        Raises:
            ValueError: The block is not compressed as announced.
        """
        try:
            while block:
                if self._member.eof:
                    self._member = zlib.decompressobj(_ANY_HEADER)
                if piece := self._member.decompress(block, _PIECE):
                    yield piece
                block = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error as error:
            raise ValueError("not compressed as announced") from error

    @property
    def complete(self) -> bool:
        """Whether the content may end here."""
        return self._member.eof
