"""A digest of many things whose order does not matter, in memory that does not grow with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_BITS = 512
_MASK = (1 << _BITS) - 1


class Multiset:
    """Digest of a multiset of byte strings: how often each occurs counts, in which order does not.

    Each is hashed to 512 bits and the hashes are added modulo 2^512, then hashed with their number.
    An exclusive or would let equal pairs vanish; a sum does not. Two multisets that were not made
    to collide are as unlikely to do so as two hashes are. Whoever sets out to make a collision
    needs far less than 2^256 steps, but would only keep their own source from making a version.
    """

    __slots__ = ("_count", "_sum")

    def __init__(self, members: Iterable[bytes] = ()) -> None:
        self._sum = 0
        self._count = 0
        self.update(members)

    def update(self, members: Iterable[bytes]) -> None:
        """Take more."""
        total, count, hashed = self._sum, self._count, hashlib.blake2b
        for member in members:
            total += int.from_bytes(hashed(member).digest(), "big")
            count += 1
        self._sum, self._count = total & _MASK, count

    def digest(self) -> bytes:
        """32 bytes that are equal for equal multisets."""
        total = self._sum.to_bytes(_BITS // 8, "big")
        return hashlib.sha256(total + str(self._count).encode()).digest()
