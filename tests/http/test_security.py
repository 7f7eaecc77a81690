"""Credentials, redirects, TLS, proxies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aero_core.errors import FetchError
from aero_core.testing.fetching import Fetcher, checksum
from aero_core.testing.servers import Reply, WebServer, self_signed
from tests.support import need

OPTIONS = {"headers": {"Authorization": "Bearer SECRET", "X-Key": "SECRET"}}


@pytest.fixture
def other() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


def redirect(to: str, status: int = 302) -> Reply:
    return Reply(status=status, headers={"Location": to}, body=b"moved")


def test_credentials_reach_the_source(fetch: Fetcher, server: WebServer) -> None:
    fetch.new(server.publish("a.csv", b"1"), options=OPTIONS)
    assert server.requests[0].headers["Authorization"] == "Bearer SECRET"
    assert server.requests[0].headers["X-Key"] == "SECRET"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_with_credentials_on_one_host(fetch: Fetcher, server: WebServer, status: int) -> None:
    server.publish("there/b.json", b"{}")
    url = server.script("a", redirect("there/b.json", status))
    found = fetch.new(url, options=OPTIONS)
    assert found.artifact.checksum == checksum(b"{}")
    assert found.artifact.suffix == ".json"
    assert [seen.headers.get("X-Key") for seen in server.requests] == ["SECRET", "SECRET"]
    assert {seen.connection for seen in server.requests} == {1}


def test_credentials_do_not_follow_to_another_port(fetch: Fetcher, server: WebServer, other: WebServer) -> None:
    url = server.script("a.csv", redirect(other.publish("a.csv", b"1")))
    fetch.new(url, options=OPTIONS)
    assert {"Authorization", "X-Key"}.isdisjoint(other.requests[0].headers)


def test_credentials_do_not_follow_to_another_host(fetch: Fetcher, server: WebServer) -> None:
    server.publish("b.csv", b"1")
    url = server.script("a.csv", redirect(server.url("b.csv", host="localhost")))
    fetch.new(url, options=OPTIONS)
    assert {"Authorization", "X-Key"}.isdisjoint(server.requests[1].headers)


def test_credentials_do_not_come_back(fetch: Fetcher, server: WebServer, other: WebServer) -> None:
    other.script("b", redirect(server.publish("c.csv", b"1")))
    fetch.new(server.script("a", redirect(other.url("b"))), options=OPTIONS)
    assert {"Authorization", "X-Key"}.isdisjoint(server.requests[1].headers)


def test_withheld_credentials_are_spoken_of(fetch: Fetcher, server: WebServer, other: WebServer) -> None:
    url = server.script("a.csv", redirect(other.script("b.csv", Reply(status=403))))
    with pytest.raises(FetchError, match="credentials are not handed on to another host"):
        fetch(url, options=OPTIONS)


def test_redirects_in_a_ring_end(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.script("a.csv", *[redirect("/a.csv")] * 9)
    with pytest.raises(FetchError, match="redirects more than 4 times") as caught:
        fetcher(redirects=4)(url)
    assert not caught.value.retryable
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("ftp://127.0.0.1/a.csv?SECRET", "only http and https"),
        ("file:///etc/passwd", "only http and https"),
        ("http://user:SECRET@127.0.0.1/a.csv", "a user name in a URL"),
        ("http://[::1/", "no valid URL"),
        ("http://127.0.0.1:port/", "no valid URL"),
        ("", "redirects to nowhere"),
    ],
)
def test_redirects_that_are_not_followed(fetch: Fetcher, server: WebServer, location: str, says: str) -> None:
    with pytest.raises(FetchError, match=says) as caught:
        fetch(server.script("a.csv", redirect(location)))
    assert not caught.value.retryable
    assert "SECRET" not in str(caught.value)


def test_a_redirect_without_a_place(fetch: Fetcher, server: WebServer) -> None:
    with pytest.raises(FetchError, match="redirects to nowhere"):
        fetch(server.script("a.csv", Reply(status=302)))


def test_an_endless_body_of_a_redirect_is_not_read(fetch: Fetcher, server: WebServer) -> None:
    server.publish("b.csv", b"1")
    endless = Reply(status=302, headers={"Location": "/b.csv"}, body=bytes(100_000_000))
    fetch.new(server.script("a.csv", endless))
    assert [seen.connection for seen in server.requests] == [1, 2]


def test_a_trickling_body_of_a_redirect_is_not_waited_for(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    server.publish("b.csv", b"1")
    slow = Reply(status=302, headers={"Location": "/b.csv"}, body=bytes(10), drip=1000)
    fetcher(read_timeout=0.1).new(server.script("a.csv", slow))


def test_cookies_are_not_kept(fetch: Fetcher, server: WebServer) -> None:
    url = server.publish("a.csv", b"1", headers={"Set-Cookie": "id=1; Path=/"})
    fetch.new(url)
    fetch.new(url)
    assert "Cookie" not in server.requests[1].headers


def test_netrc_is_ignored(fetch: Fetcher, server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password SECRET\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    fetch.new(server.publish("a.csv", b"1"))
    assert "Authorization" not in server.requests[0].headers


def test_a_proxy_is_used(fetch: Fetcher, server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.publish("a.csv", b"1")
    monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.1:{server.port}")
    fetch.new("http://data.invalid/a.csv")
    assert server.requests[0].path == "http://data.invalid/a.csv"
    assert server.requests[0].headers["Proxy-Authorization"].startswith("Basic ")


def test_no_proxy_is_honoured(fetch: Fetcher, server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fetch.new(server.publish("a.csv", b"1"))


def test_a_proxy_that_is_not_there(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:SECRET@127.0.0.1:1")
    with pytest.raises(FetchError, match=r"the proxy cannot be used: .*refused.*NO_PROXY") as caught:
        fetch("http://data.invalid/a.csv")
    assert "SECRET" not in str(caught.value)


def test_a_proxy_that_refuses_the_tunnel(fetch: Fetcher, server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    with pytest.raises(FetchError, match=r"the proxy cannot be used: .*407"):
        fetch("https://data.invalid/a.csv")
    assert server.requests[0].method == "CONNECT"


def test_a_proxy_without_a_sensible_url(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "ftp://127.0.0.1:1")
    with pytest.raises(FetchError, match="proxy") as caught:
        fetch("http://data.invalid/a.csv")
    assert not caught.value.retryable


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WebServer]:
    need("openssl")
    path, context = self_signed(tmp_path_factory.mktemp("tls"), "localhost")
    return path, WebServer("localhost", tls=context)


@pytest.fixture(scope="module")
def secure(certificate: tuple[Path, WebServer]) -> Iterator[WebServer]:
    with certificate[1] as server:
        yield server


def test_an_untrusted_certificate_is_refused(fetch: Fetcher, secure: WebServer) -> None:
    url = secure.publish("a.csv", b"1")
    with pytest.raises(FetchError, match=r"certificate is not trusted .self.signed") as caught:
        fetch(url)
    assert not caught.value.retryable


@pytest.mark.skipif(sys.platform == "darwin", reason="the system's store is not in a file")
def test_what_the_system_trusts_is_trusted(
    fetch: Fetcher,
    secure: WebServer,
    certificate: tuple[Path, WebServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    found = fetch.new(secure.publish("a.csv", b"1" * 2_000_000))
    assert found.artifact.checksum == checksum(b"1" * 2_000_000)


def test_a_bundle_of_requests_is_trusted(
    fetch: Fetcher,
    secure: WebServer,
    certificate: tuple[Path, WebServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    fetch.new(secure.publish("a.csv", b"1"))


def test_a_certificate_of_another_host_is_refused(
    fetch: Fetcher,
    secure: WebServer,
    certificate: tuple[Path, WebServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    secure.publish("a.csv", b"1")
    with pytest.raises(FetchError, match=r"certificate is not trusted .*mismatch"):
        fetch(secure.url("a.csv", host="127.0.0.1"))


def test_encryption_is_not_given_up(
    fetch: Fetcher,
    secure: WebServer,
    server: WebServer,
    certificate: tuple[Path, WebServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    url = secure.script("b.csv", redirect(server.publish("a.csv", b"1")))
    with pytest.raises(FetchError, match="from https to http") as caught:
        fetch(url)
    assert not caught.value.retryable
    assert server.requests == []


def test_tls_where_there_is_none(fetcher: Callable[..., Fetcher], server: WebServer) -> None:
    url = server.publish("a.csv", b"1").replace("http:", "https:")
    with pytest.raises(FetchError, match=r"no TLS connection|broke off"):
        fetcher(retries=0)(url)


def test_without_truststore_the_usual_bundle_serves(
    fetcher: Callable[..., Fetcher],
    secure: WebServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from aero_http import session

    class Missing:
        def SSLContext(self, protocol: int) -> None:  # noqa: N802 - truststore's name
            raise NotImplementedError

    monkeypatch.setattr(session, "truststore", Missing())
    with pytest.raises(FetchError, match="certificate is not trusted"):
        fetcher()(secure.publish("a.csv", b"1"))


def test_importing_the_plugin_loads_no_client() -> None:
    code = (
        "import sys, aero_http; aero_http.HttpPlugin().aero_provides();"
        "print([name for name in ('requests', 'urllib3', 'truststore') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
