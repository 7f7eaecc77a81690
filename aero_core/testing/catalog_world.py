"""What the catalog's contract tests say again and again, in few words."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, TypeVar

from aero_core.catalog import Catalog, Page
from aero_core.models import (
    Cause,
    CauseKind,
    Change,
    Claim,
    Commit,
    Committed,
    Data,
    FailedAttempt,
    Failure,
    Flow,
    FlowSpec,
    Function,
    Holder,
    Input,
    Limits,
    MemberCheck,
    NewVersion,
    Output,
    PolicyEnum,
    Registration,
    Run,
    RunState,
    Schedule,
    Source,
)

T = TypeVar("T")

ENGINE = Holder("engine-1", boot_id="boot", lock="/engines/1.lock", agent="ada")
OTHER = Holder("engine-2", boot_id="boot", lock="/engines/2.lock", agent="bob")
#: Every run at once.
PLENTY = Limits(free=1000, host=None)
ASKED = Cause(CauseKind.ASKED)
RETRY = Cause(CauseKind.RETRY)
FAILURE = Failure("function", "it did not go well")
#: Longer than any test runs: ticks of it come only once.
RARELY = Schedule(seconds=10**6)
#: A wait that ends with an error rather than never.
PATIENCE = 20.0


def digest(text: str) -> str:
    """The checksum of some text."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def function(code: str = "first", name: str = "work") -> Function:
    """A function whose digest and bundle depend on `code`."""
    bundle = digest(f"bundle {code}")
    return Function(name, digest(code), bundle, f"file:///code/{bundle[7:]}", 100, "flows.py")


def analysis(name: str, *inputs: str | Input, code: str = "first", **fields: Any) -> FlowSpec:
    """A flow that makes data of its own name from others; policy ANY unless told otherwise."""
    given = tuple(Input(f"p{place}", each) if isinstance(each, str) else each for place, each in enumerate(inputs))
    defaults: dict[str, Any] = {
        "inputs": given,
        "outputs": (Output("", name),),
        "policy": PolicyEnum.ANY,
        "function": function(code),
        "origin": "flows.py",
    }
    return FlowSpec(name, **{**defaults, **fields})


def source(name: str, *urls: str, **fields: Any) -> FlowSpec:
    """A flow that ingests data of its own name; without a schedule."""
    defaults: dict[str, Any] = {
        "source": Source(urls or (f"https://example.org/{name}.csv",), 10**9),
        "outputs": (Output("", name),),
        "policy": PolicyEnum.INGESTION,
        "origin": "flows.py",
    }
    return FlowSpec(name, **{**defaults, **fields})


def content(output: Output, text: str, **fields: Any) -> NewVersion:
    """New content of an output, stored where its checksum says."""
    checksum = digest(text)
    place = f"file:///store/{output.data_id}/{checksum[7:]}"
    defaults: dict[str, Any] = {
        "checksum": checksum,
        "fingerprint": f"bytes:{checksum}",
        "size": len(text),
        "store": "local",
        "location": place,
    }
    return NewVersion(output.key, output.data_id, **{**defaults, **fields})


def check(url: str, key: str = "", **fields: Any) -> MemberCheck:
    """What a poll learned of a member."""
    return MemberCheck(key, url, **{"validators": {"etag": "1"}, "decided_by": "etag", **fields})


