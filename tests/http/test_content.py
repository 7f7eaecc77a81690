"""Media type, charset, suffix, content codings."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import pytest

from aero_core.errors import FetchError
from aero_core.testing.fetching import Fetcher, checksum
from aero_core.testing.servers import Reply, WebServer
from aero_http.content import Description, describe

URL = "http://host/data"
OCTETS = "application/octet-stream"


@pytest.mark.parametrize(
    ("header", "url", "head", "found"),
    [
        ("text/csv", URL, b"a,b\n", ("text/csv", "utf-8", ".csv")),
        ("Text/CSV; Charset=ISO-8859-1", URL, b"a", ("text/csv", "iso8859-1", ".csv")),
        ('text/csv; charset="utf-8"; header=present', URL, b"a", ("text/csv", "utf-8", ".csv")),
        ("text/csv; charset=nonsense", URL, b"a", ("text/csv", "utf-8", ".csv")),
        ("text/csv; charset=hex", URL, b"a", ("text/csv", "utf-8", ".csv")),
        ("text/plain", URL + ".csv", b"a", ("text/plain", "utf-8", ".csv")),
        ("text/csv", URL, b"gr\xf6\xdfe", ("text/csv", None, ".csv")),
        ("text/csv", URL, "größe".encode(), ("text/csv", "utf-8", ".csv")),
        ("text/csv", URL, "größe".encode()[:-3], ("text/csv", "utf-8", ".csv")),
        ("text/csv", URL, b"\xef\xbb\xbfa", ("text/csv", "utf-8-sig", ".csv")),
        ("text/csv", URL, "a".encode("utf-16"), ("text/csv", "utf-16", ".csv")),
        ("text/csv", URL, "a".encode("utf-32"), ("text/csv", "utf-32", ".csv")),
        ("application/json", URL, b"{}", ("application/json", "utf-8", ".json")),
        ("application/geo+json", URL, b"{}", ("application/geo+json", "utf-8", ".geojson")),
        ("image/png", URL, b"x", ("image/png", None, ".png")),
        ("x/unheard-of", URL, b"x", ("x/unheard-of", None, "")),
        ("", URL + ".csv", b"a", ("text/csv", "utf-8", ".csv")),
        ("text/csv; charset*0*; charset*", URL, b"a", ("text/csv", "utf-8", ".csv")),
        ("csv; charset=latin-1", URL + ".csv", b"a", ("text/csv", "iso8859-1", ".csv")),
        ("text/csv\x1b[31m", URL + ".csv", b"a", ("text/csv", "utf-8", ".csv")),
        ("x/" + 200 * "y", URL, b"a", ("text/plain", "utf-8", ".txt")),
        (OCTETS, URL + ".csv", b"a", ("text/csv", "utf-8", ".csv")),
        ("", URL + ".csv.gz", b"x", ("application/gzip", None, ".csv.gz")),
        ("", URL + ".xlsx", b"PK\x03\x04", (
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", None, ".xlsx")),
        ("", URL, b"PK\x03\x04", ("application/zip", None, ".zip")),
        ("", URL, b"\x1f\x8bx", ("application/gzip", None, ".gz")),
        ("", URL, b"%PDF-1.7", ("application/pdf", None, ".pdf")),
        ("", URL, b"PAR1", ("application/vnd.apache.parquet", None, ".parquet")),
        ("", URL, b" <!DOCTYPE html>", ("text/html", "utf-8", ".html")),
        ("", URL, b"<?xml version='1.0'?>", ("application/xml", "utf-8", ".xml")),
        ("", URL, b"words", ("text/plain", "utf-8", ".txt")),
        ("", URL, b"\x00\x01", (OCTETS, None, "")),
        ("", URL, b"", (OCTETS, None, "")),
    ],
)  # fmt: skip
def test_describe(header: str, url: str, head: bytes, found: tuple[str, str | None, str]) -> None:
    headers = {"Content-Type": header} if header else {}
    assert describe(headers, url, url, head) == Description(*found)


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("a.csv", ".csv"),
        ("a.CSV", ".CSV"),
        ("a.csv?x=y.json#z.png", ".csv"),
        ("a.tar.gz", ".tar.gz"),
        ("a.b.c.nc", ".nc"),
        ("a.gz", ".gz"),
        ("v1.2", ""),
        ("v1.2.gz", ".gz"),
        ("a.h5", ".h5"),
        (".hidden", ""),
        ("a.csv/", ""),
        ("a.%63sv", ".csv"),
        ("a.csv%2F..%2Fx", ""),
        ("a.c%00sv", ""),
        ("a.way-too-long-for-a-suffix", ""),
        ("get.php", ""),
        ("a.größe", ""),
        ("", ""),
    ],
)
def test_suffix_of_the_url(path: str, suffix: str) -> None:
    url = f"http://host/{path}"
    assert describe({"Content-Type": "x/unheard-of"}, url, url, b"").suffix == suffix


@pytest.mark.parametrize(
    ("disposition", "suffix"),
    [
        ("attachment; filename=cases.csv", ".csv"),
        ('attachment; filename="two words.csv"', ".csv"),
        ("attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.csv", ".csv"),
        ('attachment; filename="../../etc/passwd"', ""),
        ('attachment; filename="/etc/cron.d/x.sh"', ".sh"),
        ('attachment; filename="..\\\\..\\\\x.exe"', ".exe"),
        ('attachment; filename="x.csv\x00.sh"', ".sh"),
        ('attachment; filename="x.c/sv"', ""),
        ('attachment; filename="x.$(rm -rf)"', ""),
        ('attachment; filename="' + "x" * 5000 + '.csv"', ""),
        ("attachment; filename*=nonsense''x.csv", ".csv"),
        ("attachment; filename*0*=a''b; filename*1=.csv", ".csv"),
        ("attachment; filename*", ""),
        (";;;===", ""),
    ],
)
def test_suffix_of_a_proposed_name(disposition: str, suffix: str) -> None:
    headers = {"Content-Type": "x/unheard-of", "Content-Disposition": disposition}
    assert describe(headers, URL, URL, b"").suffix == suffix


def test_a_hostile_name_writes_nowhere(fetch: Fetcher, server: WebServer) -> None:
    headers = {"Content-Disposition": 'attachment; filename="../../../evil.csv"'}
    target = fetch.target()
    found = fetch.new(server.publish("data", b"1", headers=headers), target=target)
    assert found.artifact.suffix == ".csv"
    assert [path.name for path in target.parent.parent.rglob("*") if path.is_file()] == ["target"]


def packed_raw(content: bytes) -> bytes:
    packer = zlib.compressobj()
    return packer.compress(content) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("X-GZip", gzip.compress),
        ("gzip", lambda content: gzip.compress(content[:9]) + gzip.compress(content[9:])),
        ("deflate", packed_raw),
    ],
)
def test_a_coding_that_nobody_asked_for_is_undone(
    fetch: Fetcher, server: WebServer, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    content = b"1,2,3\n" * 1_000_000
    headers = {"Content-Encoding": coding}
    url = server.publish("a.csv", pack(content), headers=headers, etag='"1"')
    server.script("a.csv", Reply(cut=100))
    artifact = fetch.new(url).artifact
    assert (artifact.checksum, artifact.size) == (checksum(content), len(content))


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("a.csv.gz", {}),
        ("A.CSV.GZ", {}),
        ("a", {"Content-Disposition": "attachment; filename=a.csv.gz"}),
        ("a", {"Content-Type": "application/x-gzip"}),
    ],
)
def test_a_packed_file_stays_packed(fetch: Fetcher, server: WebServer, name: str, headers: dict[str, str]) -> None:
    packed = gzip.compress(b"1")
    url = server.publish(name, packed, headers={"Content-Encoding": "gzip", **headers})
    assert fetch.new(url).artifact.checksum == checksum(packed)


def test_the_limit_is_of_what_was_packed(fetch: Fetcher, server: WebServer) -> None:
    content = random.Random(1).randbytes(1000)
    url = server.publish("a.bin", gzip.compress(content), headers={"Content-Encoding": "gzip"})
    assert fetch.new(url, limit=1000).artifact.checksum == checksum(content)


def test_what_unpacks_to_nothing_meets_the_limit(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", gzip.compress(b"") * 200_000, headers={"Content-Encoding": "gzip"}, chunked=True)
    with pytest.raises(FetchError, match="limit of 10 bytes"):
        fetch(url, limit=10)


def test_a_bomb_meets_the_limit(fetch: Fetcher, server: WebServer) -> None:
    packed = gzip.compress(bytes(50_000_000))
    url = server.publish("a.csv", packed, headers={"Content-Encoding": "gzip"})
    target = fetch.target()
    with pytest.raises(FetchError, match="limit of 2 MB"):
        fetch(url, limit=2_000_000, target=target)
    assert target.stat().st_size <= 2_000_000


@pytest.mark.parametrize("body", [b"not compressed at all", gzip.compress(b"1" * 999)[:-9]], ids=["none", "cut"])
def test_a_broken_coding_is_an_error(fetcher: Callable[..., Fetcher], server: WebServer, body: bytes) -> None:
    url = server.publish("a.csv", body, headers={"Content-Encoding": "gzip"})
    with pytest.raises(FetchError, match="compress") as caught:
        fetcher(retries=0)(url)
    assert caught.value.retryable


def test_an_unknown_coding_is_refused(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", headers={"Content-Encoding": "br"})
    with pytest.raises(FetchError, match="Content-Encoding") as caught:
        fetch(url)
    assert not caught.value.retryable


def test_an_empty_body_needs_no_coding(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"", headers={"Content-Encoding": "gzip"})
    assert fetch.new(url).artifact.size == 0


def raw_reply(*headers: str, body: str = "12345") -> Reply:
    return Reply(raw="\r\n".join(["HTTP/1.1 200 OK", *headers, "", body]).encode("latin-1"))


def test_a_body_without_a_length_ends_with_the_connection(fetch: Fetcher, server: WebServer) -> None:
    url = server.script("a.csv", raw_reply("Connection: close"))
    assert fetch.new(url).artifact.checksum == checksum(b"12345")


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: abc"],
        ["Content-Length: -5"],
        ["Content-Length: +5"],
        ["Content-Length: 5.0"],
        ["Content-Length: 1_2"],
        ["Content-Length: 0x5"],
        ["Content-Length: 5 5"],
        ["Content-Length: "],
        ["Content-Length: 5,"],
        ["Content-Length: 12, 13"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 5, 5", "Content-Length: 6"],
        ["Content-Length: \xb2"],
        ["Content-Length: " + "9" * 5000],
    ],
)
def test_a_senseless_length_is_refused(fetch: Fetcher, server: WebServer, headers: list[str]) -> None:
    url = server.script("a.csv", raw_reply(*headers))
    with pytest.raises(FetchError, match="its Content-Length is not one number") as caught:
        fetch(url)
    assert not caught.value.retryable
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5"],
        ["Content-Length: 5, 5"],
        ["Content-Length: 5,5 ,\t05"],
        ["Content-Length: 5", "Content-Length: 5"],
    ],
)
@pytest.mark.parametrize(("body", "whole"), [("12345", True), ("123", False)])
def test_equal_lengths_are_one(
    fetcher: Callable[..., Fetcher], server: WebServer, headers: list[str], body: str, whole: bool
) -> None:
    url = server.script("a.csv", raw_reply(*headers, body=body))
    fetch = fetcher(retries=0)
    if whole:
        assert fetch.new(url).artifact.checksum == checksum(b"12345")
    else:
        with pytest.raises(FetchError, match="3 of 5"):
            fetch(url)


def test_equal_lengths_end_a_body_on_an_open_connection(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", b"12345", headers={"Content-Length": "5, 5"})
    server.script("a.csv", Reply(cut=5, hang=True))
    assert fetcher(read_timeout=5.0).new(url).artifact.checksum == checksum(b"12345")
    assert len(server.requests) == 1


@pytest.mark.parametrize("line", ["no header", "Name : value", "\x00"])
def test_headers_that_cannot_be_read_are_refused(fetcher: Callable[..., Fetcher], server: WebServer, line: str) -> None:
    url = server.script("a.csv", raw_reply("Connection: close", line, "Content-Length: 99"))
    with pytest.raises(FetchError, match="the answer is no valid HTTP"):
        fetcher(retries=0)(url)


@pytest.mark.parametrize("applied", ["gzip, chunked", "gzip", "identity", "chunked, chunked", "chunked ", "xchunked"])
def test_an_unknown_transfer_coding_is_refused(fetch: Fetcher, server: WebServer, applied: str) -> None:
    url = server.script("a.csv", raw_reply(f"Transfer-Encoding: {applied}", body="5\r\n12345\r\n0\r\n\r\n"))
    with pytest.raises(FetchError, match="Transfer-Encoding") as caught:
        fetch(url)
    assert not caught.value.retryable


def test_beside_chunks_a_length_means_nothing(fetch: Fetcher, server: WebServer) -> None:
    headers = ["Content-Length: 99", "Transfer-Encoding: Chunked"]
    url = server.script("a.csv", raw_reply(*headers, body="5\r\n12345\r\n0\r\n\r\n"))
    assert fetch.new(url).artifact.checksum == checksum(b"12345")
