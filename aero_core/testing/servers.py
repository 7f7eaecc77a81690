r"""A real HTTP server on the loopback interface, which misbehaves as it is told.

Example:
    ```python
    from aero_core.testing.servers import Reply, WebServer

    with WebServer() as server:
        url = server.publish("cases.csv", b"day,cases\n", etag='"1"')
        server.script("cases.csv", Reply(status=503, headers={"Retry-After": "1"}))
        ...  # the first request is answered 503, all further ones with the content
        assert [seen.method for seen in server.requests] == ["GET", "GET"]
    ```
"""

from __future__ import annotations

import io
import os
import socket
import ssl
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import attrs
from attrs import frozen

#: Long ago, so that a client may trust it although it counts whole seconds.
LONG_AGO = "Mon, 05 Jan 2015 10:00:00 GMT"
_CHUNK = 1 << 16


@frozen
class Resource:
    """Content at a path.

    Attributes:
        body: The bytes, or a file that holds them.
        etag: `ETag` as it is sent, with its quotes.
        last_modified: `Last-Modified`.
        headers: Further headers; `Content-Type` among them.
        ranges: Whether `Range` is understood.
        chunked: Send in chunks, without a length.
    """

    body: bytes | Path
    etag: str | None = None
    last_modified: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    ranges: bool = True
    chunked: bool = False

    @property
    def size(self) -> int:
        """Bytes in the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.stat().st_size


@frozen
class Reply:
    """What happens to one request, in place of the normal answer.

    Attributes:
        status: Answer this, without the resource; None: answer the resource.
        headers: Sent as well; they replace normal ones of the same name.
        body: Sent with `status`.
        cut: Close the connection after so many bytes of the body.
        hang: Say nothing more (after `cut` bytes of the body, if given) until the server closes.
        drip: Send the body (or `raw`) byte by byte, with so many seconds between them.
        drop: Close the connection without an answer.
        raw: Send these bytes in place of an answer, then close the connection.
    """

    status: int | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""
    cut: int | None = None
    hang: bool = False
    drip: float | None = None
    drop: bool = False
    raw: bytes | None = None


@frozen
class Seen:
    """One request that came.

    Attributes:
        connection: Number of the connection that it came on, from 1.
        status: What it was answered; 0 for nothing.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    connection: int
    status: int


