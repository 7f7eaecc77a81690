"""Answers that never come to their end: a timeout bounds each silence, but not how many there are."""

from __future__ import annotations

import http.client
import io
import math
import time
from typing import Any

from urllib3 import HTTPConnectionPool, PoolManager

#: Of the timeout: what headers may take, and what may pass without any content.
SPAN = 2


class Late(TimeoutError):
    """The server sends, but it does not get on; the text may be shown."""


class _Watched(io.RawIOBase):
    """What a socket sends, as long as it may take."""

    def __init__(self, raw: io.RawIOBase, span: float) -> None:
        self._raw, self._span = raw, span
        self.expect("its headers were not complete")

    def expect(self, otherwise: str) -> None:
        """Begin to count; `otherwise` says what is wrong when the time is over."""
        self._until, self._otherwise = time.monotonic() + self._span, otherwise

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        # Each single read ends by the socket's own timeout.
        count = self._raw.readinto(buffer)
        if time.monotonic() > self._until:
            raise Late(f"{self._otherwise} within {self._span:g} s, although the server sent something")
        return count

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that must get on, also one of a proxy to `CONNECT`."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        reader: Any = self.fp
        self._watched = _Watched(reader.detach(), SPAN * (sock.gettimeout() or math.inf))
        self.fp = io.BufferedReader(self._watched)

    def begin(self, **how: Any) -> None:
        """Read status and headers; Python alone would take `103 Early Hints` for the answer."""
        super().begin(**how)
        while 100 <= self.status < 200 and self.status != http.HTTPStatus.SWITCHING_PROTOCOLS:
            unset: Any = None
            self.headers = unset
            super().begin(**how)

    def read1(self, n: int = -1) -> bytes:
        """Some of the body; what is around its chunks must not take forever either."""
        self._watched.expect("nothing of its content came")
        return super().read1(n)


def watch(manager: PoolManager) -> None:
    """Let nobody be late on connections that are made from now on."""
    manager.pool_classes_by_scheme = {
        scheme: _watched_pool(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _watched_pool(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    made = pool.ConnectionCls
    connection = type(made.__name__, (made,), {"response_class": _Response})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})
