"""Runs: one execution of a flow, what it used and made, and the records that tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import attrs
from attrs import frozen

from aero_core.errors import AeroError
from aero_core.models.data import Member, Version
from aero_core.models.flow import ArgumentSet, Flow, InputShape
from aero_core.models.values import JSON, Validators


class RunState(StrEnum):
    """Where a run is. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the run is over."""
        return self not in (RunState.QUEUED, RunState.RUNNING)


class CauseKind(StrEnum):
    """Why a run was made."""

    REGISTERED = "registered"
    TICK = "tick"
    INPUTS = "inputs"
    ASKED = "asked"
    RETRY = "retry"
    NOTIFIED = "notified"


@frozen
class Cause:
    """Why a run was made: the kind, and for inputs which data had something new (`cases@3`)."""

    kind: CauseKind
    detail: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.kind.value + (": " + ", ".join(self.detail) if self.detail else "")


@frozen
class Step:
    """One step of an attempt, with its start and end in UTC."""

    name: str
    started_at: datetime
    ended_at: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return _seconds(self.started_at, self.ended_at)


def _seconds(started_at: datetime, ended_at: datetime) -> float:
    """Between two times of one clock; none where it was set back meanwhile."""
    return max(0.0, (ended_at - started_at).total_seconds())


@frozen
class Used:
    """A version that a run reads, fixed when the run begins."""

    parameter: str
    data: str
    data_id: str
    number: int
    item: str = ""
    shape: InputShape = InputShape.ONE


@frozen
class Generated:
    """A version that a run made, or found to stand already (`confirmed`)."""

    key: str
    data: str
    data_id: str
    number: int
    member: str = ""
    confirmed: bool = False


@frozen
class Environment:
    """Where a run ran: Python, operating system, host, executor, and the versions of installed distributions.

    Of an attempt that did not live to tell, the executor is all that is known.
    """

    python: str = ""
    platform: str = ""
    host: str = ""
    executor: str = ""
    packages: Mapping[str, str] = attrs.field(factory=dict)


@frozen
class Failure:
    """Why an attempt failed.

    Attributes:
        kind: `function`, `outputs`, `damage` (the function wrote into the store), `timeout`, `memory`, `crash`,
            `fetch`, `store`, `executor`, `lost`, `plugin` ...
        message: One line.
        retryable: Whether the engine may try again without anybody's doing.
        traceback: The user function's traceback, if that is what failed.
        retry_after: Seconds that the other side asked to be left alone, as it said them.
    """

    kind: str
    message: str
    retryable: bool = False
    traceback: str | None = None
    retry_after: float | None = None

    @classmethod
    def of(cls, kind: str, error: AeroError) -> Failure:
        """The failure that an error makes of an attempt."""
        return cls(kind, " ".join(str(error).split()), error.retryable, retry_after=error.retry_after)


@frozen
class Run:
    """One execution of a flow.

    Attributes:
        seq: Place in the order in which runs were made; pages are keyed by it.
        attempt: Attempts begun.
        fencing: Grows with each holder; who presents an old number is refused.
        holder: The engine that has it.
        not_before: When a queued run may begin, UTC.
        log: Where the last attempt's output is kept: a path relative to the state folder.
    """

    id: str
    flow_id: str
    flow: str
    revision: int
    state: RunState
    cause: Cause
    argument_set: str = ""
    seq: int = 0
    attempt: int = 0
    attempt_id: str | None = None
    fencing: int = 0
    holder: str | None = None
    handle: str | None = None
    created_at: datetime | None = None
    not_before: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested: bool = False
    used: tuple[Used, ...] = ()
    generated: tuple[Generated, ...] = ()
    steps: tuple[Step, ...] = ()
    metrics: Mapping[str, JSON] = attrs.field(factory=dict)
    environment: Environment | None = None
    agent: str | None = None
    error: Failure | None = None
    log: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, by the catalog's clock; None of one that has not ended, or never began."""
        return _seconds(self.started_at, self.ended_at) if self.started_at and self.ended_at else None


@frozen
class Holder:
    """An engine as the catalog knows it.

    Attributes:
        id: The engine's own id.
        boot_id: Identifies host and boot; two engines with equal ones see the same lock files.
        lock: Path of the file that the engine holds locked while it lives.
    """

    id: str
    boot_id: str = ""
    lock: str = ""
    agent: str = ""


