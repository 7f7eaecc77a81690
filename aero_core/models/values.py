"""Small values that other models are made of: names, rules, validators, time spans."""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from attrs import frozen

from aero_core.errors import InvalidValue

#: Any value that JSON can carry.
JSON = Any
#: What a source says of its content so that it need not be read again: backend's own names and texts.
Validators = Mapping[str, str]
#: Called with (bytes done, bytes in all or None); may raise to cancel the transfer.
Progress = Callable[[int, int | None], None]

NAME_LIMIT = 200
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kKMGT]?i?)[Bb]?\s*")
_SPAN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\s*")
_SPAN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZE_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
#: The largest whole number that databases and systems take, and the largest size with room for sums of such.
LARGEST, LARGEST_SIZE = 2**63 - 1, 2**60
#: Digits of a version's number that any database takes.
NUMBER_DIGITS = 18
_LONGEST_SHOWN = 80


def new_id() -> str:
    """A new random id (UUID, RFC 9562 version 4)."""
    return str(uuid.uuid4())


def utc_now() -> datetime:
    """This machine's clock, in UTC. Decisions use the catalog's clock instead."""
    return datetime.now(UTC)


def steady_clock() -> Callable[[], datetime]:
    """A clock that tells the time in UTC from now on, and that nobody sets meanwhile."""
    since, at = utc_now(), time.monotonic()
    return lambda: since + timedelta(seconds=time.monotonic() - at)


def shown(value: object) -> str:
    """A value for a message: not too long of it, and something of one that cannot be told."""
    try:
        text = repr(value)
    # Numbers of thousands of digits, lists that hold themselves, and other people's classes.
    except Exception:  # noqa: BLE001
        return f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def check_name(name: object, what: str) -> str:
    """Answer `name` if data or flows may bear it.

    Args:
        name: Letters, digits, `_` and `-`, with `.` between parts; at most 200 characters.
        what: What bears the name, for the message.

    Raises:
        InvalidValue: It is no such name.
    """
    if not isinstance(name, str) or len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
        shown = repr(name) if len(repr(name)) <= 60 else repr(name)[:57] + "..."
        raise InvalidValue(
            f"{what} cannot be named {shown}: use letters, digits, '_' and '-', with '.' between parts, "
            f"at most {NAME_LIMIT} characters"
        )
    return name


def parse_span(value: float | int | str, what: str) -> float:
    """A time span in seconds from a number of seconds or text such as `"15m"` or `"1d"`.

    Raises:
        InvalidValue: It is no span, or not longer than zero.
    """
    seconds: float | None = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 10**10 else None
    elif isinstance(value, str) and (match := _SPAN.fullmatch(value)):
        seconds = float(match[1]) * _SPAN_SECONDS[match[2]]
    if seconds is None or not 0 < seconds < 10**10:
        raise InvalidValue(
            f"{what} is {shown(value)}: expected seconds above 0, or text such as '30s', '15m', '6h', '1d'"
        )
    return seconds


def parse_size(value: int | str, what: str) -> int:
    """A size in bytes from a number of bytes or text such as `"10GB"` (powers of 1000) or `"2GiB"` (1024).

    Raises:
        InvalidValue: It is no size, or not larger than zero.
    """
    size: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        base = 1024 if match[2].endswith("i") else 1000
        size = int(min(float(match[1]), LARGEST) * base ** _SIZE_POWERS.get(match[2].rstrip("i"), 0))
    if size is None or size <= 0:
        raise InvalidValue(f"{what} is {shown(value)}: expected bytes above 0, or text such as '500MB' or '2GiB'")
    if size > LARGEST_SIZE:
        raise InvalidValue(f"{what} is {shown(value)}: expected at most 2**60 bytes")
    return size


def canonical_json(value: JSON) -> str:
    """JSON text that is equal for equal values: sorted keys, no blanks, no NaN.

    Raises:
        ValueError, TypeError: JSON cannot carry the value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def short_hash(value: JSON, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


@frozen
class Rule:
    """A fingerprint rule: what counts as changed content.

    Attributes:
        name: The rule's name as its plugin declares it (`bytes`, `json`, `csv`, `text`).
        options: What the rule is told, by name.
    """

    name: str = "bytes"
    options: Mapping[str, JSON] = attrs.field(factory=dict)

    @property
    def id(self) -> str:
        """Name and options as one word: fingerprints are comparable when this is equal."""
        return self.name if not self.options else f"{self.name}-{short_hash(dict(self.options), 8)}"


@frozen
class Schedule:
    """When a flow is looked at: an interval or a cron expression.

    Attributes:
        seconds: Interval between ticks, or None with `cron`.
        cron: Five-field cron expression, or None with `seconds`.
        tz: IANA zone that the cron expression is read in.
    """

    seconds: float | None = None
    cron: str | None = None
    tz: str = "UTC"

    def __str__(self) -> str:
        if self.cron is not None:
            return self.cron if self.tz == "UTC" else f"{self.cron} {self.tz}"
        seconds = self.seconds or 0
        for unit in ("w", "d", "h", "m"):
            if seconds >= _SPAN_SECONDS[unit] and seconds % _SPAN_SECONDS[unit] == 0:
                return f"every {seconds / _SPAN_SECONDS[unit]:g}{unit}"
        return f"every {timedelta(seconds=seconds).total_seconds():g}s"
