"""Which flows are due: reads inputs' states, asks the core's policy, queues runs. Within the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any
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
from aero_sql.rows import flow_by_id, flow_of

#: Modes other than `latest` are kept with an input; every input is read as `latest` so far.
_LATEST = (
    sa.select(t.version.c.number)
    .where(t.version.c.data_id == t.flow_input.c.data_id, t.version.c.standing == Standing.CURRENT.value)
    .order_by(t.version.c.number.desc())
    .limit(1)
    .scalar_subquery()
)
_PINNED = (
    sa.select(t.version.c.number)
    .where(t.version.c.data_id == t.flow_input.c.data_id, t.version.c.number == t.flow_input.c.pinned)
    .scalar_subquery()
)
#: For each argument set of some flows: the run that it has, and its inputs as a policy looks at them.
_SITUATIONS = (
    sa.select(
        t.argument_set.c.flow_id,
        t.argument_set.c.key,
        t.argument_set.c.pending_revision,
        t.run.c.id.label("run_id"),
        t.run.c.state.label("run_state"),
        t.run.c.error.label("run_error"),
        t.flow_input.c.parameter,
        t.flow_input.c.item,
        t.flow_input.c.data_id,
        t.flow_input.c.pinned,
        t.data.c.name,
        sa.case((t.flow_input.c.pinned.is_(None), _LATEST), else_=_PINNED).label("latest"),
        t.consumed.c.consumed,
        t.consumed.c.attempted,
    )
    .select_from(
        t.argument_set.outerjoin(
            t.run,
            sa.and_(
                t.run.c.flow_id == t.argument_set.c.flow_id,
                t.run.c.argument_set == t.argument_set.c.key,
                t.LIVE,
            ),
        )
        .outerjoin(t.flow_input, t.flow_input.c.flow_id == t.argument_set.c.flow_id)
        .outerjoin(t.data, t.data.c.id == t.flow_input.c.data_id)
        .outerjoin(
            t.consumed,
            sa.and_(
                t.consumed.c.flow_id == t.flow_input.c.flow_id,
                t.consumed.c.argument_set == t.argument_set.c.key,
                t.consumed.c.parameter == t.flow_input.c.parameter,
                t.consumed.c.item == t.flow_input.c.item,
                t.consumed.c.data_id == t.flow_input.c.data_id,
            ),
        )
    )
    .where(t.argument_set.c.flow_id.in_(sa.bindparam("flows", expanding=True)))
    .order_by(t.argument_set.c.flow_id, t.argument_set.c.position, t.flow_input.c.position)
)
#: Flows in one `_SITUATIONS`: databases limit the parameters of a statement.
_AT_ONCE = 500
#: A flow, and the active ones that read some data.
_CONCERNED = (
    sa.select(t.flow)
    .where(
        sa.or_(
            t.flow.c.id.in_(
                sa.select(t.flow_input.c.flow_id).where(
                    t.flow_input.c.data_id.in_(sa.bindparam("data", expanding=True))
                )
            ),
            t.flow.c.id == sa.bindparam("flow"),
        ),
        t.flow.c.state == FlowState.ACTIVE.value,
    )
    .order_by(t.flow.c.id)
    .with_for_update()
)
_DUE_NOW = (
    sa.update(t.run)
    .where(t.run.c.id == sa.bindparam("run"), t.run.c.not_before > sa.bindparam("now", type_=t.Moment()))
    .values(not_before=sa.bindparam("now", type_=t.Moment()))
)
_CONSUMED = tuple(
    t.consumed.c[name] == sa.bindparam(f"of_{name}")
    for name in ("flow_id", "argument_set", "parameter", "item", "data_id")
)
_SETTLE = sa.update(t.consumed).where(*_CONSUMED)
_DONE = (
    sa.update(t.argument_set)
    .where(
        t.argument_set.c.flow_id == sa.bindparam("flow"),
        t.argument_set.c.key == sa.bindparam("argument_set"),
        t.argument_set.c.pending_revision > 0,
        t.argument_set.c.pending_revision <= sa.bindparam("revision"),
    )
    .values(pending_revision=0)
)


@frozen
class Situation:
    """What decides whether one argument set of a flow is due.

    Attributes:
        pending: The revision that it is due for; 0 for none.
        run_id: Its queued or running run.
        asked_to_wait: Whether that one waits because the other side asked to be left alone.
    """

    flow_id: str
    argument_set: str
    pending: int
    run_id: str | None
    run_state: RunState | None
    asked_to_wait: bool
    inputs: tuple[InputState, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The inputs that are not there yet: `cases`, or if pinned `cases@3`."""
        absent = [state for state in self.inputs if state.latest is None]
        return tuple(s.data if s.pinned is None else f"{s.data}@{s.pinned}" for s in absent)

    def decide(self, flow: Flow) -> Decision:
        """The policy's word."""
        return policy.decide(flow.spec.policy, self.inputs, self.pending > 0)