@frozen
class Limits:
    """How much may run at once.

    Attributes:
        free: Runs that this engine can take now.
        endpoint: Runs at once on one endpoint, over all engines; None for no limit.
        host: Runs at once that fetch from one host, over all engines.
    """

    free: int = 1
    endpoint: int | None = None
    host: int | None = 4


@frozen
class Claim:
    """A run that an engine has begun, with all that its task needs.

    Attributes:
        used: The versions of `run.used`, in the same order.
        latest: For each output's data id, the latest current version of each member.
        members: What is known of the source's members.
        taken_over: The run was begun by an engine that is gone: attach to `run.handle` before launching anew.
    """

    run: Run
    flow: Flow
    arguments: ArgumentSet
    used: tuple[Version, ...] = ()
    latest: tuple[Version, ...] = ()
    members: tuple[Member, ...] = ()
    taken_over: bool = False


@frozen
class NewVersion:
    """Content that a run brings to a commit.

    Attributes:
        location: Where it was stored, as a version has it, or None where the run found its fingerprint equal to the
            previous one's.
        rule: Id of the rule that made the fingerprint.
        held: Why a gate holds it, or None.
        previous_number: The version compared with, and
        previous_fingerprint: its fingerprint made anew under the present rule, where it had another.
        restored: Whether that one's bytes, the same, were missing and have been stored again.
    """

    key: str
    data_id: str
    checksum: str | None
    fingerprint: str
    size: int | None
    media_type: str | None = None
    encoding: str | None = None
    suffix: str = ""
    store: str = ""
    location: str | None = None
    member: str = ""
    held: str | None = None
    previous_number: int | None = None
    previous_fingerprint: str | None = None
    restored: bool = False


@frozen
class MemberCheck:
    """What a poll learned of one member."""

    key: str
    url: str
    validators: Validators
    decided_by: str
    gone: bool = False


@frozen
class Commit:
    """What one run adds to the record, in one transaction."""

    run_id: str
    fencing: int
    versions: tuple[NewVersion, ...] = ()
    members: tuple[MemberCheck, ...] = ()
    steps: tuple[Step, ...] = ()
    metrics: Mapping[str, JSON] = attrs.field(factory=dict)
    environment: Environment | None = None
    log: str | None = None


@frozen
class Committed:
    """A commit's result; the same one however often it is sent.

    Attributes:
        forgotten: Ids of old runs of which the record keeps nothing any more; told once.
    """

    run: Run
    versions: tuple[Version, ...] = ()
    forgotten: tuple[str, ...] = ()


@frozen
class FailedAttempt:
    """An attempt that did not reach its commit.

    Attributes:
        retry_after: Seconds until the next attempt, or None when the run has failed for good.
        cancelled: Somebody asked for it.
    """

    run_id: str
    fencing: int
    failure: Failure
    retry_after: float | None = None
    cancelled: bool = False
    steps: tuple[Step, ...] = ()
    metrics: Mapping[str, JSON] = attrs.field(factory=dict)
    environment: Environment | None = None
    log: str | None = None


@frozen
class InputState:
    """What a policy looks at: one input of a flow and argument set.

    Attributes:
        latest: The data's latest number, or None without a version; of a pinned input the pinned number, if it exists.
        consumed: The number that the last commit used; 0 at first.
        attempted: The number that the last run used when it failed for good; None otherwise.
        pinned: The number that the input is pinned to, or None.
    """

    parameter: str
    item: str
    data: str
    data_id: str
    latest: int | None
    consumed: int = 0
    attempted: int | None = None
    pinned: int | None = None


@frozen
class Decision:
    """A policy's answer: whether a flow is due, for which data (`cases@3`), and in words why or what it waits for."""

    due: bool
    news: tuple[str, ...] = ()
    reason: str = ""


@frozen
class Explanation:
    """Why a flow last ran and what it waits for."""

    flow: Flow
    inputs: tuple[InputState, ...]
    decision: Decision
    last_run: Run | None = None
    live_run: Run | None = None


@frozen
class OutboxRecord:
    """One numbered record for the provenance stores.

    Attributes:
        position: 1, 2, 3 ... in the order of delivery.
        kind: committed, registered, retired, released, rejected, purged, tagged, owned.
        payload: The complete record, JSON-able.
    """

    position: int
    kind: str
    at: datetime
    payload: Mapping[str, JSON]


@frozen
class Cursor:
    """How far one named target has taken the outbox."""

    target: str
    position: int = 0
    error: str | None = None
    attempts: int = 0
    next_try: datetime | None = None
    parked: int = 0