class World:
    """A catalog, and short words for what is done to it."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    # Registering

    def register(self, *specs: FlowSpec, **fields: Any) -> tuple[Change, ...]:
        """Register flows together."""
        return self.catalog.register(Registration(specs, agent="ada", **fields))

    def flow(self, name: str) -> Flow:
        """A flow by name."""
        return self.catalog.flow(name)

    def data(self, name: str) -> Data:
        """A data by name."""
        return self.catalog.data(name)

    # Running

    def begin(self, *names: str, holder: Holder = ENGINE, limits: Limits = PLENTY) -> tuple[Claim, ...]:
        """Claim what is due, of some flows or of all."""
        only = [self.flow(name).id for name in names] if names else None
        return self.catalog.begin(holder, limits, only)

    def claim(self, name: str) -> Claim:
        """Claim the one run of a flow that is due; another number of them is an error."""
        (claim,) = self.begin(name)
        return claim

    def due(self) -> list[str]:
        """Names of the flows that have a queued run, in order."""
        return sorted(run.flow for run in self.runs(state=RunState.QUEUED))

    def runs(self, name: str | None = None, state: RunState | None = None) -> list[Run]:
        """Runs, newest first."""
        flow_id = None if name is None else self.flow(name).id
        states = () if state is None else (state,)
        return every(lambda after: self.catalog.list_runs(after, flow_id=flow_id, states=states))

    def commit(self, claim: Claim, text: str | None = None, **fields: Any) -> Committed:
        """Commit a run: the same content for each of its outputs, or nothing at all."""
        outputs = claim.flow.spec.outputs if text is not None else ()
        member = claim.arguments.key
        versions = tuple(content(output, text or "", member=member) for output in outputs)
        given = {"versions": versions, **fields}
        return self.catalog.commit(Commit(claim.run.id, claim.run.fencing, **given))

    def fail(self, claim: Claim, **fields: Any) -> Run:
        """Fail a run, for good unless `retry_after` is given."""
        given = {"failure": FAILURE, **fields}
        return self.catalog.fail(FailedAttempt(claim.run.id, claim.run.fencing, **given))

    def ask(self, name: str, cause: Cause = ASKED) -> tuple[Run, ...]:
        """Ask for a run of a flow."""
        return self.catalog.queue(self.flow(name).id, cause, "ada")

    def make(self, name: str, text: str) -> Committed:
        """Run a flow, due or not, and commit some content of its outputs."""
        self.ask(name)
        return self.commit(self.claim(name), text)

    def make_data(self, *names: str, versions: int = 0) -> None:
        """Register sources that run only when asked to, with some versions each."""
        self.register(*(source(name, policy=PolicyEnum.NONE) for name in names))
        for name in names:
            for number in range(1, versions + 1):
                self.make(name, f"{name} {number}")

    # Looking

    def latest(self, name: str) -> int | None:
        """The latest number of a data."""
        return self.data(name).latest

    def numbers(self, name: str) -> list[int]:
        """The numbers of all of a data's versions, newest first."""
        data_id = self.data(name).id
        found = every(lambda after: self.catalog.versions(data_id, after))
        return [version.number for version in found]

    def picture(self) -> object:
        """All that can be looked up, to tell whether anything has changed."""
        catalog = self.catalog
        flows = every(lambda after: catalog.list_flows(after))
        data = every(lambda after: catalog.list_data(after))
        explained = [catalog.explain(flow.id) for flow in flows]
        return flows, data, self.runs(), explained, catalog.outbox(0, 10**6), catalog.cursors()

    def until(self, moment: datetime) -> None:
        """Let the catalog's clock pass a moment that is near."""
        while (left := moment - self.catalog.now()) >= timedelta():
            time.sleep(max(left.total_seconds(), 0.001))


def every(page: Callable[[str | None], Page[T]]) -> list[T]:
    """The items of all pages."""
    found: list[T] = []
    after: str | None = None
    while True:
        answer = page(after)
        found += answer.items
        if answer.next is None:
            return found
        after = answer.next


def at_once(*works: Callable[[], T]) -> list[T]:
    """Do several things at the same time, each in a thread; their answers in order."""
    barrier = threading.Barrier(len(works))

    def begin(work: Callable[[], T]) -> T:
        barrier.wait(PATIENCE)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(PATIENCE) for future in [pool.submit(begin, work) for work in works]]


def kinds(changes: Sequence[Change]) -> list[str]:
    """The kinds of a plan's lines."""
    return [change.kind.value for change in changes]
