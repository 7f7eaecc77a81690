"""One line for each failure: what failed, why, and what to do.

No text of a server gets into a message, and of a URL neither query nor user name.
"""

from __future__ import annotations

import errno
import http.client
import math
import os
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import requests
import urllib3.exceptions

from aero_core.errors import ContentGone, FetchError
from aero_http.lateness import Late
from aero_http.settings import Settings
from aero_http.times import read_time
from aero_http.urls import shown

_SECONDS = re.compile(r"[0-9]+")
#: Three centuries: a longer wait is counted as this one.
_LONGEST_WAIT = 10.0**10
NO_HTTP = "the answer is no valid HTTP"
LENGTH = "its Content-Length is not one number, so that a part could pass for the whole; tell who runs the server"
_AGAIN = frozenset({202, 408, 425, 429})
_HINTS = {
    202: "the content is still being prepared",
    400: "check the URL",
    401: "it wants credentials, or other ones",
    403: "credentials are missing or not allowed to read it",
    404: "check the URL",
    407: "the proxy wants credentials; check HTTP_PROXY and HTTPS_PROXY",
    410: "it has been removed for good",
    429: "too many requests",
}


class Interrupted(Exception):
    """A failure that may pass: try again, and raise `error` when patience is out.

    Attributes:
        error: What to tell in the end.
    """

    def __init__(self, error: FetchError) -> None:
        super().__init__(str(error))
        self.error = error


def cannot(url: str, why: str, *, retryable: bool = True, retry_after: float | None = None) -> FetchError:
    """The error of a fetch that failed because of `why`."""
    return FetchError(f"Cannot fetch {shown(url)}: {why}", retryable=retryable, retry_after=retry_after)


def gone(url: str, why: str) -> ContentGone:
    """The error of content that is no longer what was referred to."""
    return ContentGone(f"Cannot fetch {shown(url)}: its content is no longer the wanted one: {why}")


def raised(error: FetchError) -> Exception:
    """What to raise for `error`: a permanent one as it is, others as an interruption."""
    return Interrupted(error) if error.retryable else error


def unwanted_status(url: str, status: int, headers: Mapping[str, str], *, withheld: bool = False) -> Exception:
    """What to raise for an answer without content.

    Args:
        url: Who answered.
        status: What it answered.
        headers: For `Retry-After`.
        withheld: Credentials were at hand but not sent, because a redirect led elsewhere.
    """
    try:
        phrase = f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = str(status)
    hint = _HINTS.get(status, "")
    if withheld and status in (401, 403):
        hint = "a redirect led to this host, and credentials are not handed on to another host"
    elif 400 <= status < 500 and not hint:
        hint = "check the URL"
    if status < 300 and status != 202:
        hint = "that is no content"
    retryable = status in _AGAIN or status >= 500
    why = f"the server answers {phrase}" + (f": {hint}" if hint else "")
    wait = _retry_after(headers) if retryable else None
    if wait:
        why += f" (it asks to wait {wait:.0f} s)"
    return raised(cannot(url, why, retryable=retryable, retry_after=wait))


def connection_failed(url: str, error: BaseException, settings: Settings) -> Exception:
    """What to raise for an exception of requests, urllib3 or the socket."""
    causes = list(_causes(error))
    why, retryable = _why(causes, settings)
    if any(isinstance(cause, urllib3.exceptions.ProxyError) for cause in causes):
        why = f"the proxy cannot be used: {why}; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    return raised(cannot(url, why, retryable=retryable))


def disk_failed(target: str, error: OSError) -> FetchError:
    """The error of a target that cannot be written."""
    why = os.strerror(error.errno) if error.errno else type(error).__name__
    hint = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return FetchError(f"Cannot write {target}: {why}{hint}")


def seconds(value: float) -> str:
    """A time span for people."""
    return f"{value:g} s"


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait that a server asks for, in whole seconds; urllib3's own reading is capped."""
    text = headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _LONGEST_WAIT)
    if (at := read_time(text)) is None:
        return None
    # By the server's own clock, if it tells it.
    now = read_time(headers.get("Date", "")) or datetime.now(UTC)
    return float(max(0, math.ceil((at - now).total_seconds())))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that an exception wraps, in any of the ways that libraries do it."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inner = [getattr(cause, "reason", None), getattr(cause, "original_error", None)]
        inner += [*cause.args, cause.__cause__, cause.__context__]
        waiting += [one for one in inner if isinstance(one, BaseException)]


def _why(causes: list[BaseException], settings: Settings) -> tuple[str, bool]:
    """Why, and whether it may pass; the first kind that is among the causes tells."""

    def find(*kinds: type[BaseException]) -> BaseException | None:
        return next((cause for cause in causes if isinstance(cause, kinds)), None)

    if isinstance(cause := find(ssl.SSLCertVerificationError), ssl.SSLCertVerificationError):
        why = cause.verify_message or "verification failed"
        return f"its TLS certificate is not trusted ({_plain(why)})", False
    # Of the answer: several lengths. requests has one of that name, too, for what is sent.
    if find(urllib3.exceptions.InvalidHeader):
        return LENGTH, False
    if find(requests.exceptions.InvalidHeader):
        return "a header in the source's options has an invalid name or value", False
    if find(
        requests.exceptions.InvalidProxyURL,
        urllib3.exceptions.ProxySchemeUnknown,
        urllib3.exceptions.ProxySchemeUnsupported,
    ):
        return "the proxy's URL is not valid; check HTTP_PROXY and HTTPS_PROXY", False
    if find(requests.exceptions.InvalidSchema):
        return "the proxy is a SOCKS one, which needs the package PySocks where the run happens", False
    if find(requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError, UnicodeError):
        return "it is no valid URL", False
    if find(socket.gaierror, urllib3.exceptions.NameResolutionError):
        return "its host name cannot be resolved; check the URL and the network", True
    if late := find(Late):
        return str(late), True
    # A refused or unreachable address derives from ConnectTimeoutError too.
    refused = find(urllib3.exceptions.NewConnectionError)
    # That TLS took too long, Python tells by words alone.
    handshake = any(isinstance(cause, TimeoutError) and "handshake" in str(cause) for cause in causes)
    if handshake or (find(urllib3.exceptions.ConnectTimeoutError) and not refused):
        return f"no connection within {seconds(settings.connect_timeout)}", True
    if find(urllib3.exceptions.ReadTimeoutError, requests.exceptions.ReadTimeout):
        return f"the server sent nothing for {seconds(settings.read_timeout)}", True
    if find(ConnectionRefusedError):
        return "the connection was refused; is the server running?", True
    return _broken(causes)


def _broken(causes: list[BaseException]) -> tuple[str, bool]:
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return f"no TLS connection ({_plain(cause.reason or 'it broke off')})", True
        if isinstance(cause, ConnectionError | http.client.IncompleteRead):
            return "the connection broke off", True
        if isinstance(cause, http.client.HTTPException):
            return NO_HTTP, True
        if isinstance(cause, OSError) and cause.errno and not isinstance(cause, requests.exceptions.RequestException):
            return f"the connection failed ({os.strerror(cause.errno)})", True
        if isinstance(cause, OSError) and str(cause).startswith("Tunnel connection failed"):
            return _plain(str(cause)), True
    return f"the connection failed ({type(causes[-1]).__name__})", True


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:100]
