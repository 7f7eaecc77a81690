"""Each failure is one clear line that gives no secret away."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from aero_core.errors import FetchError
from aero_core.testing.fetching import Fetcher
from aero_core.testing.servers import Reply, WebServer


def failure(fetch: Fetcher, url: str, **how: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(url, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    assert "SECRET" not in message
    return caught.value


@pytest.mark.parametrize(
    ("status", "retryable", "says"),
    [
        (204, False, "204 No Content: that is no content"),
        (206, False, "206 Partial Content: that is no content"),
        (300, False, "300 Multiple Choices"),
        (400, False, "400 Bad Request: check the URL"),
        (401, False, "401 Unauthorized: it wants credentials"),
        (403, False, "403 Forbidden: credentials are missing or not allowed"),
        (404, False, "404 Not Found: check the URL"),
        (407, False, "407 Proxy Authentication Required: the proxy wants credentials"),
        (410, False, "410 Gone: it has been removed for good"),
        (416, False, "416 Requested Range Not Satisfiable"),
        (418, False, "418 "),
        (429, True, "429 Too Many Requests"),
        (451, False, "451 Unavailable For Legal Reasons"),
        (499, False, "answers 499: check the URL"),
        (500, True, "500 Internal Server Error"),
        (503, True, "503 Service Unavailable"),
        (599, True, "answers 599"),
    ],
)
def test_status(fetcher: Callable[..., Fetcher], server: WebServer, status: int, retryable: bool, says: str) -> None:
    url = server.script("a.csv", Reply(status=status, body=b"SECRET"))
    error = failure(fetcher(retries=0), url + "?token=SECRET")
    assert says in str(error)
    assert str(error).startswith(f"Cannot fetch {url}: ")
    assert error.retryable is retryable


def test_unknown_host(fetcher: Callable[..., Fetcher]) -> None:
    error = failure(fetcher(retries=0), "http://no-such-host.invalid/a.csv?key=SECRET")
    assert "host name cannot be resolved" in str(error)
    assert error.retryable


def test_refused_connection(fetcher: Callable[..., Fetcher]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = failure(fetcher(retries=0), f"http://127.0.0.1:{port}/a.csv?key=SECRET")
    assert "the connection was refused" in str(error)
    assert error.retryable


def test_connect_timeout(fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: socket.socket, address: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket.socket, "connect", connect)
    error = failure(fetcher(retries=0, connect_timeout=0.5), "http://127.0.0.1:9/a.csv")
    assert "no connection within 0.5 s" in str(error)
    assert error.retryable


def test_unreachable_host(fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def connect(self: socket.socket, address: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(socket.socket, "connect", connect)
    error = failure(fetcher(retries=0), "http://127.0.0.1:9/a.csv")
    assert "the connection failed (No route to host)" in str(error)


def test_read_timeout(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.script("a.csv", Reply(hang=True))
    error = failure(fetcher(retries=0, read_timeout=0.2), url)
    assert "the server sent nothing for 0.2 s" in str(error)
    assert error.retryable


def test_dropped_connection(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    error = failure(fetcher(retries=0), server.script("a.csv", Reply(drop=True)))
    assert "the connection broke off" in str(error)
    assert error.retryable


@pytest.mark.parametrize("raw", [b"SECRET not HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500])
def test_no_http(fetcher: Callable[..., Fetcher], server: WebServer, raw: bytes) -> None:
    error = failure(fetcher(retries=0), server.script("a.csv", Reply(raw=raw)))
    assert "the answer is no valid HTTP" in str(error)


def test_limit_by_length_costs_no_body(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", bytes(10_000_000))
    target = fetch.target()
    error = failure(fetch, url, limit=1_500, target=target)
    assert "larger than the source's limit of 1.5 kB" in str(error)
    assert not error.retryable
    assert target.stat().st_size == 0


def test_limit_while_streaming(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", bytes(10_000_000), chunked=True)
    target = fetch.target()
    error = failure(fetch, url, limit=4_000_000, target=target)
    assert "limit of 4 MB" in str(error)
    assert target.stat().st_size <= 4_000_000
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http:", "names no host"),
        ("http:///a.csv", "names no host"),
        ("http://[::1/a.csv", "no valid URL"),
        ("http://host:port/a.csv", "no valid URL"),
        ("http://host:99999/a.csv", "no valid URL"),
        ("http://user:SECRET@host/a.csv", "a user name in a URL"),
        ("http://user:SECRET@[::1/a.csv", "no valid URL"),
        ("http:user:SECRET@host/a.csv", "names no host"),
        ("http://user:SECRET?@host/a.csv", "no valid URL"),
        ("http://host/\nHost: evil", "control character"),
        ("http://host\\@evil/", "control character or a backslash"),
        ("http://ho st/a.csv", "no valid URL"),
        ("http://*.host/a.csv", "no valid URL"),
        ("http://" + "x" * 300 + "/a.csv", "no valid URL"),
    ],
)
def test_invalid_url(fetch: Fetcher, url: str, says: str) -> None:
    error = failure(fetch, url)
    assert says in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"header": {"Authorization": "SECRET"}}, "no source option 'header'"),
        ({"headers": "SECRET"}, "maps text to text"),
        ({"headers": {"X": 1}}, "maps text to text"),
        ({"headers": {"Range": "SECRET"}}, "cannot set Range"),
        ({"headers": {"X": "SECRET\r\nY: 1"}}, "invalid name or value"),
        ({"headers": {"X": "\N{SNOWMAN} SECRET"}}, "header"),
    ],
)
def test_wrong_options(fetch: Fetcher, server: WebServer, options: dict[str, Any], says: str) -> None:
    error = failure(fetch, server.publish("a.csv", b"1"), options=options)
    assert says in str(error)
    assert not error.retryable
    assert server.requests == []


def test_logs_tell_no_query(
    fetcher: Callable[..., Fetcher], server: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    url = server.script("a.csv", Reply(raw=b"HTTP/1.1 200 OK\r\nno header\r\n\r\n")) + "?key=SECRET"
    failure(fetcher(retries=1), url)
    assert "SECRET" not in caplog.text
    requests.get(server.publish("b.csv", b"1"), timeout=10)
    assert "/b.csv" in caplog.text, "others still hear of their own requests"


def test_a_proxy_of_an_unknown_kind(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:SECRET@127.0.0.1:1")
    error = failure(fetch, "http://data.invalid/a.csv")
    assert "SOCKS" in str(error)
    assert not error.retryable


def test_a_bundle_that_is_not_there(
    fetch: Fetcher, server: WebServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    error = failure(fetch, server.publish("a.csv", b"1").replace("http:", "https:"))
    assert "REQUESTS_CA_BUNDLE" in str(error)
    assert not error.retryable
