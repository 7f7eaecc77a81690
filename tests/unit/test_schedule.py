"""When ticks fall: parsing, intervals, cron and the wall clock's jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aero_core.errors import InvalidValue
from aero_core.models import Schedule
from aero_core.schedule import first_tick, next_tick, parse_schedule, spread

CHICAGO = "America/Chicago"
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
INTERVALS = st.floats(0.1, 10 * 365 * 86400.0)
KEYS = st.text(max_size=20)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    found = []
    for _ in range(count):
        after = next_tick(schedule, utc("2020-01-01"), after, "k")
        found.append(after)
    return found


def wall(moments: list[datetime], zone: str) -> list[str]:
    return [moment.astimezone(ZoneInfo(zone)).isoformat() for moment in moments]


#: A busy machine is no error.
UNHURRIED = settings(deadline=None)


class TestParsing:
    @pytest.mark.parametrize(
        ("every", "seconds"),
        [
            (90, 90.0),
            (0.5, 0.5),
            ("30s", 30.0),
            ("15m", 900.0),
            ("6h", 21600.0),
            ("1d", 86400.0),
            (" 1.5 d ", 129600.0),
            ("2w", 1209600.0),
        ],
    )
    def test_spans(self, every: float | str, seconds: float) -> None:
        assert parse_schedule(every) == Schedule(seconds=seconds)

    def test_cron_keeps_its_zone_and_loses_further_blanks(self) -> None:
        schedule = parse_schedule("0  6 * * 1-5", CHICAGO)
        assert schedule == Schedule(cron="0 6 * * 1-5", tz=CHICAGO)

    def test_none_is_no_schedule(self) -> None:
        assert parse_schedule(None) is None

    @pytest.mark.parametrize(
        ("every", "message"),
        [
            ("1x", "every is '1x': expected seconds, text such as '15m' or '1d', or a cron"),
            (0, "every is 0: expected seconds"),
            (-5, "every is -5: expected seconds"),
            (True, "every is True: expected seconds"),
            (float("nan"), "every is nan: expected seconds"),
            (float("inf"), "every is inf: expected seconds"),
            ("", "every is '': expected seconds"),
            (0.05, "every is 0.05: expected at least 0.1 seconds"),
            ("61 * * * *", "every is '61 * * * *': not a cron expression with a time that ever"),
            ("0 0 30 2 *", "every is '0 0 30 2 *': not a cron expression with a time that ever"),
            ("*/0 * * * *", "every is '*/0 * * * *': not a cron expression"),
            ("a b c d e", "every is 'a b c d e': not a cron expression"),
            ("* * * * * *", "every is '* * * * * *': expected seconds"),
        ],
    )
    def test_refused(self, every: float | str, message: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            parse_schedule(every)
        assert str(caught.value).startswith(message)

    @pytest.mark.parametrize("tz", ["Mars/Olympus", "", "../etc/passwd", "America", None, 5])
    @pytest.mark.parametrize("every", [None, "1d", "0 6 * * *"])
    def test_unknown_zone(self, every: str | None, tz: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            parse_schedule(every, tz)
        assert str(caught.value) == (f"tz is {tz!r}: expected a time zone such as 'UTC' or 'America/Chicago'")


class TestIntervals:
    @UNHURRIED
    @given(INTERVALS, MOMENTS, MOMENTS, KEYS)
    def test_a_tick_is_the_anchor_or_spread_beyond_it_by_whole_intervals(
        self, seconds: float, anchor: datetime, after: datetime, key: str
    ) -> None:
        tick = next_tick(Schedule(seconds), anchor, after, key)
        assert tick > after
        if after < anchor:
            assert tick == anchor
            return
        beyond = (tick - anchor).total_seconds() - spread(seconds, key)
        number = round(beyond / seconds)
        assert number >= 1
        assert abs(beyond - number * seconds) < 1e-3

    @UNHURRIED
    @given(INTERVALS, MOMENTS, MOMENTS, KEYS)
    def test_missed_ticks_are_one_and_none_is_skipped(
        self, seconds: float, anchor: datetime, after: datetime, key: str
    ) -> None:
        assume(after >= anchor)
        schedule = Schedule(seconds)
        tick = next_tick(schedule, anchor, after, key)
        offset = spread(seconds, key)
        assert tick - after <= timedelta(seconds=seconds + offset, microseconds=2)
        assert next_tick(schedule, anchor, tick, key) - tick <= timedelta(seconds=seconds, microseconds=2)
        # Whoever looks anywhere in between finds the same tick.
        assert next_tick(schedule, anchor, after + (tick - after) / 2, key) == tick
        assert next_tick(schedule, anchor, tick - timedelta(microseconds=1), key) == tick

    @UNHURRIED
    @given(INTERVALS, MOMENTS, MOMENTS, MOMENTS, KEYS)
    def test_later_looks_find_no_earlier_ticks(
        self, seconds: float, anchor: datetime, one: datetime, other: datetime, key: str
    ) -> None:
        first, second = sorted([one, other])
        schedule = Schedule(seconds)
        assert next_tick(schedule, anchor, first, key) <= next_tick(schedule, anchor, second, key)

    def test_the_first_tick_is_the_anchor(self) -> None:
        anchor = utc("2026-03-01T12:34:56")
        assert first_tick(Schedule(60.0), anchor, "k") == anchor

    @UNHURRIED
    @given(INTERVALS, KEYS)
    def test_the_offset_is_fixed_and_small(self, seconds: float, key: str) -> None:
        assert spread(seconds, key) == spread(seconds, key)
        assert 0 <= spread(seconds, key) <= min(seconds / 10, 300)

    def test_flows_of_equal_interval_are_spread(self) -> None:
        offsets = {round(spread(86400.0, f"flow {number}")) for number in range(100)}
        assert len(offsets) > 50


class TestCron:
    def test_the_first_tick_may_be_the_anchor_itself(self) -> None:
        schedule = Schedule(cron="0 6 * * *")
        assert first_tick(schedule, utc("2026-05-01T06:00"), "k") == utc("2026-05-01T06:00")
        assert first_tick(schedule, utc("2026-05-01T06:00:01"), "k") == utc("2026-05-02T06:00")

    def test_the_next_tick_is_later(self) -> None:
        schedule = Schedule(cron="0 6 * * *")
        after = next_tick(schedule, utc("2020-01-01"), utc("2026-05-01T06:00"), "k")
        assert after == utc("2026-05-02T06:00")

    def test_leap_days(self) -> None:
        assert ticks(Schedule(cron="0 0 29 2 *"), utc("2026-01-01"), 2) == [
            utc("2028-02-29"),
            utc("2032-02-29"),
        ]

    def test_a_skipped_time_runs_at_the_next_valid_instant(self) -> None:
        # On 2026-03-08 the clock in Chicago goes from 02:00 to 03:00.
        schedule = Schedule(cron="30 2 * * *", tz=CHICAGO)
        assert wall(ticks(schedule, utc("2026-03-07T00:00"), 3), CHICAGO) == [
            "2026-03-07T02:30:00-06:00",
            "2026-03-08T03:00:00-05:00",
            "2026-03-09T02:30:00-05:00",
        ]

    def test_several_skipped_times_are_one_tick(self) -> None:
        schedule = Schedule(cron="*/15 * * * *", tz=CHICAGO)
        assert wall(ticks(schedule, utc("2026-03-08T07:40"), 3), CHICAGO) == [
            "2026-03-08T01:45:00-06:00",
            "2026-03-08T03:00:00-05:00",
            "2026-03-08T03:15:00-05:00",
        ]

    def test_a_doubled_time_runs_once(self) -> None:
        # On 2026-11-01 the clock in Chicago goes from 02:00 back to 01:00.
        schedule = Schedule(cron="30 1 * * *", tz=CHICAGO)
        assert wall(ticks(schedule, utc("2026-10-31T12:00"), 2), CHICAGO) == [
            "2026-11-01T01:30:00-05:00",
            "2026-11-02T01:30:00-06:00",
        ]

    @pytest.mark.parametrize("minute", ["06:31", "06:59", "07:00", "07:29", "07:31", "07:59"])
    def test_whoever_looks_within_the_doubled_hour_finds_the_next_day(self, minute: str) -> None:
        schedule = Schedule(cron="30 1 * * *", tz=CHICAGO)
        tick = next_tick(schedule, utc("2020-01-01"), utc(f"2026-11-01T{minute}"), "k")
        assert wall([tick], CHICAGO) == ["2026-11-02T01:30:00-06:00"]

    def test_every_quarter_hour_waits_out_the_doubled_hour(self) -> None:
        schedule = Schedule(cron="*/30 * * * *", tz=CHICAGO)
        assert wall(ticks(schedule, utc("2026-11-01T06:00"), 2), CHICAGO) == [
            "2026-11-01T01:30:00-05:00",
            "2026-11-01T02:00:00-06:00",
        ]

    def test_half_an_hour_is_skipped_on_lord_howe_island(self) -> None:
        schedule = Schedule(cron="15 2 * * *", tz="Australia/Lord_Howe")
        assert wall(ticks(schedule, utc("2026-10-03T00:00"), 1), "Australia/Lord_Howe") == ["2026-10-04T02:30:00+11:00"]

    def test_a_whole_day_was_skipped_in_samoa(self) -> None:
        schedule = Schedule(cron="0 12 30 12 *", tz="Pacific/Apia")
        tick = next_tick(schedule, utc("2011-01-01"), utc("2011-12-01T00:00"), "k")
        assert wall([tick], "Pacific/Apia") == ["2011-12-31T00:00:00+14:00"]

    @UNHURRIED
    @given(
        st.sampled_from(["* * * * *", "*/7 1-3 * * *", "30 2 * * *", "0 0 * * 0", "59 1 1 * *"]),
        st.sampled_from([CHICAGO, "UTC", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"]),
        MOMENTS,
    )
    def test_ticks_are_later_in_order_and_fall_on_wall_clock_minutes(self, cron: str, tz: str, after: datetime) -> None:
        found = [after, *ticks(Schedule(cron=cron, tz=tz), after, 3)]
        assert all(earlier < later for earlier, later in pairwise(found))
        assert all(tick.second == tick.microsecond == 0 for tick in found[1:])
        assert all(tick.tzinfo is UTC for tick in found[1:])

    @UNHURRIED
    @given(st.integers(0, 200))
    def test_no_tick_is_lost_around_the_jumps(self, quarter_hours: int) -> None:
        """Looking from anywhere finds the first of all ticks that are later."""
        schedule = Schedule(cron="20,50 * * * *", tz=CHICAGO)
        for start in ("2026-03-07T18:00", "2026-10-31T18:00"):
            whole = ticks(schedule, utc(start), 80)
            after = utc(start) + timedelta(minutes=7 * quarter_hours / 2)
            assume(after < whole[-1])
            expected = next(tick for tick in whole if tick > after)
            assert next_tick(schedule, utc("2020-01-01"), after, "k") == expected
