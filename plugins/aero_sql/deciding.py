"""Which flows are due: reads inputs' states, asks the core's policy, queues runs. Within the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from urllib.parse import urlsplit

import sqlalchemy as sa
from attrs import frozen

from aero_core import policy
from aero_core.converter import unstructure
from aero_core.models import (
    Cause,
    CauseKind,
    Decision,
    Flow,
    FlowSpec,
    FlowState,
    InputState,
    PolicyEnum,
    Run,
    RunState,
    Standing,
    new_id,
)
from aero_sql import schema as t
from aero_sql.rows import flow_of

#: Modes other than `latest` are kept with an input; every input is read as `latest` so far.
_LATEST = (
    sa.select(t.version.c.number)
    .where(t.version.c.data_id == t.flow_input.c.data_id, t.version.c.standing == Standing.CURRENT.value)
    .order_by(t.version.c.number.desc())
    .limit(1)
    .scalar_subquery()
)
_STATES = (
    sa.select(
        t.flow_input.c.parameter,
        t.flow_input.c.item,
        t.flow_input.c.data_id,
        t.flow_input.c.pinned,
        t.data.c.name,
        _LATEST.label("latest"),
        t.consumed.c.consumed,
        t.consumed.c.attempted,
    )
    .select_from(
        t.flow_input.join(t.data, t.data.c.id == t.flow_input.c.data_id).outerjoin(
            t.consumed,
            sa.and_(
                t.consumed.c.flow_id == t.flow_input.c.flow_id,
                t.consumed.c.argument_set == sa.bindparam("argument_set"),
                t.consumed.c.parameter == t.flow_input.c.parameter,
                t.consumed.c.item == t.flow_input.c.item,
                t.consumed.c.data_id == t.flow_input.c.data_id,
            ),
        )
    )
    .where(t.flow_input.c.flow_id == sa.bindparam("flow"))
    .order_by(t.flow_input.c.position)
)
_SETS = (
    sa.select(t.argument_set)
    .where(t.argument_set.c.flow_id == sa.bindparam("flow"))
    .order_by(t.argument_set.c.position)
)
_LIVE_RUN = sa.select(t.run.c.id, t.run.c.state).where(
    t.run.c.flow_id == sa.bindparam("flow"),
    t.run.c.argument_set == sa.bindparam("argument_set"),
    t.run.c.state.in_([RunState.QUEUED.value, RunState.RUNNING.value]),
)
_READERS = (
    sa.select(t.flow)
    .where(
        t.flow.c.id.in_(
            sa.select(t.flow_input.c.flow_id).where(
                t.flow_input.c.data_id.in_(sa.bindparam("data", expanding=True)), t.flow_input.c.pinned.is_(None)
            )
        ),
        t.flow.c.state == FlowState.ACTIVE.value,
    )
    .order_by(t.flow.c.id)
    .with_for_update()
)


@frozen
class LiveRun:
    """A queued or running run of a flow and argument set."""

    id: str
    state: RunState


def input_states(connection: sa.Connection, flow_id: str, argument_set: str) -> tuple[InputState, ...]:
    """The inputs of a flow, as a policy looks at them."""
    rows = connection.execute(_STATES, {"flow": flow_id, "argument_set": argument_set})
    return tuple(
        InputState(
            parameter=row.parameter,
            item=row.item,
            data=row.name,
            data_id=row.data_id,
            latest=row.latest if row.pinned is None else row.pinned,
            consumed=row.consumed or 0,
            attempted=row.attempted,
            pinned=row.pinned is not None,
        )
        for row in rows
    )


def argument_sets(connection: sa.Connection, flow_id: str) -> list[tuple[str, int]]:
    """Keys of a flow's argument sets, and the revision that each is due for (0: none)."""
    return [(row.key, row.pending_revision) for row in connection.execute(_SETS, {"flow": flow_id})]


def live_run(connection: sa.Connection, flow_id: str, argument_set: str) -> LiveRun | None:
    """The one live run of a flow and argument set."""
    row = connection.execute(_LIVE_RUN, {"flow": flow_id, "argument_set": argument_set}).one_or_none()
    return None if row is None else LiveRun(row.id, RunState(row.state))


def decide(connection: sa.Connection, flow: Flow, argument_set: str, pending: int) -> Decision:
    """The policy's word on one argument set."""
    return policy.decide(flow.spec.policy, input_states(connection, flow.id, argument_set), pending > 0)


