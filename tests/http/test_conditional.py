from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from aero_core.errors import ContentGone, FetchError
from aero_core.models import Context, Fetched, NotModified, Previous
from aero_core.testing.fetching import Fetcher, checksum, known
from aero_core.testing.servers import LONG_AGO, Reply, WebServer
from aero_http import HttpPlugin, Settings

LATER = LONG_AGO.replace("2015", "2016")


def test_an_etag_makes_the_request_conditional(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", etag='"1"', last_modified=LONG_AGO)
    first = fetch.new(url)
    assert first.validators == {"etag": '"1"', "last-modified": LONG_AGO}
    answer = fetch(url, previous=known(first))
    assert answer == NotModified(first.validators, "etag")
    asked = server.requests[-1]
    assert (asked.status, asked.headers["If-None-Match"]) == (304, '"1"')
    assert "If-Modified-Since" not in asked.headers


def test_last_modified_makes_the_request_conditional(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", last_modified=LONG_AGO)
    first = fetch.new(url)
    assert fetch(url, previous=known(first)) == NotModified(first.validators, "last-modified")
    assert server.requests[-1].headers["If-Modified-Since"] == LONG_AGO


def test_a_time_within_the_same_second_vouches_for_nothing(fetch: Fetcher, server: WebServer) -> None:
    # The answer's own second has not passed, however slow the machine is.
    soon = format_datetime(datetime.now(UTC) + timedelta(minutes=5), usegmt=True)
    url = server.publish("a.csv", b"1", last_modified=soon)
    assert fetch.new(url).validators == {}


@pytest.mark.parametrize("changed", ["nonsense", "Mon, 99 Jan 2015 10:00:00 GMT", ""])
def test_an_unreadable_time_is_no_validator(fetch: Fetcher, server: WebServer, changed: str) -> None:
    assert fetch.new(server.publish("a.csv", b"1", last_modified=changed)).validators == {}


@pytest.mark.parametrize("name", ["ETag", "Last-Modified"])
@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\x9b31mb", "a\x00b", "x" * 1001])
def test_what_cannot_be_shown_is_no_validator(fetch: Fetcher, server: WebServer, name: str, text: str) -> None:
    text = f'"{text}"' if name == "ETag" else f"{LONG_AGO} ({text})"
    assert fetch.new(server.publish("a.csv", b"1", headers={name: text})).validators == {}


def test_an_etag_without_quotes_serves(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", etag="größe 1")
    first = fetch.new(url)
    assert fetch(url, previous=known(first)) == NotModified({"etag": "größe 1"}, "etag")


def test_equal_bytes_under_a_new_etag_are_no_change(fetch: Fetcher, server: WebServer) -> None:
    first = fetch.new(server.publish("a.csv", b"1", etag='"1"'))
    url = server.publish("a.csv", b"1", etag='"2"')
    target = fetch.target()
    answer = fetch(url, previous=known(first), target=target)
    assert answer == NotModified({"etag": '"2"'}, "bytes")
    assert not target.exists()


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"etag": '"1"'}, {"etag": '"2"'}, "etag"),
        ({"last_modified": LONG_AGO}, {"last_modified": LATER}, "last-modified"),
        ({}, {}, "size"),
        ({"etag": '"1"'}, {}, "size"),
    ],
)
def test_what_told_a_change(
    fetch: Fetcher,
    server: WebServer,
    before: dict[str, str],
    after: dict[str, str],
    told: str,
) -> None:
    first = fetch.new(server.publish("a.csv", b"1", **before))
    second = fetch.new(server.publish("a.csv", b"22", **after), previous=known(first))
    assert second.decided_by == told


def test_bytes_told_a_change_of_equal_size(fetch: Fetcher, server: WebServer) -> None:
    first = fetch.new(server.publish("a.csv", b"1"))
    assert fetch.new(server.publish("a.csv", b"2"), previous=known(first)).decided_by == "bytes"


def test_a_304_that_nobody_asked_for_is_an_error(fetch: Fetcher, server: WebServer) -> None:
    url = server.script("a.csv", Reply(status=304))
    with pytest.raises(FetchError, match="304 Not Modified"):
        fetch(url)


def test_a_304_is_no_answer_to_who_wants_the_content(fetch: Fetcher, server: WebServer) -> None:
    url = server.script("a.csv", Reply(status=304))
    with pytest.raises(FetchError, match="304 Not Modified"):
        fetch(url, expected={"etag": '"1"'})


