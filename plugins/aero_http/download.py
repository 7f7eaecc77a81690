"""One fetch: ask, stream, go on where it broke, and say what came of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import attrs
import requests

from aero_core.errors import FetchError
from aero_core.models import (
    Artifact,
    Fetched,
    NotModified,
    Previous,
    Progress,
    SourceMember,
    Validators,
)
from aero_http import coding, validators
from aero_http.content import describe, is_packed
from aero_http.exchange import FAILURES, Answer, ask, own_headers
from aero_http.framing import announced
from aero_http.messages import (
    Interrupted,
    cannot,
    connection_failed,
    gone,
    size,
    unwanted_status,
)
from aero_http.patience import Pace, Patience
from aero_http.session import silenced
from aero_http.settings import Settings
from aero_http.sink import Sink
from aero_http.urls import check_url

_BLOCK = 1 << 20
_REPORT_EVERY = 0.1
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


@attrs.define
class Body:
    """The body that is being received, over as many answers as it takes.

    Attributes:
        headers: Of the answer that began it.
        url: Who gave that.
        total: Its length by the server, or None.
        received: Bytes of it that are there.
        inflater: What undoes its coding, if it has one.
        seal: What `If-Range` may ask for, or None: then it cannot be resumed.
    """

    headers: Mapping[str, str]
    url: str
    total: int | None
    received: int = 0
    inflater: coding.Inflater | None = None
    seal: str | None = None


@attrs.define
class Download:
    """One fetch, from the first request to the last retry."""

    settings: Settings
    session: requests.Session
    member: SourceMember
    target: Path
    previous: Previous
    expected: Validators | None
    progress: Progress
    _body: Body | None = attrs.field(default=None, init=False)
    _credentials: dict[str, str] = attrs.field(factory=dict, init=False)
    _reported: float = attrs.field(default=0.0, init=False)

    def run(self) -> Fetched | NotModified:
        """Do it.

        Raises:
            FetchError: In one line, why there is no content.
            ContentGone: The content is no longer the expected one.
        """
        check_url(self.member.url)
        self._credentials = own_headers(self.member)
        if self.expected is not None and not validators.can_tell(self.expected):
            why = "neither ETag nor Last-Modified is known of the wanted content"
            raise cannot(self.member.url, why, retryable=False)
        with silenced(), Sink(self.target) as sink:
            result = self._persist(sink)
        if isinstance(result, NotModified):
            self.target.unlink(missing_ok=True)
        return result

    def _persist(self, sink: Sink) -> Fetched | NotModified:
        patience = Patience(self.settings)
        furthest = 0
        while True:
            try:
                return self._attempt(sink)
            except Interrupted as broken:
                # Further than ever: a download that starts again and again does not get on.
                if self._body and self._body.received >= furthest + _BLOCK:
                    furthest = self._body.received
                    patience.renew()
                patience.wait(broken, self._report)

    def _attempt(self, sink: Sink) -> Fetched | NotModified:
        body = self._body
        if body is not None and (body.seal is None or not body.received):
            body = self._body = None
        headers = self._conditions(body)
        answer = ask(self.session, self.member.url, headers, self._credentials, self.settings)
        with closing(answer.response):
            if answer.response.status_code == 304 and body is None and self.expected is None and headers:
                # Read, it leaves the connection usable; Python would wait for chunks that a 304 only speaks of.
                if "Transfer-Encoding" not in answer.headers:
                    answer.response.raw.read()
                return self._unchanged(answer)
            self._check_status(answer, resuming=body is not None)
            if answer.response.status_code == 206 and body is not None:
                self._check_rest(answer, body)
            else:
                body = self._body = self._begin(answer, sink)
            self._stream(answer, body, sink)
        self._check_length(body)
        return self._conclude(body, sink)

    def _conditions(self, body: Body | None) -> dict[str, str]:
        wanted = {} if self.expected is None else validators.only_if(self.expected)
        if body is not None and body.seal is not None:
            return {**wanted, "Range": f"bytes={body.received}-", "If-Range": body.seal}
        if self.expected is not None:
            return wanted
        return validators.unless_same(self.previous.validators)

    def _unchanged(self, answer: Answer) -> NotModified:
        before = self.previous.validators
        now = {**before, **validators.read(answer.headers)}
        return NotModified(now, validators.asked_by(before))

    def _check_status(self, answer: Answer, *, resuming: bool) -> None:
        status, url = answer.response.status_code, self.member.url
        if self.expected is not None:
            if status in (404, 410, 412):
                raise gone(url, f"the server answers {status}")
            # The rest of a body need not repeat what `If-Range` has proved.
            if status in (200, 203) and validators.differ(self.expected, answer.headers):
                raise gone(url, "it has changed")
        if resuming and status == 416:
            self._body = None
            raise Interrupted(cannot(url, "the server has no rest to a download that broke off"))
        if status not in ((200, 203, 206) if resuming else (200, 203)):
            raise unwanted_status(answer.url, status, answer.headers, withheld=answer.withheld)

    def _begin(self, answer: Answer, sink: Sink) -> Body:
        """Start from zero."""
        self._body = None
        sink.restart()
        headers = answer.headers
        total = announced(answer.response, self.member.url)
        inflater = self._inflater(answer)
        check = self._check_packed if inflater else self._check_limit
        check(total or 0)
        seal = None if inflater else validators.if_range(validators.read(headers))
        if headers.get("Accept-Ranges", "").strip().lower() == "none":
            seal = None
        return Body(headers, answer.url, total, inflater=inflater, seal=seal)

    def _inflater(self, answer: Answer) -> coding.Inflater | None:
        applied = answer.headers.get("Content-Encoding", "").strip().lower()
        # Many servers call a file that is compressed by itself so: it stays as it is.
        if applied in ("", "identity") or is_packed(answer.headers, self.member.url, answer.url):
            return None
        if applied in coding.CODINGS:
            return coding.Inflater()
        why = "the server compresses in a way that was not asked for (Content-Encoding)"
        raise cannot(self.member.url, why, retryable=False)

    def _check_rest(self, answer: Answer, body: Body) -> None:
        """Make sure that an answer goes on where the download broke off."""
        announced(answer.response, self.member.url)
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        total = int(found[3]) if found and found[3] != "*" else body.total
        before, now = body.headers.get("ETag"), answer.headers.get("ETag")
        fits = (
            found is not None
            and int(found[1]) == body.received
            and (body.total is None or total == body.total)
            and total is not None
            and int(found[2]) < total
            and (before is None or now is None or before == now)
        )
        if not fits:
            self._body = None
            why = "the server's answer does not continue the download that broke off"
            raise Interrupted(cannot(self.member.url, why))
        body.total = total

    def _stream(self, answer: Answer, body: Body, sink: Sink) -> None:
        read, pace = answer.response.raw.read1, Pace(self.settings)
        while True:
            try:
                # `read1` answers what is there: a slow source is seen to move.
                block: bytes = read(_BLOCK)
            except FAILURES as error:
                failed = connection_failed(self.member.url, error, self.settings)
                raise self._cut_short(failed, body) from error
            if not block:
                return
            body.received += len(block)
            self._check_packed(body.received)
            for piece in self._plain(block, body):
                self._check_limit(sink.size + len(piece))
                sink.write(piece)
            self._report()
            if pace.trickles(len(block)):
                why = f"the server sent less than {size(self.settings.min_rate)} a second"
                raise self._cut_short(Interrupted(cannot(self.member.url, why)), body)

    def _plain(self, block: bytes, body: Body) -> Iterator[bytes]:
        if body.inflater is None:
            yield block
            return
        try:
            yield from body.inflater.feed(block)
        except ValueError as error:
            why = "the answer is not compressed as its Content-Encoding says"
            raise Interrupted(cannot(self.member.url, why)) from error

    def _cut_short(self, failed: Exception, body: Body) -> Exception:
        if isinstance(failed, Interrupted) and body.total is not None:
            came = f"{failed.error}, after {body.received} of {body.total} bytes"
            return Interrupted(FetchError(came))
        return failed

    def _check_limit(self, count: int) -> None:
        limit = self.member.limit
        if count > limit:
            why = f"it is larger than the source's limit of {size(limit)}; raise that to take it"
            raise cannot(self.member.url, why, retryable=False)

    def _check_packed(self, count: int) -> None:
        """Packing adds little to what does not shrink; without end is what unpacks to nothing."""
        self._check_limit(count // 2 - _BLOCK)

    def _check_length(self, body: Body) -> None:
        if body.total is not None and body.received != body.total:
            kind = "short" if body.received < body.total else "long"
            why = f"the answer is too {kind}: {body.received} of {body.total} announced bytes"
            if kind == "long":
                self._body = None
            raise Interrupted(cannot(self.member.url, why))
        if body.inflater is not None and body.received and not body.inflater.complete:
            raise Interrupted(cannot(self.member.url, "the answer is too short to be decompressed"))

    def _conclude(self, body: Body, sink: Sink) -> Fetched | NotModified:
        checksum = sink.finish()
        self._report(last=True)
        now = validators.read(body.headers)
        if self.expected is None and checksum == self.previous.checksum:
            return NotModified(now, "bytes")
        known = describe(body.headers, self.member.url, body.url, sink.head)
        artifact = Artifact(
            path=str(self.target),
            checksum=checksum,
            size=sink.size,
            media_type=known.media_type,
            encoding=known.encoding,
            suffix=known.suffix,
        )
        return Fetched(artifact, now, validators.told_change(self.previous, now, sink.size))

    def _report(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._reported >= _REPORT_EVERY:
            self._reported = now
            body = self._body
            self.progress(body.received if body else 0, body.total if body else None)
