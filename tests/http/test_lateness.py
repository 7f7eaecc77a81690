"""A server that sends without end, but never an answer, does not hold a fetch."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from aero_core.errors import FetchError
from aero_core.testing.fetching import Fetcher
from aero_core.testing.servers import Reply, WebServer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = 5000


@contextmanager
def dripping(data: bytes) -> Iterator[int]:
    """A server that sends `data` again and again, whatever is said to it; answers its port."""
    over = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            with client:
                for byte in itertools.cycle(data):
                    client.sendall(bytes([byte]))
                    if over.wait(0.01):
                        return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"HTTP/1.1 200 " + b"K" * LONG, "headers were not complete within 0.4 s"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * LONG, "headers were not complete within 0.4 s"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * LONG, "headers were not complete within 0.4 s"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * LONG, "headers were not complete within 0.4 s"),
        (CHUNKED + b"5;" + b"x" * LONG, "nothing of its content came within 0.4 s"),
        (CHUNKED + b"5\r\n12345\r\n0\r\n" + b"x: y\r\n" * LONG, "nothing of its content came within 0.4 s"),
    ],
    ids=["status", "header", "continue", "hints", "chunk", "trailer"],
)
def test_an_answer_that_comes_to_no_end_fails(
    fetcher: Callable[..., Fetcher], server: WebServer, raw: bytes, says: str
) -> None:
    url = server.script("a.csv", Reply(raw=raw, drip=0.001))
    with pytest.raises(FetchError, match=says) as caught:
        fetcher(read_timeout=0.2, retries=0)(url)
    assert caught.value.retryable


def test_continue_without_end_and_pause_fails(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.script("a.csv", Reply(raw=b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000_000))
    with pytest.raises(FetchError, match="headers were not complete"):
        fetcher(read_timeout=0.1, retries=0)(url)


def test_a_late_answer_is_asked_for_again(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", b"12345")
    server.script("a.csv", Reply(raw=b"HTTP/1.1 200 " + b"K" * LONG, drip=0.001))
    assert fetcher(read_timeout=0.2).new(url).artifact.size == 5


def test_headers_may_be_slow(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.script("a.csv", Reply(raw=ANSWER, drip=0.005))
    assert fetcher(read_timeout=5, retries=0).new(url).artifact.size == 5


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 Whatever"])
def test_what_comes_before_the_answer_is_passed_over(fetch: Fetcher, server: WebServer, status: str) -> None:
    first = f"HTTP/1.1 {status}\r\nLink: </b.css>; rel=preload\r\nContent-Length: 99\r\n\r\n".encode()
    found = fetch.new(server.script("a.csv", Reply(raw=first * 2 + ANSWER)))
    assert found.artifact.size == 5


def test_hints_alone_are_no_answer(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.script("a.csv", Reply(raw=b"HTTP/1.1 103 Early Hints\r\n\r\n"))
    with pytest.raises(FetchError, match="the connection broke off") as caught:
        fetcher(retries=0)(url)
    assert caught.value.retryable


def test_a_protocol_that_nobody_asked_for_is_no_answer(fetch: Fetcher, server: WebServer) -> None:
    url = server.script("a.csv", Reply(raw=b"HTTP/1.1 101 Switching Protocols\r\n\r\n"))
    with pytest.raises(FetchError, match="101 Switching Protocols"):
        fetch(url)


def test_redirects_must_come_to_an_end(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    slow = b"HTTP/1.1 302 Found\r\nLocation: /a.csv\r\nConnection: close\r\n\r\n"
    url = server.script("a.csv", *[Reply(raw=slow, drip=0.002)] * 11)
    with pytest.raises(FetchError, match=r"its redirects came to no end within 0.6 s") as caught:
        fetcher(read_timeout=0.3, retries=0)(url)
    assert caught.value.retryable


def test_a_handshake_that_comes_to_no_end_fails(fetcher: Callable[..., Fetcher]) -> None:
    # A TLS record of 16 KiB begins so.
    begun = b"\x16\x03\x03\x40\x00" + bytes(LONG)
    with dripping(begun) as port, pytest.raises(FetchError, match=r"no connection within 0.3 s") as caught:
        fetcher(connect_timeout=0.3, retries=0)(f"https://127.0.0.1:{port}/a.csv")
    assert caught.value.retryable


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\n", b"x"])
def test_a_proxy_that_comes_to_no_end_fails(
    fetcher: Callable[..., Fetcher], monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    with dripping(data) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(FetchError, match=r"headers were not complete within 0.6 s") as caught:
            fetcher(connect_timeout=0.3, retries=0)("https://data.invalid/a.csv")
    assert caught.value.retryable