def look_at(connection: sa.Connection, flow: Flow, now: datetime, kind: CauseKind, agent: str | None = None) -> None:
    """Queue a run for each argument set that is due and has none; what only ticks look at is left to them."""
    if flow.state is not FlowState.ACTIVE:
        return
    at_ticks = flow.spec.schedule is not None and flow.spec.policy in (PolicyEnum.ANY, PolicyEnum.ALL)
    for key, pending in argument_sets(connection, flow.id):
        if at_ticks and not pending:
            continue
        if live_run(connection, flow.id, key) is None:
            decision = decide(connection, flow, key, pending)
            if decision.due:
                cause = Cause(CauseKind.REGISTERED if pending else kind, decision.news)
                add_run(connection, flow, key, cause, now, agent)


def look_at_readers(connection: sa.Connection, data_ids: Collection[str], besides: str, now: datetime) -> None:
    """Look at every active flow that reads one of the data."""
    if data_ids:
        for row in connection.execute(_READERS, {"data": sorted(data_ids)}).all():
            if row.id != besides:
                look_at(connection, flow_of(row), now, CauseKind.INPUTS)


def tick(connection: sa.Connection, flow: Flow, now: datetime) -> None:
    """A schedule's tick: a run where there is none, or a waiting one at once."""
    decided = flow.spec.policy in (PolicyEnum.ANY, PolicyEnum.ALL)
    for key, pending in argument_sets(connection, flow.id):
        live = live_run(connection, flow.id, key)
        if live is not None:
            if live.state is RunState.QUEUED:
                due_now(connection, live.id, now)
            continue
        if decided:
            decision = decide(connection, flow, key, pending)
            if decision.due:
                add_run(connection, flow, key, Cause(CauseKind.TICK, decision.news), now)
        elif all(state.latest is not None for state in input_states(connection, flow.id, key)):
            add_run(connection, flow, key, Cause(CauseKind.TICK), now)


def due_now(connection: sa.Connection, run_id: str, now: datetime) -> None:
    """Let a queued run begin at once."""
    later = t.run.c.not_before > now
    connection.execute(sa.update(t.run).where(t.run.c.id == run_id, later).values(not_before=now))


def add_run(
    connection: sa.Connection, flow: Flow, argument_set: str, cause: Cause, now: datetime, agent: str | None = None
) -> str:
    """Insert a queued run; its id."""
    run_id = new_id()
    connection.execute(
        sa.insert(t.run),
        {
            "id": run_id,
            "flow_id": flow.id,
            "flow": flow.spec.name,
            "argument_set": argument_set,
            "revision": flow.revision,
            "state": RunState.QUEUED.value,
            "cause": unstructure(cause),
            "attempt": 0,
            "launches": 0,
            "fencing": 0,
            "released": False,
            "host": source_host(flow.spec),
            "endpoint": flow.spec.endpoint or "",
            "cancel_requested": False,
            "created_at": now,
            "not_before": now,
            "agent": agent or flow.owner,
        },
    )
    return run_id


def source_host(spec: FlowSpec) -> str:
    """The host that a flow fetches from; empty for none."""
    return (urlsplit(spec.source.urls[0]).hostname or "") if spec.source and spec.source.urls else ""


def clear_queued(
    connection: sa.Connection, flow_ids: Iterable[str], now: datetime, argument_set: str | None = None
) -> None:
    """Cancel queued runs of flows that stop, or of one argument set that cannot run."""
    queued = [t.run.c.flow_id.in_(list(flow_ids)), t.run.c.state == RunState.QUEUED.value]
    if argument_set is not None:
        queued.append(t.run.c.argument_set == argument_set)
    connection.execute(sa.update(t.run).where(*queued).values(state=RunState.CANCELLED.value, ended_at=now))


def settle(connection: sa.Connection, run: Run, numbers: Mapping[tuple[str, str, str], int], consumed: bool) -> None:
    """Note what was consumed, or attempted for good; the revision that was due has had its run.

    Args:
        connection: The run's transaction.
        run: The run that has ended.
        numbers: The version of each parameter, item and data.
        consumed: Whether it was committed.
    """
    for (parameter, item, data_id), number in numbers.items():
        key = {
            "flow_id": run.flow_id,
            "argument_set": run.argument_set,
            "parameter": parameter,
            "item": item,
            "data_id": data_id,
        }
        values = {"consumed": number, "attempted": None} if consumed else {"attempted": number}
        where = [t.consumed.c[name] == value for name, value in key.items()]
        if connection.execute(sa.update(t.consumed).where(*where).values(values)).rowcount == 0:
            connection.execute(sa.insert(t.consumed), {**key, "consumed": 0, **values})
    connection.execute(
        sa.update(t.argument_set)
        .where(
            t.argument_set.c.flow_id == run.flow_id,
            t.argument_set.c.key == run.argument_set,
            t.argument_set.c.pending_revision <= run.revision,
        )
        .values(pending_revision=0)
    )
