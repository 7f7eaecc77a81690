"""Where a body ends, by its headers."""

from __future__ import annotations

import re
from typing import Any

import requests
from urllib3.exceptions import HeaderParsingError
from urllib3.util.response import assert_header_parsing

from aero_http.messages import LENGTH, NO_HTTP, Interrupted, cannot

#: RFC 9110, 8.6: a proxy may have joined equal ones.
_LENGTHS = re.compile(r"[0-9]{1,18}(?:[ \t]*,[ \t]*[0-9]{1,18})*")


def announced(response: requests.Response, url: str) -> int | None:
    """Bytes of a body; None where chunks or the connection's end tell.

    Raises:
        FetchError: Its end cannot be known: what there is might be a part.
        Interrupted: The same, but it may pass.
    """
    raw: Any = response.raw
    try:
        # Python leaves out what follows a line that is no header, Content-Length and all, and urllib3 only logs it.
        assert_header_parsing(raw._original_response.msg)
    except HeaderParsingError as error:
        raise Interrupted(cannot(url, NO_HTTP)) from error
    headers = response.headers
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
