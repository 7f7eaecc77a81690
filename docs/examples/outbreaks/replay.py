"""Four outbreaks once more, day by day: a small server for watching `aero up` at work.

It serves the series in data/ on this machine only, and publishes one more day of each on every
tick. An outbreak that has ended goes on with days of no cases.

    python docs/examples/outbreaks/replay.py

and, in a second terminal, the command that it prints.
"""

import argparse
import hashlib
import os
import shlex
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).resolve().parent
NAMES = ("flu1918", "flu2009", "measles1861", "sars2003")


@dataclass(frozen=True)
class Published:
    """What the world can see of a series at present.

    Attributes:
        days: How many days of it.
        body: The CSV file.
        modified: When the latest day was added, in whole seconds, as HTTP tells time.
        same_second: Whether that second saw another file too, so that it tells nothing.
    """

    days: int
    body: bytes
    modified: datetime
    same_second: bool = False

    @property
    def etag(self) -> str:
        """A strong validator: equal for equal bytes only."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def is_known(self, if_none_match: str | None, if_modified_since: str | None) -> bool:
        """Whether somebody who sends these headers has this very file already.

        The second header counts only without the first, as RFC 9110, section 13.2.2, says.
        """
        if if_none_match is not None:
            tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
            return "*" in tags or self.etag in tags
        since = _http_date(if_modified_since)
        if since is None:
            return False
        return self.modified < since or (self.modified == since and not self.same_second)


class Replay:
    """The server. In a `with` block it answers requests, from a thread of its own.

    Attributes:
        held: Names of series that are not published further: sources that do not change.
            Names may be added and removed at any time.
    """

    def __init__(self, port: int = 0, start: int = 15, held: Iterable[str] = ()) -> None:
        """Take the port and publish the first days.

        Args:
            port: Port on the loopback interface; 0 takes any that is free.
            start: Days of each series that are published already, at least 1.
            held: The names to begin with in `held`.

        Raises:
            ValueError: If `start` is below 1.
            OSError: If the port is not to be had.
        """
        if start < 1:
            raise ValueError(f"start must be at least 1 day, not {start}")
        self.held = set(held)
        self._lines = {name: _read_lines(HERE / "data" / f"{name}.csv") for name in NAMES}
        self._published = {
            name: Published(start, csv_text(lines, start), _now()) for name, lines in self._lines.items()
        }
        self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self._published))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Where the series are, each as `NAME.csv` below it."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def days(self) -> dict[str, int]:
        """How many days of each series are published."""
        return {name: published.days for name, published in self._published.items()}

    def advance(self) -> list[str]:
        """Publish one more day of each series that is not held.

        Returns:
            The names of the series that changed.
        """
        changed = [name for name in NAMES if name not in self.held]
        for name in changed:
            before, modified = self._published[name], _now()
            days = before.days + 1
            self._published[name] = Published(
                days,
                csv_text(self._lines[name], days),
                modified,
                same_second=modified == before.modified,
            )
        return changed

    def __enter__(self) -> Self:
        """Begin to answer requests."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Answer no more, and give the port back."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def csv_text(lines: Sequence[str], days: int) -> bytes:
    """The file of a series as it stood after so many days.

    Args:
        lines: The lines of the whole file, a header and then one line a day.
        days: How many days; those after the last line have no cases.
    """
    after = range(len(lines), days + 1)
    last_date = lines[-1].split(",")[1]
    rest = [f"{day},{_later(last_date, day - len(lines) + 1)},0" for day in after]
    return "\n".join([*lines[: days + 1], *rest, ""]).encode("ascii")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        replay = Replay(options.port, options.start, options.hold)
    except OSError as error:
        parser.error(f"port {options.port} is not to be had ({error.strerror}); try --port 0")
    try:
        with replay:
            _publish(replay, options.tick)
    except KeyboardInterrupt:
        _say("\nStopped.")


def _publish(replay: Replay, tick: float) -> None:
    """Say how to watch, and then publish a day a tick for ever."""
    flows = shlex.quote(os.path.relpath(HERE / "flows.py"))
    _say(f"Serving {', '.join(NAMES)} at {replay.url}; Ctrl-C stops.")
    _say(f"Watch with:  OUTBREAKS_URL={replay.url} aero up {flows}")
    while True:
        time.sleep(tick)
        replay.advance()
        published = ", ".join(f"{name} {count}" for name, count in replay.days.items())
        _say(f"{time.strftime('%H:%M:%S')}  days published: {published}")


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Serve four outbreaks, one more day a tick.")
    parser.add_argument("--port", type=port, default=8000, help="port on 127.0.0.1; 0: any (default: 8000)")
    parser.add_argument("--tick", type=seconds, default=5, help="seconds between two days (default: 5)")
    parser.add_argument(
        "--start",
        type=days,
        default=15,
        help="days already published (default: 15); R of the first week needs 8",
    )
    parser.add_argument(
        "--hold",
        action="append",
        default=[],
        choices=NAMES,
        help="publish no more of this series; may be repeated",
    )
    return parser


def port(text: str) -> int:
    """A port; argparse shows the name of this function in its errors."""
    if not 0 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 65535")
    return int(text)


def seconds(text: str) -> float:
    """A time to wait, at most a day."""
    if not 0 < float(text) <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return float(text)


def days(text: str) -> int:
    """A count of days from 1 on."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days from 1 on")
    return int(text)


def _handler(published: dict[str, Published]) -> type[BaseHTTPRequestHandler]:
    """A request handler that looks series up in a dict, which may change meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD for the series."""

        protocol_version = "HTTP/1.1"
        timeout = 30  # a client that keeps its connection open holds a thread

        def do_GET(self) -> None:
            """Send a file, or say that the client has it."""
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            """Send the headers that GET would."""
            self._answer(with_body=False)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep quiet: there is one line a tick."""

        def _answer(self, with_body: bool) -> None:
            name, _, suffix = self.path.partition("?")[0].lstrip("/").rpartition(".")
            series = published.get(name) if suffix == "csv" else None
            if series is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            known = series.is_known(self.headers["If-None-Match"], self.headers["If-Modified-Since"])
            self.send_response(HTTPStatus.NOT_MODIFIED if known else HTTPStatus.OK)
            self.send_header("ETag", series.etag)
            self.send_header("Last-Modified", format_datetime(series.modified, usegmt=True))
            self.send_header("Cache-Control", "no-cache")
            if not known:
                self.send_header("Content-Type", "text/csv; charset=utf-8")
                self.send_header("Content-Length", str(len(series.body)))
            self.end_headers()
            if with_body and not known:
                self.wfile.write(series.body)

    return Handler


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines()


def _later(last: str, days: int) -> str:
    """The date so many days after the last: a quoted ISO date, or a day number."""
    if last.startswith('"'):
        return f'"{date.fromisoformat(last.strip(chr(34))) + timedelta(days)}"'
    return str(int(last) + days)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _http_date(text: str | None) -> datetime | None:
    """The time that a header names, or None where it names none."""
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _say(line: str) -> None:
    # At once, also into a pipe or a log file.
    print(line, flush=True)


if __name__ == "__main__":
    main()