class WebServer:
    """The server, as a context manager. Requests are answered by a thread each.

    Asked with a whole URL, as a proxy is, it answers for every host.

    Attributes:
        requests: What came, in order.
    """

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.requests: list[Seen] = []
        self._tls = tls
        self._resources: dict[str, Resource] = {}
        self._scripts: dict[str, deque[Reply]] = {}
        self._sockets: set[socket.socket] = set()
        self._connections = 0
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self._server = _Listener(self, ("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def url(self, name: str, host: str | None = None) -> str:
        """The URL of a name; `host` may be another name of this machine."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host or self.host}:{self.port}/{quote(name)}"

    def publish(self, name: str, body: bytes | Path, **how: Any) -> str:
        """Put content at a name, or change it; `how` as in `Resource`. Answers the URL."""
        self._resources["/" + name] = Resource(body, **how)
        return self.url(name)

    def remove(self, name: str) -> None:
        """Take content away."""
        self._resources.pop("/" + name, None)

    def script(self, name: str, *replies: Reply) -> str:
        """Answer the next requests for a name so, one each. Answers the URL."""
        self._scripts.setdefault("/" + name, deque()).extend(replies)
        return self.url(name)

    def next_reply(self, path: str) -> Reply:
        """What the script wants for a request."""
        with self._lock:
            waiting = self._scripts.get(path)
            return waiting.popleft() if waiting else Reply()

    def resource(self, path: str) -> Resource | None:
        """What is at a path."""
        return self._resources.get(path)

    def connected(self, connection: socket.socket) -> int:
        """Note a connection and answer its number."""
        with self._lock:
            self._sockets.add(connection)
            self._connections += 1
            return self._connections

    def disconnected(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._sockets.discard(connection)

    def secure(self, connection: socket.socket) -> socket.socket:
        """The connection under TLS, if that is wanted. Runs in the connection's own thread."""
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_side=True)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, web: WebServer, address: tuple[str, int], handler: type[_Handler]) -> None:
        self.web = web
        super().__init__(address, handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # A client that turns away (an untrusted certificate, a cancelled fetch) is no error here.
        with suppress(OSError), self.web.secure(request) as connection:
            super().finish_request(connection, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise a small answer may wait for the client's delayed acknowledgement.
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.web = self.server.web
        self.number = self.web.connected(self.connection)

    def finish(self) -> None:
        self.web.disconnected(self.connection)
        super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        reply = self.web.next_reply(path)
        resource = self.web.resource(path)
        if reply.drop or reply.raw is not None:
            self._note(0)
            self._send_raw(reply)
            self.close_connection = True
        elif reply.hang and reply.cut is None:
            self._note(0)
            self.web.closing.wait()
        elif reply.status is not None:
            self._answer(reply.status, reply, reply.body, {})
        elif resource is None:
            self._answer(404, reply, b"nothing here\n", {})
        else:
            self._serve(resource, reply)

    def do_CONNECT(self) -> None:
        """Refuse tunnels."""
        self._answer(407, Reply(), b"", {"Content-Length": "0"})

    def _note(self, status: int) -> None:
        seen = Seen(self.command, self.path, dict(self.headers), self.number, status)
        self.web.requests.append(seen)

    def _serve(self, resource: Resource, reply: Reply) -> None:
        headers = {"ETag": resource.etag, "Last-Modified": resource.last_modified}
        headers |= {"Accept-Ranges": "bytes" if resource.ranges else "none", **resource.headers}
        if (status := self._condition(resource)) is not None:
            self._answer(status, reply, b"", headers)
            return
        start = self._start(resource)
        if start is None:
            self._answer(200, reply, resource.body, headers, chunked=resource.chunked)
        elif start >= resource.size:
            self._answer(416, reply, b"", {"Content-Range": f"bytes */{resource.size}"})
        else:
            headers["Content-Range"] = f"bytes {start}-{resource.size - 1}/{resource.size}"
            self._answer(206, reply, resource.body, headers, start=start)

    def _condition(self, resource: Resource) -> int | None:
        ask = self.headers.get
        if (wanted := ask("If-Match")) is not None and wanted != resource.etag:
            return 412
        if (until := ask("If-Unmodified-Since")) and _later(resource.last_modified, until):
            return 412
        if (known := ask("If-None-Match")) is not None:
            return 304 if known == resource.etag else None
        since = ask("If-Modified-Since")
        if since and resource.last_modified and not _later(resource.last_modified, since):
            return 304
        return None

    def _start(self, resource: Resource) -> int | None:
        """Where a range begins; None: the whole is to be sent."""
        asked = self.headers.get("Range", "")
        seal = self.headers.get("If-Range")
        if not resource.ranges or not asked.startswith("bytes=") or not asked.endswith("-"):
            return None
        if seal is not None and seal not in (resource.etag, resource.last_modified):
            return None
        return int(asked[len("bytes=") : -1])

    def _answer(
        self,
        status: int,
        reply: Reply,
        body: bytes | Path,
        headers: Mapping[str, str | None],
        *,
        start: int = 0,
        chunked: bool = False,
    ) -> None:
        self._note(status)
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        merged: dict[str, str | None] = {"Content-Length": str(size - start), **headers}
        if chunked:
            merged |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        replaced = {name.lower() for name in reply.headers}
        merged = {name: text for name, text in merged.items() if name.lower() not in replaced}
        self.send_response(status)
        for name, text in {**merged, **reply.headers}.items():
            if text is not None:
                self.send_header(name, text)
        self.end_headers()
        if status != 304:
            self._send(body, start, reply, chunked)

    def _send(self, body: bytes | Path, start: int, reply: Reply, chunked: bool) -> None:
        with _opened(body) as file:
            if chunked:
                self._send_chunks(file.read(reply.cut))
                if reply.cut is None:
                    self.wfile.write(b"0\r\n\r\n")
            elif reply.drip is not None:
                file.seek(start)
                self._drip(file.read(reply.cut), reply.drip)
            elif isinstance(body, Path):
                self.connection.sendfile(file, start, reply.cut)
            else:
                file.seek(start)
                self.wfile.write(file.read(reply.cut))
        if reply.hang:
            self.web.closing.wait()
        if reply.cut is not None:
            self.close_connection = True

    def _send_raw(self, reply: Reply) -> None:
        if reply.drip is None:
            self.wfile.write(reply.raw or b"")
        else:
            self._drip(reply.raw or b"", reply.drip)

    def _drip(self, data: bytes, seconds: float) -> None:
        for byte in data:
            self.wfile.write(bytes([byte]))
            if self.web.closing.wait(seconds):
                break

    def _send_chunks(self, data: bytes) -> None:
        for at in range(0, len(data), _CHUNK):
            chunk = data[at : at + _CHUNK]
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))


@contextmanager
def _opened(body: bytes | Path) -> Iterator[Any]:
    if isinstance(body, Path):
        with body.open("rb") as file:
            yield file
    else:
        yield io.BytesIO(body)


def _later(changed: str | None, than: str) -> bool:
    return changed is None or parsedate_to_datetime(changed) > parsedate_to_datetime(than)


def self_signed(folder: Path, name: str = "localhost") -> tuple[Path, ssl.SSLContext]:
    """A certificate for `name` that nobody trusts, made by the program `openssl`.

    Returns:
        The certificate's file, to be trusted by who wants to, and a context for `WebServer`.
    """
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command += ["-keyout", os.fspath(key), "-out", os.fspath(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
