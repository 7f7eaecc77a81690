"""One question and its answer: redirects followed, credentials kept at home."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3.exceptions
from attrs import frozen
from requests.structures import CaseInsensitiveDict

from aero_core.errors import FetchError
from aero_core.models import SourceMember
from aero_http.lateness import SPAN
from aero_http.messages import Interrupted, cannot, connection_failed, seconds
from aero_http.settings import Settings
from aero_http.urls import check_url, origin

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SMALL, _PIECES = 1 << 14, 4
#: Headers on which length, resuming and comparing rest.
_OURS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
#: What requests and urllib3 raise before the body; both leave some of their kin unwrapped.
FAILURES = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
)


@frozen
class Answer:
    """A final answer, whose body is not yet read.

    Attributes:
        response: The answer itself; whoever takes it closes it.
        url: Who gave it, at the end of all redirects.
        withheld: Credentials were kept from it, because a redirect led there.
    """

    response: requests.Response
    url: str
    withheld: bool

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers."""
        headers: Mapping[str, str] = self.response.headers
        return headers


def own_headers(member: SourceMember) -> dict[str, str]:
    """The headers that a source's options ask for: they may be secrets.

    Raises:
        FetchError: An option is unknown or wrong; its value is not shown.
    """
    for name in member.options:
        if name != "headers":
            raise cannot(member.url, f"there is no source option {name!r}", retryable=False)
    headers = member.options.get("headers", {})
    if not isinstance(headers, Mapping) or not all(isinstance(part, str) for pair in headers.items() for part in pair):
        raise cannot(member.url, "the source option 'headers' maps text to text", retryable=False)
    for name in headers:
        # What requests makes of other text is an error that speaks of something else.
        if not (name + headers[name]).isascii():
            why = "a header in the source's options has an invalid name or value"
            raise cannot(member.url, why, retryable=False)
        if name.lower() in _OURS:
            why = f"the source option 'headers' cannot set {name}: fetching itself does"
            raise cannot(member.url, why, retryable=False)
    return dict(headers)


def ask(
    session: requests.Session,
    url: str,
    headers: Mapping[str, str],
    credentials: Mapping[str, str],
    settings: Settings,
) -> Answer:
    """Get `url`, following redirects.

    Args:
        session: For its connections.
        url: What to get.
        headers: Sent to everyone.
        credentials: Headers for the URL's own origin alone; not sent again once a redirect left it.
        settings: Timeouts and number of redirects.

    Raises:
        FetchError: There is no answer, or a redirect that may not be followed.
        Interrupted: The same, but it may pass.
    """
    home, here, withheld = origin(url), url, False
    span = SPAN * settings.read_timeout
    until = time.monotonic() + span
    for _ in range(settings.redirects + 1):
        sent = headers if withheld else {**credentials, **headers}
        response = _send(session, here, sent, settings)
        if response.status_code not in _REDIRECTS:
            return Answer(response, here, withheld and bool(credentials))
        there = _follow(session, response, here)
        if time.monotonic() > until:
            raise Interrupted(cannot(url, f"its redirects came to no end within {seconds(span)}"))
        withheld = withheld or origin(there) != home
        here = there
    raise cannot(url, f"it redirects more than {settings.redirects} times", retryable=False)


def _send(session: requests.Session, url: str, headers: Mapping[str, str], settings: Settings) -> requests.Response:
    merged = CaseInsensitiveDict(session.headers)
    merged.update(headers)
    try:
        # Prepared without the session, so that ~/.netrc is not read, and sent without it, since
        # it would read a redirect's body whole, however long, and keep cookies.
        request = requests.Request("GET", url, headers=dict(merged)).prepare()
        surroundings: Any = session.merge_environment_settings(url, {}, True, None, None)
        _check_bundle(url, surroundings["verify"])
        return session.get_adapter(url).send(
            request,
            timeout=(settings.connect_timeout, settings.read_timeout),
            **surroundings,
        )
    except FetchError:
        raise
    except FAILURES as error:
        raise connection_failed(url, error, settings) from error


def _check_bundle(url: str, verify: object) -> None:
    if isinstance(verify, str) and not os.path.exists(verify):  # noqa: PTH110 - text from outside
        why = "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names a file that does not exist"
        raise cannot(url, why, retryable=False)


def _follow(session: requests.Session, response: requests.Response, here: str) -> str:
    """Where a redirect leads."""
    try:
        location: str | None = session.get_redirect_target(response)
    except ValueError:
        location = None
    with closing(response), suppress(*FAILURES):
        # Read, a short body leaves the connection usable; one that trickles is not waited for.
        for _ in range(_PIECES):
            if not response.raw.read1(_SMALL):
                break
    if not location:
        raise cannot(here, "it redirects to nowhere", retryable=False)
    try:
        there = urljoin(here, location)
    except ValueError:
        raise cannot(here, "it redirects to no valid URL", retryable=False) from None
    try:
        parts = check_url(there)
    except FetchError as error:
        raise cannot(here, f"it redirects where it may not: {error}", retryable=False) from None
    if here.lower().startswith("https:") and parts.scheme != "https":
        why = "it redirects from https to http, which would give up encryption"
        raise cannot(here, why, retryable=False)
    return there