def test_a_304_may_speak_of_chunks(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", b"1", etag='"1"')
    fetch = fetcher(read_timeout=5.0, retries=0)
    previous = known(fetch.new(url))
    server.script("a.csv", Reply(headers={"Transfer-Encoding": "chunked"}))
    assert fetch(url, previous=previous) == NotModified({"etag": '"1"'}, "etag")


@pytest.mark.parametrize("status", [200, 203])
def test_another_content_is_not_the_wanted_one(fetch: Fetcher, server: WebServer, status: int) -> None:
    url = server.script("a.csv", Reply(status=status, headers={"ETag": '"2"'}, body=b"2"))
    with pytest.raises(ContentGone, match="it has changed"):
        fetch(url, expected={"etag": '"1"'})


def test_polls_keep_their_connection(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", etag='"1"')
    previous = known(fetch.new(url))
    for _ in range(3):
        assert isinstance(fetch(url, previous=previous), NotModified)
    assert {seen.connection for seen in server.requests} == {1}


def test_a_closed_connection_is_opened_again(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1")
    server.script("a.csv", Reply(headers={"Connection": "close"}))
    fetch.new(url)
    fetch.new(url)
    assert [seen.connection for seen in server.requests] == [1, 2]


def test_shutdown_closes_and_a_later_fetch_opens_again(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1")
    fetch.new(url)
    fetch.hook.aero_shutdown()
    fetch.new(url)
    assert [seen.connection for seen in server.requests] == [1, 2]


def test_threads_do_not_disturb_each_other(fetch: Fetcher, server: WebServer) -> None:
    contents = {f"{n}.bin": bytes([n]) * 2_000_000 for n in range(8)}
    urls = [server.publish(name, content, etag='"1"') for name, content in contents.items()]
    targets = [fetch.target() for _ in urls]
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(fetch.new, url, target=target) for url, target in zip(urls, targets, strict=True)]
        found = [one.result() for one in running]
    assert [one.artifact.checksum for one in found] == [checksum(one) for one in contents.values()]


@pytest.mark.skipif(sys.platform == "darwin", reason="a forked child may not use the network")
def test_a_forked_child_uses_connections_of_its_own(fetch: Fetcher, server: WebServer) -> None:
    import multiprocessing

    url = server.publish("a.csv", b"1")
    fetch.new(url)
    how = {"target": fetch.target()}
    child = multiprocessing.get_context("fork").Process(target=fetch.new, args=(url,), kwargs=how)
    child.start()
    child.join()
    fetch.new(url)
    assert child.exitcode == 0
    assert [seen.connection for seen in server.requests] == [1, 2, 1]


def test_expected_content_is_read(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", etag='"1"', last_modified=LONG_AGO)
    wanted = fetch.new(url).validators
    again = fetch(url, expected=wanted, previous=Previous(wanted, checksum(b"1")))
    assert isinstance(again, Fetched)
    assert server.requests[-1].headers["If-Match"] == '"1"'


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"'])
@pytest.mark.parametrize("now", ['"2"', 'W/"2"', None])
def test_content_under_another_etag_is_gone(fetch: Fetcher, server: WebServer, etag: str, now: str | None) -> None:
    url = server.publish("a.csv", b"2", etag=now)
    with pytest.raises(ContentGone, match="no longer") as caught:
        fetch(url, expected={"etag": etag})
    assert not caught.value.retryable


def test_a_weak_etag_can_be_expected(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", etag='W/"1"')
    assert fetch.new(url, expected={"etag": 'W/"1"'}).artifact.checksum == checksum(b"1")
    assert "If-Match" not in server.requests[-1].headers


def test_a_server_that_ignores_if_match_is_found_out(fetch: Fetcher, server: WebServer) -> None:
    url = server.script("a.csv", Reply(status=200, headers={"ETag": '"2"'}, body=b"2"))
    with pytest.raises(ContentGone):
        fetch(url, expected={"etag": '"1"'})


def test_content_of_another_time_is_gone(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", last_modified=LONG_AGO)
    found = fetch.new(url, expected={"last-modified": LONG_AGO})
    assert found.artifact.checksum == checksum(b"1")
    server.publish("a.csv", b"2", last_modified=LONG_AGO.replace("2015", "2016"))
    with pytest.raises(ContentGone):
        fetch(url, expected={"last-modified": LONG_AGO})
    assert server.requests[-1].status == 412


def test_removed_content_is_gone(fetch: Fetcher, server: WebServer) -> None:
    with pytest.raises(ContentGone):
        fetch(server.url("a.csv"), expected={"etag": '"1"'})


def test_expecting_what_cannot_be_asked_for_is_refused(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1")
    with pytest.raises(FetchError, match="neither ETag nor Last-Modified"):
        fetch(url, expected={})


def test_without_settings_the_defaults_hold(server: WebServer, tmp_path: Path) -> None:
    plugin = HttpPlugin()
    plugin.aero_configure(None, Context("run"))
    assert plugin.aero_settings() is Settings
    found = Fetcher(plugin, tmp_path).new(server.publish("a.csv", b"1"))
    assert found.artifact.checksum == checksum(b"1")


@pytest.mark.parametrize("wrong", [{"connect_timeout": 0}, {"read_timeout": -1}, {"retries": -1}])
def test_settings_that_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)


def test_settings_are_used(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    fetcher(user_agent="site/1").new(server.publish("a.csv", b"1"))
    headers = server.requests[-1].headers
    assert headers["User-Agent"] == "site/1"
    assert headers["Accept-Encoding"] == "identity"
