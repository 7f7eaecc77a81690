"""Text of others on its way to a terminal: a log, a description or a file's name must not steer it.

Nor are secrets shown that stand in URLs, to people or to programs: what is printed gets into logs and tickets.
"""

from __future__ import annotations

import re

#: Control characters but for tab and newline, halves of characters, and what turns the direction of writing.
_STEERING = "\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069"
_ALONE = re.compile(f"[{_STEERING}]")
_COLOUR_OR_ALONE = re.compile(rf"(\x1b\[[0-9;:]*m)|[{_STEERING}]")
_IN_JSON = re.compile(r"[\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
#: The user part of a URL; and in its query, or fragment, values whose names say that they let somebody in.
_USER = re.compile(r"(?<=://)[^/?#\s\"\\]*@")
_SECRET = re.compile(
    r"([?&#;](?:[^=&#;?\s\"\\']*[-_.])?"
    r"(?:access|api|auth|client|id|private|refresh|sas|secret|session|shared|subscription|user)*"
    r"(?:appid|auth|authorization|credentials?|jwt|key|passphrase|passwd|password|pwd|secret|sig|signature|token)=)"
    r"[^&#\s\"\\']+",
    re.IGNORECASE,
)
#: Ends all colours.
PLAIN = "\x1b[0m"


def harmless(text: str) -> str:
    r"""Text with what would steer a terminal written out, such as `\x1b`, and without secrets of URLs."""
    return _ALONE.sub(_written_out, _redacted(text))


def harmless_but_coloured(text: str, colours: bool) -> str:
    """As `harmless`, but for codes that set colours: these stay, or go without a trace."""
    return _COLOUR_OR_ALONE.sub(lambda found: (found[1] if colours else "") if found[1] else _written_out(found), text)


def harmless_json(text: str) -> str:
    """JSON with what `json.dumps` leaves in it of that written as JSON writes it, and without secrets of URLs."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", _redacted(text))


def _redacted(text: str) -> str:
    return _SECRET.sub(r"\1***", _USER.sub("***@", text))


def _written_out(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
