"""Downloads that break, and answers to be asked for again."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from aero_core.errors import ContentGone, FetchError
from aero_core.testing.fetching import Fetcher, checksum
from aero_core.testing.servers import LONG_AGO, Reply, WebServer

CONTENT = random.Random(1).randbytes(3_000_000)
CUT = 2_345_678


def ranges(server: WebServer) -> list[str | None]:
    return [seen.headers.get("Range") for seen in server.requests]


@pytest.mark.parametrize("how", [{"etag": '"1"'}, {"last_modified": LONG_AGO}])
@pytest.mark.parametrize("cut", [1, 70_000, CUT, len(CONTENT) - 1])
def test_a_broken_download_resumes(fetch: Fetcher, server: WebServer, how: dict[str, Any], cut: int) -> None:
    url = server.publish("a.bin", CONTENT, **how)
    server.script("a.bin", Reply(cut=cut))
    target = fetch.target()
    artifact = fetch.new(url, target=target).artifact
    assert target.read_bytes() == CONTENT
    assert (artifact.checksum, artifact.size) == (checksum(CONTENT), len(CONTENT))
    assert ranges(server) == [None, f"bytes={cut}-"]
    assert server.requests[1].headers["If-Range"] == next(iter(how.values()))
    assert [seen.status for seen in server.requests] == [200, 206]


def test_it_resumes_as_often_as_it_gets_on(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    content = CONTENT * 3
    url = server.publish("a.bin", content, etag='"1"')
    server.script("a.bin", *[Reply(cut=1_500_000)] * 5)
    assert fetcher(retries=1).new(url).artifact.checksum == checksum(content)
    assert [seen.status for seen in server.requests] == [200] + [206] * 5


@pytest.mark.parametrize("how", [{}, {"etag": 'W/"1"'}, {"etag": '"1"', "ranges": False}])
def test_without_a_strong_validator_it_starts_again(fetch: Fetcher, server: WebServer, how: dict[str, Any]) -> None:
    url = server.publish("a.bin", CONTENT, **how)
    server.script("a.bin", Reply(cut=CUT))
    assert fetch.new(url).artifact.checksum == checksum(CONTENT)
    assert ranges(server) == [None, None]


def test_content_that_changed_meanwhile_starts_again(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.bin", b"old" * 1000, etag='"1"')
    server.script("a.bin", Reply(cut=100))

    def change(done: int, _total: int | None) -> None:
        if done:
            server.publish("a.bin", b"new" * 10, etag='"2"')

    found = fetch.new(url, progress=change)
    assert found.artifact.checksum == checksum(b"new" * 10)
    assert found.validators == {"etag": '"2"'}
    assert [seen.status for seen in server.requests] == [200, 200]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-9/10"},
        {"Content-Range": "bytes 4-9/11"},
        {"Content-Range": "bytes 4-19/10"},
        {"Content-Range": "bytes 4-9/10", "ETag": '"2"'},
        {"Content-Range": "bytes 4-9/" + "9" * 5000},
        {"Content-Range": "nonsense"},
        {},
    ],
)
def test_a_rest_that_does_not_fit_starts_again(fetch: Fetcher, server: WebServer, headers: dict[str, str]) -> None:
    url = server.publish("a.bin", b"0123456789", etag='"1"')
    server.script("a.bin", Reply(cut=4), Reply(status=206, headers=headers, body=b"xxxxxx"))
    assert fetch.new(url).artifact.checksum == checksum(b"0123456789")
    assert ranges(server) == [None, "bytes=4-", None]


def test_a_new_beginning_that_fails_leaves_no_rest_to_resume(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.bin", b"0123456789", etag='"1"')
    server.script("a.bin", Reply(cut=4), Reply(raw=b"HTTP/1.1 200 OK\r\nno header\r\n\r\n"))
    assert fetch.new(url).artifact.checksum == checksum(b"0123456789")
    assert ranges(server)[-1] is None


def test_a_rest_of_an_unknown_whole_starts_again(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.bin", b"0123456789", etag='"1"', chunked=True)
    part = Reply(status=206, headers={"Content-Range": "bytes 4-6/*"}, body=b"456")
    server.script("a.bin", Reply(cut=4), part)
    assert fetch.new(url).artifact.checksum == checksum(b"0123456789")
    assert ranges(server) == [None, "bytes=4-", None]


def test_starting_again_and_again_is_no_progress(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.bin", CONTENT, etag='"1"')
    server.script("a.bin", *[Reply(cut=CUT), Reply(status=416)] * 9)
    with pytest.raises(FetchError):
        fetcher(retries=3)(url)
    assert len(server.requests) == 4


def test_a_server_without_a_rest_starts_again(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.bin", b"0123456789", etag='"1"')
    server.script("a.bin", Reply(cut=4), Reply(status=416))
    assert fetch.new(url).artifact.checksum == checksum(b"0123456789")
    assert ranges(server) == [None, "bytes=4-", None]


def test_a_rest_that_comes_too_long_is_refused(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    rest = Reply(status=206, headers={"Content-Range": "bytes 4-9/10"}, body=b"x" * 100)
    url = server.publish("a.bin", b"0123456789", etag='"1"')
    server.script("a.bin", Reply(cut=4), rest)
    with pytest.raises(FetchError, match="too long: 104 of 10") as caught:
        fetcher(retries=1)(url)
    assert caught.value.retryable


def test_an_expected_content_resumes(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.bin", CONTENT, last_modified=LONG_AGO)
    server.script("a.bin", Reply(cut=CUT))
    found = fetch.new(url, expected={"last-modified": LONG_AGO})
    assert found.artifact.checksum == checksum(CONTENT)
    assert server.requests[1].headers["If-Unmodified-Since"] == LONG_AGO


def test_an_expected_content_that_goes_meanwhile(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.bin", CONTENT, etag='"1"')
    server.script("a.bin", Reply(cut=CUT), Reply(status=412))
    with pytest.raises(ContentGone):
        fetch(url, expected={"etag": '"1"'})


def test_a_download_that_stays_short_fails(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"12345")
    server.script("a.csv", *[Reply(headers={"Content-Length": "9"}, cut=5)] * 4)
    with pytest.raises(FetchError, match=r"broke off.* 5 of 9 bytes") as caught:
        fetch(url)
    assert caught.value.retryable
    assert len(server.requests) == 4


@pytest.mark.parametrize("body", ["", "5\r\n123", "5\r\n12345", "5\r\n12345\r\n", "5\r\n12345\r\n5", "5", "x\r\n12345"])
def test_chunks_that_break_off_fail(fetcher: Callable[..., Fetcher], server: WebServer, body: str) -> None:
    raw = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}".encode()
    url = server.script("a.csv", Reply(raw=raw))
    with pytest.raises(FetchError, match="broke off") as caught:
        fetcher(retries=0)(url)
    assert caught.value.retryable


def test_a_body_that_stalls_times_out(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", b"12345", etag='"1"')
    server.script("a.csv", Reply(cut=3, hang=True))
    with pytest.raises(FetchError, match=r"nothing for 0.2 s, after 3 of 5 bytes"):
        fetcher(read_timeout=0.2, retries=0)(url)


def test_a_stalled_body_resumes(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", b"12345", etag='"1"')
    server.script("a.csv", Reply(cut=3, hang=True))
    assert fetcher(read_timeout=0.2).new(url).artifact.checksum == checksum(b"12345")
    assert ranges(server) == [None, "bytes=3-"]


def test_a_body_that_trickles_fails(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", bytes(1000))
    server.script("a.csv", *[Reply(drip=0.05)] * 2)
    with pytest.raises(FetchError, match=r"less than 1 kB a second, after \d+ of 1000 bytes") as caught:
        fetcher(read_timeout=0.2, min_rate=1000.0, retries=1)(url)
    assert caught.value.retryable
    assert len(server.requests) == 2


def test_a_body_that_trickles_resumes(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", CONTENT, etag='"1"')
    server.script("a.csv", Reply(drip=0.05))
    assert fetcher(read_timeout=0.2, min_rate=1000.0).new(url).artifact.checksum == checksum(CONTENT)
    assert [seen.status for seen in server.requests] == [200, 206]


@pytest.mark.parametrize("min_rate", [0.0, 1.0])
def test_a_body_may_be_slow(fetcher: Callable[..., Fetcher], server: WebServer, min_rate: float) -> None:
    url = server.publish("a.csv", b"0123456789")
    server.script("a.csv", Reply(drip=0.05))
    assert fetcher(read_timeout=0.1, min_rate=min_rate, retries=0).new(url).artifact.size == 10


@pytest.mark.parametrize("status", [202, 408, 425, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(fetch: Fetcher, server: WebServer, status: int) -> None:
    url = server.publish("a.csv", b"1")
    server.script("a.csv", *[Reply(status=status)] * 3)
    fetch.new(url)
    assert [seen.status for seen in server.requests] == [status] * 3 + [200]


def test_a_dropped_connection_is_tried_again(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1")
    server.script("a.csv", Reply(drop=True))
    fetch.new(url)


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    from aero_http import patience

    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_honoured(fetch: Fetcher, server: WebServer, clock: Clock, status: int) -> None:
    url = server.publish("a.csv", b"1")
    server.script("a.csv", Reply(status=status, headers={"Retry-After": "7"}))
    fetch.new(url)
    assert sum(clock.waits) == pytest.approx(7)
    assert max(clock.waits) <= 1, "progress is to be called every second"


def test_retry_after_as_a_date_is_honoured(fetch: Fetcher, server: WebServer, clock: Clock) -> None:
    url = server.publish("a.csv", b"1")
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    server.script("a.csv", Reply(status=503, headers={"Retry-After": at}))
    fetch.new(url)
    assert 10 < sum(clock.waits) <= 20


@pytest.mark.parametrize(
    "text",
    [
        "soon",
        "-5",
        "1.5",
        "",
        "0",
        "Mon, 99 Jan 2015",
        "Mon, 05 Jan 9" + "9" * 30 + " 10:00:00 GMT",
        LONG_AGO,
    ],
)
def test_a_senseless_retry_after_does_no_harm(
    fetcher: Callable[..., Fetcher], server: WebServer, clock: Clock, text: str
) -> None:
    url = server.script("a.csv", *[Reply(status=503, headers={"Retry-After": text})] * 2)
    with pytest.raises(FetchError, match=r"503 Service Unavailable$"):
        fetcher(retries=1)(url)


def test_a_long_retry_after_is_left_to_others(fetch: Fetcher, server: WebServer, clock: Clock) -> None:
    url = server.script("a.csv", Reply(status=503, headers={"Retry-After": "12345678"}))
    with pytest.raises(FetchError, match="asks to wait 12345678 s") as caught:
        fetch(url)
    assert caught.value.retryable
    assert caught.value.retry_after == 12345678
    assert clock.waits == []


@pytest.mark.parametrize("digits", [23, 400])
def test_a_retry_after_beyond_all_bounds_is_a_long_one(
    fetch: Fetcher, server: WebServer, clock: Clock, digits: int
) -> None:
    url = server.script("a.csv", Reply(status=503, headers={"Retry-After": "9" * digits}))
    with pytest.raises(FetchError, match="asks to wait 10000000000 s") as caught:
        fetch(url)
    assert caught.value.retry_after == 10**10
    assert clock.waits == []


def test_a_late_retry_after_date_is_left_to_others(fetch: Fetcher, server: WebServer, clock: Clock) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(days=3), usegmt=True)
    url = server.script("a.csv", Reply(status=429, headers={"Retry-After": at}))
    with pytest.raises(FetchError, match=r"asks to wait 259\d\d\d s") as caught:
        fetch(url)
    assert caught.value.retry_after == pytest.approx(3 * 86400, abs=60)
    assert clock.waits == []


def test_the_last_retry_hands_the_wait_on(fetcher: Callable[..., Fetcher], server: WebServer, clock: Clock) -> None:
    url = server.script("a.csv", *[Reply(status=503, headers={"Retry-After": "7"})] * 2)
    with pytest.raises(FetchError, match="asks to wait 7 s") as caught:
        fetcher(retries=1)(url)
    assert caught.value.retry_after == 7


def test_a_retry_after_for_what_is_permanent_is_not_spoken_of(fetch: Fetcher, server: WebServer) -> None:
    url = server.script("a.csv", Reply(status=404, headers={"Retry-After": "60"}))
    with pytest.raises(FetchError, match=r"404 Not Found: check the URL$") as caught:
        fetch(url)
    assert caught.value.retry_after is None


def test_waits_double(fetcher: Callable[..., Fetcher], server: WebServer, clock: Clock) -> None:
    url = server.script("a.csv", *[Reply(status=500)] * 5)
    with pytest.raises(FetchError, match="500 Internal Server Error"):
        fetcher(retries=4, backoff=1.0, backoff_max=5.0)(url)
    assert sum(clock.waits) == pytest.approx(0 + 2 + 4 + 5)


def test_waiting_can_be_cancelled(fetch: Fetcher, server: WebServer, clock: Clock) -> None:
    url = server.script("a.csv", Reply(status=503, headers={"Retry-After": "20"}))

    def cancel(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(url, progress=cancel)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("size", [10, 20_000_000])
def test_a_full_disk(fetch: Fetcher, server: WebServer, size: int) -> None:
    url = server.publish("a.csv", bytes(size))
    with pytest.raises(FetchError, match="Cannot write /dev/full: No space left on device; free"):
        fetch(url, target=Path("/dev/full"))
    assert len(server.requests) == 1


def test_a_target_that_cannot_be_made(fetch: Fetcher, server: WebServer, tmp_path: Path) -> None:
    url = server.publish("a.csv", b"1")
    with pytest.raises(FetchError, match=r"Cannot write .*: No such file or directory"):
        fetch(url, target=tmp_path / "missing" / "target")
