"""Where a body ends, by its headers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aero_http.messages import LENGTH, cannot

#: RFC 9110, 8.6: a proxy may have joined equal ones.
_LENGTHS = re.compile(r"[0-9]{1,18}(?:[ \t]*,[ \t]*[0-9]{1,18})*")


def announced(headers: Mapping[str, str], url: str) -> int | None:
    """Bytes of a body; None where chunks or the connection's end tell.

    Raises:
        FetchError: Its end cannot be known: what there is might be a part.
    """
    applied = headers.get("Transfer-Encoding")
    # Just so: what reads the body below takes any other spelling for no chunks.
    if applied and applied.lower() != "chunked":
        why = "the server packs its answer in a way that was not asked for (Transfer-Encoding)"
        raise cannot(url, why, retryable=False)
    text = headers.get("Content-Length")
    # RFC 9112, 6.3: beside chunks a length means nothing.
    if applied or text is None:
        return None
    lengths = set(map(int, text.split(","))) if _LENGTHS.fullmatch(text.strip()) else set()
    if len(lengths) != 1:
        raise cannot(url, LENGTH, retryable=False)
    return lengths.pop()
