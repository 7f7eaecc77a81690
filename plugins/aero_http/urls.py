"""URLs: which may be fetched, which belong together, how they are shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from aero_core.errors import FetchError

_PORTS = {"http": 80, "https": 443}
_SHOWN_LIMIT = 200
#: What a terminal or a log would act on, and what URL parsers disagree about.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_NO_PORT = re.compile(r":(?!\d*$)[^\]]*$")


def shown(url: str) -> str:
    """A URL for messages: without query, fragment and userinfo, which may hold secrets."""
    place = re.split(r"[?#]", url, maxsplit=1)[0]
    scheme, colon, rest = place.partition(":")
    slashes = rest[: len(rest) - len(rest.lstrip("/\\"))]
    host, slash, path = rest[len(slashes) :].partition("/")
    # A malformed URL is shown as well: what follows a host's colon may be a password.
    host = _NO_PORT.sub("", host.rpartition("@")[2])
    place = _CONTROL.sub("?", scheme + colon + slashes + host + slash + path)
    return place if len(place) <= _SHOWN_LIMIT else place[: _SHOWN_LIMIT - 3] + "..."


def check_url(url: str) -> SplitResult:
    """The parts of a URL that may be fetched.

    Raises:
        FetchError: It is malformed, of another scheme, or carries a user name.
    """
    parts = _split(url)
    if parts.scheme not in _PORTS:
        raise _refused(url, "only http and https can be fetched here")
    if "@" in parts.netloc:
        raise _refused(url, "a user name in a URL would end up in records; use an authenticator instead")
    if any(sign.isspace() for sign in parts.netloc):
        raise _refused(url, "it is no valid URL")
    if not parts.hostname:
        raise _refused(url, "it names no host")
    return parts


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what credentials are given to."""
    parts = check_url(url)
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme, host, parts.port or _PORTS[parts.scheme]


def _split(url: str) -> SplitResult:
    if _CONTROL.search(url) or "\\" in url:
        raise _refused(url, "it contains a control character or a backslash")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _refused(url, "it is no valid URL") from None
    return parts


def _refused(url: str, why: str) -> FetchError:
    return FetchError(f"Cannot fetch {shown(url)}: {why}", retryable=False)
