"""When a schedule's ticks fall: pure functions of time.

Interval ticks are anchor + n x interval; from the second one on they are shifted by a fixed offset, so that flows
of equal interval do not all start in the same second. Cron ticks follow the wall clock of their zone: a local time
that the clock skips counts at the next valid instant, one that it shows twice counts once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from aero_core.errors import InvalidValue
from aero_core.models import Schedule, parse_span, shown

#: Ticks of equal interval are spread over this part of it, and over no more than `SPREAD_LIMIT` seconds.
SPREAD_PART = 0.1
SPREAD_LIMIT = 300.0
#: The shortest interval; the engine is no real-time system.
SHORTEST = 0.1


def parse_schedule(every: float | int | str | None, tz: str = "UTC") -> Schedule | None:
    """A schedule from what a flow file says.

    Args:
        every: Seconds, text such as `"15m"` or `"1d"`, a cron expression of five fields, or None for no schedule.
        tz: IANA zone for a cron expression.

    Raises:
        InvalidValue: `every` is neither, never comes, or the zone is unknown.
    """
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise InvalidValue(f"tz is {tz!r}: expected a time zone such as 'UTC' or 'America/Chicago'") from None
    if every is None:
        return None
    if isinstance(every, str) and len(every.split()) == 5:
        return _cron(" ".join(every.split()), tz)
    try:
        seconds = parse_span(every, "every")
    except InvalidValue:
        raise InvalidValue(
            f"every is {shown(every)}: expected seconds, text such as '15m' or '1d', "
            "or a cron expression such as '0 6 * * *'"
        ) from None
    if seconds < SHORTEST:
        raise InvalidValue(f"every is {every!r}: expected at least {SHORTEST} seconds")
    return Schedule(seconds=seconds, tz=tz)


def _cron(expression: str, tz: str) -> Schedule:
    try:
        next(CronSim(expression, datetime(2024, 1, 1)))  # noqa: DTZ001  the wall clock of any zone
    except (CronSimError, StopIteration):
        raise InvalidValue(f"every is {expression!r}: not a cron expression with a time that ever comes") from None
    return Schedule(cron=expression, tz=tz)


def first_tick(schedule: Schedule, anchor: datetime, key: str) -> datetime:
    """The first tick at or after the anchor: the anchor itself for an interval."""
    if schedule.cron is None:
        return anchor
    return next_tick(schedule, anchor, anchor - timedelta(microseconds=1), key)


def next_tick(schedule: Schedule, anchor: datetime, after: datetime, key: str) -> datetime:
    """The first tick after an instant; those missed in between are one.

    Args:
        schedule: Interval or cron.
        anchor: Instant of the first interval tick, UTC.
        after: UTC; the answer is later.
        key: What decides the fixed offset of interval ticks, such as the flow's id.
    """
    if schedule.cron is not None:
        return next(instant for instant in _cron_instants(schedule, after) if instant > after)
    interval = schedule.seconds or 0.0
    if after < anchor:
        return anchor
    first = anchor + timedelta(seconds=spread(interval, key))
    # One less than the quotient says: division may round up to a tick that is still to come.
    number = max(1, math.floor((after - first).total_seconds() / interval))
    while (tick := first + timedelta(seconds=number * interval)) <= after:
        number += 1
    return tick


def spread(interval: float, key: str) -> float:
    """The fixed offset in seconds of a flow's ticks, the same for the same key and interval."""
    part = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32
    return part * min(interval * SPREAD_PART, SPREAD_LIMIT)


def _cron_instants(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Cron ticks as UTC instants, in order; the first may lie before `after` where the clock shows a time twice.

    The expression is read on the zone's wall clock without its offset, so that the clock's jumps are settled here:
    `fold=0` takes the first of a doubled time.
    """
    zone = ZoneInfo(schedule.tz)
    start = after.astimezone(zone).replace(tzinfo=None, fold=0)
    for local in CronSim(schedule.cron or "", start):
        yield _valid_instant(local, zone)


def _valid_instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The instant of a wall clock time; of a skipped one the first that the clock shows after it."""
    while True:
        instant = local.replace(tzinfo=zone).astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None, fold=0) == local:
            return instant
        # Clocks jump to a whole minute, a whole day at most.
        local += timedelta(minutes=1)
