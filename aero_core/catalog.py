"""The catalog: the system of record, as an abstract base class.

A backend subclasses `Catalog`, answers it from `aero_open_catalog`, and passes `aero_core.testing`'s contract tests.
What each method must guarantee stands in its docstring; the rules that hold for all of them are:

- **One transaction.** Every method that writes does all of it or nothing, durably before it returns.
- **Idempotent.** Repeating a call whose answer was lost changes nothing more and answers the same.
- **Threads and processes.** Any method may be called from several threads and processes at once.
- **The catalog's clock** decides everything that compares times (`now`); callers' clocks are not trusted.
- **Locking.** Whatever adds to data and queues runs locks, in this order, before it reads any number: the data that
  it adds to, by id; then the flows that make them or depend on them, by id. Two commits at once then see each
  other's versions, and no ALL trigger is lost.
- **Order.** Outbox records, and what `wait` tells of, get their place only once no older transaction is open, so that
  a reader that has seen position n never meets a smaller one later.
- **Policy.** Whether a flow is due is decided by `aero_core.policy.decide` inside the transaction.
- **One live run** (queued or running) for each flow and argument set, enforced by the backend.

References to data, flows and runs are ids, unique prefixes of ids of at least four characters, or names in the
namespace that is asked for (of runs: ids only).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Generic, TypeVar

from attrs import frozen

from aero_core.models import (
    JSON,
    Cause,
    Change,
    Claim,
    Commit,
    Committed,
    Cursor,
    Data,
    Explanation,
    FailedAttempt,
    Flow,
    FlowSpec,
    FlowState,
    Holder,
    Limits,
    Member,
    OutboxRecord,
    Registration,
    Run,
    RunState,
    Version,
)

T = TypeVar("T")

PAGE = 100


@frozen
class Page(Generic[T]):
    """Some items in order, and what to pass as `after` for the next ones (None at the end)."""

    items: tuple[T, ...]
    next: str | None = None


@frozen
class Beat:
    """A heartbeat's answer: of the runs asked about, those to cancel, and those that somebody else has taken over."""

    cancel: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()


