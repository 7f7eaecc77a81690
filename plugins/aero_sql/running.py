"""Runs on their way: queued, begun, held, handed back, cancelled."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from aero_core import schedule
from aero_core.catalog import Beat
from aero_core.converter import unstructure
from aero_core.errors import NotFound, RegistrationError, StaleRun
from aero_core.models import (
    PREVIOUS,
    ArgumentSet,
    Cause,
    CauseKind,
    Claim,
    Flow,
    FlowState,
    Holder,
    Input,
    InputShape,
    Limits,
    Run,
    RunState,
    Standing,
    Used,
    Version,
)
from aero_sql import schema as t
from aero_sql.base import Base
from aero_sql.deciding import add_run, argument_sets, clear_queued, due_now, input_states, live_run, settle, tick
from aero_sql.due import ALL, CHOSEN, Due
from aero_sql.rows import flow_at, flow_by_id, flow_of, member_of, run_by_id, used_by, version_of

_QUEUED = RunState.QUEUED.value
_RUNNING = RunState.RUNNING.value

_HOLDERS = sa.select(t.holder).where(
    t.holder.c.id.in_(sa.select(t.run.c.holder).where(t.run.c.state == _RUNNING, t.run.c.released.is_(False)))
)
_BUSY = (
    sa.select(t.run.c.host, t.run.c.endpoint, sa.func.count().label("runs"))
    .where(t.run.c.state == _RUNNING)
    .group_by(t.run.c.host, t.run.c.endpoint)
)
_LATEST = (
    sa.select(t.version)
    .where(t.version.c.data_id == sa.bindparam("data"), t.version.c.standing == Standing.CURRENT.value)
    .order_by(t.version.c.number.desc())
    .limit(1)
)
_NUMBERED = sa.select(t.version).where(
    t.version.c.data_id == sa.bindparam("data"), t.version.c.number == sa.bindparam("number")
)
_MEMBERS = sa.select(t.member).where(t.member.c.data_id == sa.bindparam("data"))
_MEMBER_LATEST = (
    sa.select(t.version)
    .where(
        t.version.c.data_id == sa.bindparam("data"),
        t.version.c.member == sa.bindparam("member"),
        t.version.c.standing == Standing.CURRENT.value,
    )
    .order_by(t.version.c.number.desc())
    .limit(1)
)


class Running(Base):
    """From a queued run to its claim, and all that may happen to it before its end."""

    def queue(self, flow_id: str, cause: Cause, agent: str) -> tuple[Run, ...]:
        now = self.now()
        with self._db.write() as connection:
            flow = flow_by_id(connection, flow_id)
            if flow.state is not FlowState.ACTIVE:
                raise RegistrationError(f"flow {flow.name!r} is {flow.state.value}: `aero resume {flow.name}` first")
            if cause.kind is CauseKind.RETRY:
                connection.execute(sa.update(t.consumed).where(t.consumed.c.flow_id == flow_id).values(attempted=None))
            ids = [
                self._queue_one(connection, flow, key, cause, now, agent)
                for key, _ in argument_sets(connection, flow_id)
            ]
            return tuple(run for run_id in ids if (run := run_by_id(connection, run_id)) is not None)

    def _queue_one(
        self, connection: sa.Connection, flow: Flow, key: str, cause: Cause, now: datetime, agent: str
    ) -> str:
        missing = [s.data for s in input_states(connection, flow.id, key) if s.latest is None]
        if missing:
            raise RegistrationError(f"flow {flow.name!r} cannot run: {', '.join(missing)} has no version yet")
        live = live_run(connection, flow.id, key)
        if live is None:
            return add_run(connection, flow, key, cause, now, agent)
        due_now(connection, live.id, now)
        return live.id

    # Claiming

    def begin(self, holder: Holder, limits: Limits, only: Collection[str] | None = None) -> tuple[Claim, ...]:
        due, chosen = (ALL, {}) if only is None else (CHOSEN, {"only": sorted(only)})
        if limits.free < 1 or not self._anything(due, chosen):
            return ()
        # A claim is nothing that other engines could act on, and one that limits hold back must not wake them:
        # they would look in vain and wake this one in turn. What ticks make due wakes.
        with self._db.write(wake=False) as connection:
            now = self.now()
            if self._tick_all(connection, connection.execute(due.ticks, {**chosen, "now": now}).all(), now):
                self._db.wake(connection)
            _know(connection, holder)
            claims: list[Claim] = []
            busy = _Busy(connection, limits)
            while len(claims) < limits.free:
                row = self._next(connection, due, {**chosen, "now": now}, busy)
                if row is None:
                    break
                claim = self._claim(connection, row, holder, now)
                if claim is None:
                    continue
                claims.append(claim)
                if not claim.taken_over:
                    busy.add(row.host, row.endpoint)
            return tuple(claims)

    def _anything(self, due: Due, chosen: Mapping[str, object]) -> bool:
        """A look without a lock: an idle engine must not write."""
        with self._db.read() as connection:
            return bool(connection.execute(due.anything, {**chosen, "now": self.now()}).scalar())

    def _tick_all(self, connection: sa.Connection, rows: Sequence[sa.Row[Any]], now: datetime) -> int:
        """Let the ticks that have come do their work; answers how many."""
        for row in rows:
            flow = flow_of(row)
            tick(connection, flow, now)
            if flow.spec.schedule is not None:
                following = schedule.next_tick(flow.spec.schedule, flow.anchor or now, now, flow.id)
                connection.execute(sa.update(t.flow).where(t.flow.c.id == flow.id).values(next_tick=following))
        return len(rows)

    def _next(
        self, connection: sa.Connection, due: Due, wanted: Mapping[str, object], busy: _Busy
    ) -> sa.Row[Any] | None:
        """The run to claim next: those of dead engines first, then the longest due."""
        found = connection.execute(due.freed, wanted).first()
        return found or connection.execute(due.ready, {**wanted, **busy.full()}).first()

    def _claim(self, connection: sa.Connection, row: sa.Row[Any], holder: Holder, now: datetime) -> Claim | None:
        """Give a run to an engine; None, and the run is cancelled, where its flow has changed and it cannot begin."""
        taken_over = row.state == _RUNNING
        flow = flow_at(connection, row.flow_id, row.revision) if taken_over else flow_by_id(connection, row.flow_id)
        if not taken_over and not _may_begin(connection, row, flow):
            clear_queued(connection, [row.flow_id], now, row.argument_set)
            return None
        values: dict[str, object] = {
            "state": _RUNNING,
            "holder": holder.id,
            "fencing": row.fencing + 1,
            "released": False,
            "lease_until": now + self._lease,
        }
        if not (taken_over and row.handle):
            # A new launch gets a new id: the work of a dead engine may still be about to end.
            values |= {"launches": row.launches + 1, "attempt_id": f"{row.id}.{row.launches + 1}", "handle": None}
        if not taken_over:
            values |= {
                "attempt": row.attempt + 1,
                "revision": flow.revision,
                "started_at": now,
                "error": None,
            }
        connection.execute(sa.update(t.run).where(t.run.c.seq == row.seq).values(values))
        if taken_over:
            used = tuple(_numbered(connection, u) for u in used_by(connection, row.id))
        else:
            used = self._fix_inputs(connection, row, flow)
        run = run_by_id(connection, row.id)
        if run is None:
            raise StaleRun(f"run {row.id} is gone")
        arguments = next(s for s in flow.spec.argument_sets if s.key == row.argument_set)
        return self._complete(connection, run, flow, arguments, used, taken_over)

    def _fix_inputs(self, connection: sa.Connection, row: sa.Row[Any], flow: Flow) -> tuple[Version, ...]:
        """Save which versions the run reads: from now on they are the same, whatever comes."""
        connection.execute(sa.delete(t.run_used).where(t.run_used.c.run_id == row.id))
        reads: list[tuple[Input, Version]] = []
        for given in flow.spec.inputs:
            if given.version is None:
                found = connection.execute(_LATEST, {"data": given.data_id}).one()
            else:
                found = connection.execute(_NUMBERED, {"data": given.data_id, "number": given.version}).one()
            reads.append((given, version_of(found)))
        reads += _previous(connection, row.argument_set, flow)
        for place, (given, version) in enumerate(reads):
            key = {"run_id": row.id, "position": place, "parameter": given.parameter, "item": given.item}
            value = {"shape": given.shape.value, "data_id": given.data_id, "number": version.number}
            connection.execute(sa.insert(t.run_used), {**key, **value})
        return tuple(version for _, version in reads)

    def _complete(
        self,
        connection: sa.Connection,
        run: Run,
        flow: Flow,
        arguments: ArgumentSet,
        used: tuple[Version, ...],
        taken_over: bool,
    ) -> Claim:
        members = []
        latest: list[Version] = []
        for output in flow.spec.outputs:
            if flow.spec.source is not None:
                members += [member_of(row) for row in connection.execute(_MEMBERS, {"data": output.data_id})]
            keys = {m.key for m in members if m.data_id == output.data_id} | {arguments.key}
            for key in sorted(keys):
                row = connection.execute(_MEMBER_LATEST, {"data": output.data_id, "member": key}).one_or_none()
                if row is not None:
                    latest.append(version_of(row))
        return Claim(run, flow, arguments, used, tuple(latest), tuple(members), taken_over)

    # Holding

    def launched(self, run_id: str, fencing: int, handle: str) -> None:
        with self._db.write(wake=False) as connection:
            held = sa.update(t.run).where(t.run.c.id == run_id, t.run.c.fencing == fencing, t.run.c.state == _RUNNING)
            if connection.execute(held.values(handle=handle)).rowcount != 1:
                raise StaleRun(f"run {run_id} was taken over")

    def heartbeat(self, holder: Holder, run_ids: Collection[str]) -> Beat:
        with self._db.write(wake=False) as connection:
            until = self.now() + self._lease
            mine = sa.select(t.run.c.id, t.run.c.cancel_requested).where(
                t.run.c.id.in_(list(run_ids)), t.run.c.holder == holder.id, t.run.c.state == _RUNNING
            )
            rows = connection.execute(mine).all()
            held = [row.id for row in rows]
            connection.execute(sa.update(t.run).where(t.run.c.id.in_(held)).values(lease_until=until))
        return Beat(
            cancel=frozenset(row.id for row in rows if row.cancel_requested), lost=frozenset(run_ids) - frozenset(held)
        )

    def holders(self) -> tuple[Holder, ...]:
        with self._db.read() as connection:
            return tuple(Holder(**row._mapping) for row in connection.execute(_HOLDERS))

    def release(self, holder_id: str) -> int:
        with self._db.write() as connection:
            held = sa.update(t.run).where(
                t.run.c.holder == holder_id, t.run.c.state == _RUNNING, t.run.c.released.is_(False)
            )
            freed: int = connection.execute(held.values(released=True, lease_until=self.now())).rowcount
            connection.execute(sa.delete(t.holder).where(t.holder.c.id == holder_id))
            return freed

    def hand_back(self, run_id: str, fencing: int) -> None:
        with self._db.write() as connection:
            now = self.now()
            row = connection.execute(
                sa.select(t.run).where(t.run.c.id == run_id, t.run.c.fencing == fencing)
            ).one_or_none()
            if row is not None and row.state in (_QUEUED, RunState.CANCELLED.value):
                return
            if row is None or row.state != _RUNNING:
                raise StaleRun(f"run {run_id} was taken over")
            flow = flow_by_id(connection, row.flow_id)
            values: dict[str, object] = {"holder": None, "handle": None, "lease_until": None}
            if row.cancel_requested or flow.state is not FlowState.ACTIVE:
                values |= {"state": RunState.CANCELLED.value, "ended_at": now}
            else:
                values |= {"state": _QUEUED, "attempt": row.attempt - 1, "not_before": now, "started_at": None}
                connection.execute(sa.delete(t.run_used).where(t.run_used.c.run_id == run_id))
            connection.execute(sa.update(t.run).where(t.run.c.seq == row.seq).values(values))

    def cancel(self, run_id: str, agent: str) -> Run:
        with self._db.write() as connection:
            now = self.now()
            ended = {"state": RunState.CANCELLED.value, "ended_at": now}
            where = t.run.c.id == run_id
            queued = connection.execute(sa.update(t.run).where(where, t.run.c.state == _QUEUED).values(ended)).rowcount
            connection.execute(sa.update(t.run).where(where, t.run.c.state == _RUNNING).values(cancel_requested=True))
            run = run_by_id(connection, run_id)
            if run is None:
                raise NotFound(f"no run is {run_id}: `aero list run` lists them")
            if queued:
                # As if it had begun and been cancelled then: it must not come back before there is something new.
                attempted = {
                    (state.parameter, state.item, state.data_id): state.latest
                    for state in input_states(connection, run.flow_id, run.argument_set)
                    if state.latest is not None
                }
                settle(connection, run, attempted, consumed=False)
            return run

    # Waiting

    def next_due(self, only: Collection[str] | None = None) -> datetime | None:
        due, chosen = (ALL, {}) if only is None else (CHOSEN, {"only": sorted(only)})
        with self._db.read() as connection:
            times = [connection.execute(look, chosen).scalar() for look in due.times]
        return min((moment for moment in times if moment is not None), default=None)

    def position(self) -> int:
        return self._db.position()

    def wait(self, since: int, timeout: float) -> int:
        return self._db.wait(since, timeout)


class _Busy:
    """How many runs are under way by host and endpoint, and which of those take no more."""

    def __init__(self, connection: sa.Connection, limits: Limits) -> None:
        self._limits = limits
        self._hosts: dict[str, int] = {}
        self._endpoints: dict[str, int] = {}
        for row in connection.execute(_BUSY):
            self.add(row.host, row.endpoint, row.runs)

    def add(self, host: str, endpoint: str, runs: int = 1) -> None:
        self._hosts[host] = self._hosts.get(host, 0) + runs
        self._endpoints[endpoint] = self._endpoints.get(endpoint, 0) + runs

    def full(self) -> dict[str, list[str]]:
        """The hosts and endpoints that take no more, as parameters of `Due.ready`."""
        return {
            "full_hosts": _full(self._hosts, self._limits.host),
            "full_endpoints": _full(self._endpoints, self._limits.endpoint),
        }


def _may_begin(connection: sa.Connection, row: sa.Row[Any], flow: Flow) -> bool:
    """Whether a queued run still has its argument set and inputs: its flow may have changed since it was queued."""
    if all(arguments.key != row.argument_set for arguments in flow.spec.argument_sets):
        return False
    return all(state.latest is not None for state in input_states(connection, flow.id, row.argument_set))


def _full(counts: dict[str, int], limit: int | None) -> list[str]:
    return [] if limit is None else sorted(name for name, runs in counts.items() if name and runs >= limit)


def _previous(connection: sa.Connection, argument_set: str, flow: Flow) -> list[tuple[Input, Version]]:
    """What the flow made last, for a function that asks for it; nothing at first."""
    function, outputs = flow.spec.function, flow.spec.outputs
    if function is None or PREVIOUS not in function.parameters:
        return []
    reads = []
    for output in outputs:
        row = connection.execute(_MEMBER_LATEST, {"data": output.data_id, "member": argument_set}).one_or_none()
        if row is not None:
            one = len(outputs) == 1
            shape, item = (InputShape.ONE, "") if one else (InputShape.DICT, output.key)
            reads.append((Input(PREVIOUS, output.data, output.data_id, item, shape), version_of(row)))
    return reads


def _numbered(connection: sa.Connection, used: Used) -> Version:
    return version_of(connection.execute(_NUMBERED, {"data": used.data_id, "number": used.number}).one())


def _know(connection: sa.Connection, holder: Holder) -> None:
    """Note an engine at its first claim."""
    there = sa.select(t.holder.c.id).where(t.holder.c.id == holder.id)
    if connection.execute(there).first() is None:
        connection.execute(sa.insert(t.holder), unstructure(holder))
