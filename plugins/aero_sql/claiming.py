"""Beginning runs: ticks that have come, runs of dead engines, runs that are due and within limits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs
import sqlalchemy as sa

from aero_core import schedule
from aero_core.converter import unstructure
from aero_core.models import (
    PREVIOUS,
    Claim,
    Flow,
    Holder,
    InputShape,
    Limits,
    Member,
    Run,
    RunState,
    Standing,
    Used,
    Version,
)
from aero_sql import schema as t
from aero_sql.base import Base
from aero_sql.deciding import clear_queued, end_cancelled, tick
from aero_sql.due import ALL, CHOSEN, Due
from aero_sql.rows import flow_at, flow_by_id, flow_of, member_of, run_of, version_of

#: Runs looked at together: more are asked for where limits leave some of these out.
_BATCH = 100

_RUNNING = RunState.RUNNING.value
_BUSY = (
    sa.select(t.run.c.host, t.run.c.endpoint, sa.func.count().label("runs"))
    .where(t.run.c.state == _RUNNING)
    .group_by(t.run.c.host, t.run.c.endpoint)
)
_NEWEST = (
    sa.select(t.version.c.number)
    .where(t.version.c.data_id == t.flow_input.c.data_id, t.version.c.standing == Standing.CURRENT.value)
    .order_by(t.version.c.number.desc())
    .limit(1)
    .correlate(t.flow_input)
    .scalar_subquery()
)
#: What a flow's inputs are now: the latest versions, or the pinned ones.
_INPUTS = (
    sa.select(
        t.version, t.flow_input.c.parameter, t.flow_input.c.item, t.flow_input.c.shape, t.data.c.name.label("data")
    )
    .select_from(
        t.flow_input.join(t.data, t.data.c.id == t.flow_input.c.data_id).join(
            t.version,
            sa.and_(
                t.version.c.data_id == t.flow_input.c.data_id,
                t.version.c.number == sa.func.coalesce(t.flow_input.c.pinned, _NEWEST),
            ),
        )
    )
    .where(t.flow_input.c.flow_id == sa.bindparam("flow"))
    .order_by(t.flow_input.c.position)
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
_CHANGE = sa.update(t.run).where(t.run.c.seq == sa.bindparam("of_seq"))
_TICKED = sa.update(t.flow).where(t.flow.c.id == sa.bindparam("of_flow"))
_FORGET_USED = sa.delete(t.run_used).where(t.run_used.c.run_id == sa.bindparam("run"))
_KNOWN = sa.select(t.holder.c.id).where(t.holder.c.id == sa.bindparam("holder"))


class Claiming(Base):
    """`begin`."""

    def begin(self, holder: Holder, limits: Limits, only: Collection[str] | None = None) -> tuple[Claim, ...]:
        due, chosen = (ALL, {}) if only is None else (CHOSEN, {"only": sorted(only)})
        if limits.free < 1 or not self._anything(due, chosen):
            return ()
        # A claim is nothing that other engines could act on, and one that limits hold back must not wake them:
        # they would look in vain and wake this one in turn. What ticks make due wakes.
        with self._db.write(wake=False) as connection:
            now = self.now()
            if self._tick_all(connection, due, {**chosen, "now": now}, now):
                self._db.wake(connection)
            claims: list[Claim] = []
            busy = _Busy(connection, limits)
            for row in _candidates(connection, due, {**chosen, "now": now, "most": min(limits.free, _BATCH)}, busy):
                claim = self._claim(connection, row, holder, now)
                if claim is None:
                    continue
                claims.append(claim)
                if not claim.taken_over:
                    busy.add(row.host, row.endpoint)
                if len(claims) == limits.free:
                    break
            if claims and connection.execute(_KNOWN, {"holder": holder.id}).first() is None:
                connection.execute(sa.insert(t.holder), unstructure(holder))
            return tuple(claims)

    def _anything(self, due: Due, chosen: Mapping[str, object]) -> bool:
        """A look without a lock: an idle engine must not write."""
        with self._db.read() as connection:
            return bool(connection.execute(due.anything, {**chosen, "now": self.now()}).scalar())

    def _tick_all(self, connection: sa.Connection, due: Due, wanted: Mapping[str, object], now: datetime) -> bool:
        """Let the ticks that have come do their work; answers whether there were any."""
        flows = [flow_of(row) for row in connection.execute(due.ticks, wanted).all()]
        tick(connection, flows, now)
        for flow in flows:
            if flow.spec.schedule is not None:
                following = schedule.next_tick(flow.spec.schedule, flow.anchor or now, now, flow.id)
                connection.execute(_TICKED, {"of_flow": flow.id, "next_tick": following})
        return bool(flows)

    def _claim(self, connection: sa.Connection, row: sa.Row[Any], holder: Holder, now: datetime) -> Claim | None:
        """Give a run to an engine; None, and the run is cancelled, where it cannot or need not begin any more."""
        taken_over = row.state == _RUNNING
        if taken_over and row.cancel_requested and not row.handle:
            # Its work went with its engine. Work with a handle may go on elsewhere: who attaches to it ends it.
            end_cancelled(connection, run_of(connection, row), now)
            return None
        flow = flow_at(connection, row.flow_id, row.revision) if taken_over else flow_by_id(connection, row.flow_id)
        arguments = next((given for given in flow.spec.argument_sets if given.key == row.argument_set), None)
        run = run_of(connection, row)
        reads = _reads_again(connection, run) if taken_over else _reads(connection, flow, row.argument_set)
        if arguments is None or reads is None:
            clear_queued(connection, [row.flow_id], now, row.argument_set)
            return None
        used = tuple(given for given, _ in reads)
        if not taken_over:
            _save_used(connection, run, used)
        values = _claimed(row, flow, holder, now, taken_over)
        leased = {"released": False, "lease_until": now + self._lease, "launches": values.pop("launches")}
        connection.execute(_CHANGE, {"of_seq": row.seq, **leased, **values})
        run = attrs.evolve(run, used=used, **{**values, "state": RunState.RUNNING})
        latest, members = _made_so_far(connection, flow, arguments.key)
        return Claim(run, flow, arguments, tuple(version for _, version in reads), latest, members, taken_over)


def _claimed(row: sa.Row[Any], flow: Flow, holder: Holder, now: datetime, taken_over: bool) -> dict[str, Any]:
    """What a claim changes about a run."""
    values = {"state": _RUNNING, "holder": holder.id, "fencing": row.fencing + 1, "launches": row.launches}
    if not (taken_over and row.handle):
        # A new launch gets a new id: the work of a dead engine may still be about to end.
        values |= {"launches": row.launches + 1, "attempt_id": f"{row.id}.{row.launches + 1}", "handle": None}
    if not taken_over:
        values |= {"attempt": row.attempt + 1, "revision": flow.revision, "started_at": now, "error": None}
    return values


# What may begin -------------------------------------------------------------------------------------------


def _candidates(connection: sa.Connection, due: Due, wanted: Mapping[str, Any], busy: _Busy) -> Iterator[sa.Row[Any]]:
    """Runs to claim: those of dead engines first, then the longest due that fit. None is still queued afterwards."""
    yield from connection.execute(due.freed, wanted).all()
    while True:
        rows = connection.execute(due.ready, {**wanted, **busy.full()}).all()
        yield from (row for row in rows if busy.fits(row.host, row.endpoint))
        # Those left out are on hosts or endpoints that are full by now: the next look leaves them out by itself.
        if len(rows) < wanted["most"]:
            return


class _Busy:
    """How many runs are under way by host and endpoint, and which of those take no more."""

    def __init__(self, connection: sa.Connection, limits: Limits) -> None:
        self._connection, self._limits = connection, limits
        # Counted when the first run comes that has a host or an endpoint.
        self._hosts: dict[str, int] | None = None
        self._endpoints: dict[str, int] = {}

    def fits(self, host: str, endpoint: str) -> bool:
        """Whether one more run is within the limits."""
        if not host and not endpoint:
            return True
        hosts, endpoints = self._counts()
        return not _is_full(hosts, host, self._limits.host) and not _is_full(endpoints, endpoint, self._limits.endpoint)

    def add(self, host: str, endpoint: str) -> None:
        """Count one more run."""
        if host or endpoint:
            hosts, endpoints = self._counts()
            hosts[host] = hosts.get(host, 0) + 1
            endpoints[endpoint] = endpoints.get(endpoint, 0) + 1

    def full(self) -> dict[str, list[str]]:
        """The hosts and endpoints that take no more, as parameters of `Due.ready`."""
        hosts = self._hosts or {}
        return {
            "full_hosts": sorted(name for name in hosts if _is_full(hosts, name, self._limits.host)),
            "full_endpoints": sorted(
                name for name in self._endpoints if _is_full(self._endpoints, name, self._limits.endpoint)
            ),
        }

    def _counts(self) -> tuple[dict[str, int], dict[str, int]]:
        if self._hosts is None:
            self._hosts = {}
            for row in self._connection.execute(_BUSY):
                self._hosts[row.host] = self._hosts.get(row.host, 0) + row.runs
                self._endpoints[row.endpoint] = self._endpoints.get(row.endpoint, 0) + row.runs
        return self._hosts, self._endpoints


def _is_full(counts: Mapping[str, int], name: str, limit: int | None) -> bool:
    return bool(name) and limit is not None and counts.get(name, 0) >= limit


# What a run reads -----------------------------------------------------------------------------------------

_Reads = list[tuple[Used, Version]]


def _reads(connection: sa.Connection, flow: Flow, argument_set: str) -> _Reads | None:
    """What a run that begins now reads; None where an input has no version."""
    rows = connection.execute(_INPUTS, {"flow": flow.id}).all()
    if len(rows) < len(flow.spec.inputs):
        return None
    found = [
        (Used(row.parameter, row.data, row.data_id, row.number, row.item, InputShape(row.shape)), version_of(row))
        for row in rows
    ]
    return found + _previous(connection, flow, argument_set)


def _previous(connection: sa.Connection, flow: Flow, argument_set: str) -> _Reads:
    """What the flow made last, for a function that asks for it; nothing at first."""
    function, outputs = flow.spec.function, flow.spec.outputs
    if function is None or PREVIOUS not in function.parameters:
        return []
    found = []
    for output in outputs:
        row = connection.execute(_MEMBER_LATEST, {"data": output.data_id, "member": argument_set}).one_or_none()
        if row is not None:
            one = len(outputs) == 1
            item, shape = ("", InputShape.ONE) if one else (output.key, InputShape.DICT)
            found.append((Used(PREVIOUS, output.data, output.data_id, row.number, item, shape), version_of(row)))
    return found


def _reads_again(connection: sa.Connection, run: Run) -> _Reads:
    """What a run that was begun before reads: the same as then."""
    return [
        (used, version_of(connection.execute(_NUMBERED, {"data": used.data_id, "number": used.number}).one()))
        for used in run.used
    ]


def _save_used(connection: sa.Connection, run: Run, used: tuple[Used, ...]) -> None:
    """Keep what the run reads: from now on it is the same, whatever comes."""
    if run.used:
        connection.execute(_FORGET_USED, {"run": run.id})
    rows = [
        {
            "run_id": run.id,
            "position": place,
            "parameter": each.parameter,
            "item": each.item,
            "shape": each.shape.value,
            "data_id": each.data_id,
            "number": each.number,
        }
        for place, each in enumerate(used)
    ]
    if rows:
        connection.execute(sa.insert(t.run_used), rows)


def _made_so_far(
    connection: sa.Connection, flow: Flow, argument_set: str
) -> tuple[tuple[Version, ...], tuple[Member, ...]]:
    """The latest version of each member of the outputs, and what is known of a source's members."""
    latest: list[Version] = []
    members: list[Member] = []
    for output in flow.spec.outputs:
        known = [] if flow.spec.source is None else connection.execute(_MEMBERS, {"data": output.data_id}).all()
        members += map(member_of, known)
        for key in sorted({row.key for row in known} | {argument_set}):
            row = connection.execute(_MEMBER_LATEST, {"data": output.data_id, "member": key}).one_or_none()
            if row is not None:
                latest.append(version_of(row))
    return tuple(latest), tuple(members)