class Catalog(ABC):
    """The system of record of data, versions, flows, runs and provenance. See the module's rules."""

    @abstractmethod
    def close(self) -> None:
        """Give back connections. The object is not used again."""

    @abstractmethod
    def now(self) -> datetime:
        """The catalog's clock, UTC."""

    @abstractmethod
    def check(self) -> list[str]:
        """Look for damage and answer one line for each finding; empty when all is well."""

    # Registration

    @abstractmethod
    def register(self, registration: Registration) -> tuple[Change, ...]:
        """Make flows and their data, or change them, and queue what is due by that.

        - A flow is found by (namespace, project, origin, name). Equal: nothing happens.
          `policy.differences` tells a new revision from a change of settings; a disabled flow that is registered again
          becomes active.
        - Inputs are resolved to data ids by id, or by name in the namespace, data made by this registration included.
          A pinned number must exist, or another active flow must make the data: then the flow waits for it.
        - Refused as a whole: an unknown input; a data that another active flow makes; a cycle; two flows of one name.
        - A new flow that starts by itself is due at once, or with a cron schedule at its first tick; with an interval
          the anchor is now. The anchor is kept across revisions while the interval is the same.
        - A run that waits for its next attempt begins at once with a new revision, as its first attempt.
        - A new revision is due once (unless `rerun` is False or its policy never starts by itself): as soon as every
          input has a version. `consumed` numbers are kept for inputs that stay; with `rerun` False new inputs start as
          consumed at their latest.
        - Flows of `registration.origins` in its namespace and project that are not among the specs are gone: in the
          answer, and disabled with `prune`.
        - A disabled flow has no queued runs and no ticks; its data and versions stay.
        - With `dry_run` the same answer, or the same error, and no change.

        Returns:
            One change for each spec in order, then the gone ones by name.

        Raises:
            RegistrationError: As above; one line that names the flow and what to do.
        """

    @abstractmethod
    def set_flow_state(self, flow_id: str, state: FlowState, agent: str) -> Flow:
        """Pause, resume or disable a flow.

        Paused or disabled: queued runs are cancelled, no new ones come, a running one finishes. Resumed: it is
        looked at as after a commit, and its next tick is the first one from now on.
        """

    # Runs

    @abstractmethod
    def queue(self, flow_id: str, cause: Cause, agent: str) -> tuple[Run, ...]:
        """Make a flow due now whatever its policy says, once for each argument set.

        A run that is queued already is answered as it is, with `not_before` now; a running one is answered as it is.
        Cause RETRY also clears `attempted`.

        Raises:
            RegistrationError: The flow is not active, or an input has no version yet.
        """

    @abstractmethod
    def begin(self, holder: Holder, limits: Limits, only: Collection[str] | None = None) -> tuple[Claim, ...]:
        """Turn ticks that have come into queued runs, then claim runs that may begin, oldest `not_before` first.

        - A tick of a flow with a live run makes no second one; it makes a queued one due now, unless that one waits
          because the other side asked for it (`retry_after` of its failure). Missed ticks are one: `next_tick` moves
          past now. ANY and ALL flows with a schedule are decided at their ticks only.
        - A claim sets state, holder, fencing + 1, attempt + 1, `attempt_id`, and a lease; resolves the inputs to the
          latest current versions (or pinned ones), which are saved as `used`; and takes the flow's present revision.
        - Runs whose holder was `release`d, or whose lease has run out by the catalog's clock, are claimed as well: with
          fencing + 1 and `taken_over`, the same attempt and the same `used`. One that was to be cancelled and has no
          handle is cancelled instead.
        - Limits count running runs over all engines. Two engines never claim one run.

        Args:
            holder: The engine.
            limits: How many runs at most, and how many at once by endpoint and source host.
            only: Ids of the flows to look at; None for all.
        """

    @abstractmethod
    def launched(self, run_id: str, fencing: int, handle: str) -> None:
        """Save an outside executor's handle, for `taken_over`.

        Raises:
            StaleRun: Somebody else holds the run.
        """

    @abstractmethod
    def heartbeat(self, holder: Holder, run_ids: Collection[str]) -> Beat:
        """Renew the leases of runs held by `holder`; say which are to be cancelled, and which it holds no more."""

    @abstractmethod
    def holders(self) -> tuple[Holder, ...]:
        """The engines that hold running runs."""

    @abstractmethod
    def release(self, holder_id: str) -> int:
        """Let the runs of an engine that is proved dead be claimed at once; answers how many."""

    @abstractmethod
    def hand_back(self, run_id: str, fencing: int) -> None:
        """Queue a running run again, as if it had not begun: no attempt is counted. For a clean stop."""

    @abstractmethod
    def commit(self, commit: Commit) -> Committed:
        """Add what one run brings to the record, in one transaction.

        That is: versions, provenance, member checks, the run's final state, consumed numbers, the runs that are due by
        it, and the outbox record.

        - The run's id is the idempotency key: committed again, the first result is answered, whatever is sent.
        - `fencing` must be the run's, and the run running; otherwise StaleRun and no change.
        - New content is compared under its own rule with the member's latest current and its last held or rejected
          version, `previous_fingerprint` standing in for the one of `previous_number`: equal to either, no new version.
          Else it gets number max + 1 of its data (1 at first), whatever runs at once: no gaps, no repeats.
        - Content without `location` (found equal where it ran) that is no longer equal here: CommitConflict. A location
          that is being collected: CommitConflict.
        - `available_at` is the clock's now, and later than that of any version of the data before; None when held.
        - State: `unchanged` when it made no version though the flow has outputs; `succeeded` otherwise. Unchanged polls
          (runs of flows with a source) are kept for the last 100 of a flow, and get no outbox record; those that go are
          `forgotten` in the answer, so that their logs go too.
        - `consumed` becomes the used number of each input, `attempted` is cleared, a due revision up to the run's
          is done.
        - Then every active flow that reads a data with a new current version, and this flow itself, is decided anew;
          a due one without a live run gets a queued one. With a schedule only its ticks do that.
        """

    @abstractmethod
    def fail(self, failed: FailedAttempt) -> Run:
        """Record that an attempt failed, and all that it says: error, steps, metrics, environment and log.

        With `retry_after` the run is queued again for now + that many seconds, keeping attempt count and cause.
        Without, the run has failed for good (or was cancelled): `attempted` becomes the used numbers, a due revision
        is done, and the flow is decided anew for what came meanwhile.

        Raises:
            StaleRun: Somebody else holds the run.
        """

    @abstractmethod
    def cancel(self, run_id: str, agent: str) -> Run:
        """Cancel a queued run at once; ask for a running one's cancelling (see `heartbeat`)."""

    @abstractmethod
    def next_due(self, only: Collection[str] | None = None) -> datetime | None:
        """When the next queued run may begin, tick comes or lease runs out; None when nothing is foreseen.

        May lie in the past: then `begin` has something to do, or limits hold it back.
        """

    @abstractmethod
    def position(self) -> int:
        """A number that grows with every change that an engine may have to act on."""

    @abstractmethod
    def wait(self, since: int, timeout: float) -> int:
        """Wait until `position` is past `since`, at most `timeout` seconds; answers the position.

        A change made by this process wakes at once, one by another process within 100 ms, without polling tables.
        """

    # Looking up

    @abstractmethod
    def data(self, ref: str, namespace: str = "") -> Data:
        """One data by id, unique prefix of its id, or name in a namespace.

        Raises NotFound, naming the nearest names.
        """

    @abstractmethod
    def list_data(
        self,
        after: str | None = None,
        limit: int = PAGE,
        flow_id: str | None = None,
        namespace: str | None = None,
    ) -> Page[Data]:
        """Data by name: all, those that one flow makes, those of a namespace; disabled flows' data included."""

    @abstractmethod
    def version(self, data_id: str, number: int) -> Version:
        """One version by number. Raises NotFound."""

    @abstractmethod
    def latest(self, data_id: str, as_of: datetime | None = None) -> Version | None:
        """The highest current number, or as of a time: the highest with `available_at` not later."""

    @abstractmethod
    def versions(
        self, data_id: str, after: str | None = None, limit: int = PAGE, newest_first: bool = True
    ) -> Page[Version]:
        """A data's versions by number, of every standing."""

    @abstractmethod
    def members(self, data_id: str, after: str | None = None, limit: int = PAGE) -> Page[Member]:
        """A data's members by key."""

    @abstractmethod
    def flow(self, ref: str, namespace: str = "") -> Flow:
        """One flow by id, unique prefix of its id, or name in a namespace.

        Raises NotFound, or InvalidValue when several bear the name.
        """

    @abstractmethod
    def list_flows(
        self,
        after: str | None = None,
        limit: int = PAGE,
        origin: str | None = None,
        data_id: str | None = None,
        namespace: str | None = None,
    ) -> Page[Flow]:
        """Flows by name and id; of one origin, one namespace, or that read one data. Disabled ones included."""

    @abstractmethod
    def revision(self, flow_id: str, number: int) -> FlowSpec:
        """What a flow was at one revision: the code, kwargs and inputs that a run of then had. Raises NotFound."""

    @abstractmethod
    def run(self, ref: str) -> Run:
        """One run by id or unique prefix. Raises NotFound."""

    @abstractmethod
    def list_runs(
        self,
        after: str | None = None,
        limit: int = PAGE,
        flow_id: str | None = None,
        states: Collection[RunState] = (),
    ) -> Page[Run]:
        """Runs, newest first; of one flow; in some states."""

    @abstractmethod
    def readers(self, data_id: str, number: int, after: str | None = None, limit: int = PAGE) -> Page[Run]:
        """The runs that used one version, newest first."""

    @abstractmethod
    def explain(self, flow_id: str) -> tuple[Explanation, ...]:
        """Why a flow last ran and what it waits for, for each argument set."""

    # Outbox

    @abstractmethod
    def outbox(self, since: int, limit: int = PAGE) -> tuple[OutboxRecord, ...]:
        """Records after a position, in order. Delivered ones stay, for replay."""

    @abstractmethod
    def cursors(self) -> tuple[Cursor, ...]:
        """How far each named target is."""

    @abstractmethod
    def move_cursor(self, cursor: Cursor) -> None:
        """Save how far a target is, made at first use. Only the target's own deliverer calls it."""

    @abstractmethod
    def park(self, target: str, record: OutboxRecord, error: str) -> None:
        """Put one record aside for one target and move its cursor past it."""

    # Collecting garbage

    @abstractmethod
    def mark_collecting(self, locations: Sequence[str]) -> tuple[str, ...]:
        """Mark those of the locations that no version or bundle names as being collected, and answer them.

        From then on a commit that names one is refused with CommitConflict, until `unmark_collecting`.
        """

    @abstractmethod
    def unmark_collecting(self, locations: Sequence[str]) -> None:
        """The bytes at these locations are deleted, or stay after all: they may be named again."""

    # A place for settings that belong to the record itself

    @abstractmethod
    def setting(self, name: str) -> JSON:
        """A saved value, or None."""

    @abstractmethod
    def save_setting(self, name: str, value: JSON) -> None:
        """Save a JSON-able value under a name."""