def situations(connection: sa.Connection, flow_ids: Sequence[str]) -> list[Situation]:
    """The situations of some flows, in their order, those of each flow in order of its argument sets."""
    found: list[Situation] = []
    for start in range(0, len(flow_ids), _AT_ONCE):
        rows = connection.execute(_SITUATIONS, {"flows": flow_ids[start : start + _AT_ONCE]})
        for (flow_id, key), inputs in groupby(rows, lambda row: (row.flow_id, row.key)):
            group = list(inputs)
            found.append(
                Situation(
                    flow_id=flow_id,
                    argument_set=key,
                    pending=group[0].pending_revision,
                    run_id=group[0].run_id,
                    run_state=None if group[0].run_state is None else RunState(group[0].run_state),
                    asked_to_wait=bool((group[0].run_error or {}).get("retry_after")),
                    inputs=tuple(_input_state(row) for row in group if row.parameter is not None),
                )
            )
    order = {flow_id: place for place, flow_id in enumerate(flow_ids)}
    return sorted(found, key=lambda situation: order[situation.flow_id])


def _input_state(row: Any) -> InputState:
    return InputState(
        parameter=row.parameter,
        item=row.item,
        data=row.name,
        data_id=row.data_id,
        latest=row.latest,
        consumed=row.consumed or 0,
        attempted=row.attempted,
        pinned=row.pinned,
    )


def look_at(
    connection: sa.Connection, flows: Sequence[Flow], now: datetime, kind: CauseKind, agent: str | None = None
) -> None:
    """Queue a run for each argument set that is due and has none; what only ticks look at is left to them."""
    active = {flow.id: flow for flow in flows if flow.state is FlowState.ACTIVE}
    for found in situations(connection, list(active)):
        flow = active[found.flow_id]
        at_ticks = flow.spec.schedule is not None and flow.spec.policy in (PolicyEnum.ANY, PolicyEnum.ALL)
        if found.run_id is not None or (at_ticks and not found.pending):
            continue
        decision = found.decide(flow)
        if decision.due:
            cause = Cause(CauseKind.REGISTERED if found.pending else kind, decision.news)
            add_run(connection, flow, found.argument_set, cause, now, agent)


def look_at_concerned(connection: sa.Connection, flow_id: str, data_ids: Collection[str], now: datetime) -> None:
    """Look at a flow, and at every active one that reads one of the data."""
    rows = connection.execute(_CONCERNED, {"flow": flow_id, "data": sorted(data_ids)}).all()
    look_at(connection, [flow_of(row) for row in rows], now, CauseKind.INPUTS)


def tick(connection: sa.Connection, flows: Sequence[Flow], now: datetime) -> None:
    """A schedule's tick: a run where there is none, or at once one that waits, unless it was asked to wait."""
    ticking = {flow.id: flow for flow in flows}
    for found in situations(connection, list(ticking)):
        flow = ticking[found.flow_id]
        if found.run_id is not None:
            if found.run_state is RunState.QUEUED and not found.asked_to_wait:
                due_now(connection, found.run_id, now)
            continue
        if flow.spec.policy in (PolicyEnum.ANY, PolicyEnum.ALL):
            decision = found.decide(flow)
            if decision.due:
                add_run(connection, flow, found.argument_set, Cause(CauseKind.TICK, decision.news), now)
        elif not found.missing:
            add_run(connection, flow, found.argument_set, Cause(CauseKind.TICK), now)


def due_now(connection: sa.Connection, run_id: str, now: datetime) -> None:
    """Let a queued run begin at once."""
    connection.execute(_DUE_NOW, {"run": run_id, "now": now})


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


def end_cancelled(connection: sa.Connection, run: Run, now: datetime) -> None:
    """End a run that somebody asked to cancel and that nobody works on any more."""
    ended = {"state": RunState.CANCELLED.value, "ended_at": now, "holder": None, "handle": None, "lease_until": None}
    connection.execute(sa.update(t.run).where(t.run.c.id == run.id).values(ended))
    settle(connection, run, numbers_of(run), consumed=False)
    look_at(connection, [flow_by_id(connection, run.flow_id)], now, CauseKind.INPUTS)


def numbers_of(run: Run) -> dict[tuple[str, str, str], int]:
    """The versions that a run used, as `settle` takes them."""
    return {(used.parameter, used.item, used.data_id): used.number for used in run.used}


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
        where = {f"of_{name}": value for name, value in key.items()}
        if connection.execute(_SETTLE, {**where, **values}).rowcount == 0:
            connection.execute(sa.insert(t.consumed), {**key, "consumed": 0, **values})
    ended = {"flow": run.flow_id, "argument_set": run.argument_set, "revision": run.revision}
    connection.execute(_DONE, ended)
