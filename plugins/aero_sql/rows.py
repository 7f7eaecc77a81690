"""From rows to models, and the statements that read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import sqlalchemy as sa

from aero_core.converter import structure
from aero_core.errors import NotFound
from aero_core.models import (
    Cause,
    Data,
    DataKind,
    Failure,
    Flow,
    FlowState,
    Generated,
    InputShape,
    Member,
    Rule,
    Run,
    RunState,
    Source,
    Standing,
    Step,
    Used,
    Version,
)
from aero_sql import schema as t

LATEST_NUMBER = (
    sa.select(sa.func.max(t.version.c.number))
    .where(t.version.c.data_id == t.data.c.id, t.version.c.standing == Standing.CURRENT.value)
    .scalar_subquery()
    .label("latest")
)
DATA = sa.select(t.data, LATEST_NUMBER)
#: A subquery rather than a join, so that the rows of runs can be locked.
_ENVIRONMENT = sa.select(t.environment.c.content).where(t.environment.c.id == t.run.c.environment_id).scalar_subquery()
RUN = sa.select(t.run, _ENVIRONMENT.label("environment"))
_RUNS: sa.BindParameter[Any] = sa.bindparam("runs", expanding=True)
_USED = (
    sa.select(t.run_used, t.data.c.name)
    .join_from(t.run_used, t.data, t.data.c.id == t.run_used.c.data_id)
    .where(t.run_used.c.run_id.in_(_RUNS))
    .order_by(t.run_used.c.run_id, t.run_used.c.position)
)
_GENERATED = (
    sa.select(t.run_generated, t.data.c.name)
    .join_from(t.run_generated, t.data, t.data.c.id == t.run_generated.c.data_id)
    .where(t.run_generated.c.run_id.in_(_RUNS))
    .order_by(t.run_generated.c.run_id, t.run_generated.c.position)
)
_RUN_BY_ID = RUN.where(t.run.c.id == sa.bindparam("run"))
_RUNS_BY_ID = RUN.where(t.run.c.id.in_(_RUNS))
_FLOW_BY_ID = sa.select(t.flow).where(t.flow.c.id == sa.bindparam("flow"))
_REVISION = sa.select(t.flow_revision.c.spec).where(
    t.flow_revision.c.flow_id == sa.bindparam("flow"), t.flow_revision.c.revision == sa.bindparam("revision")
)


_VERSION = tuple(column.name for column in t.version.columns)
_COMMITTED = (RunState.SUCCEEDED.value, RunState.UNCHANGED.value)


def data_of(row: sa.Row[Any]) -> Data:
    """A `Data` from a row of `DATA`."""
    return Data(
        id=row.id,
        name=row.name,
        namespace=row.namespace,
        kind=DataKind(row.kind),
        description=row.description,
        tags=tuple(row.tags),
        source=None if row.source is None else structure(row.source, Source),
        store=row.store,
        rule=structure(row.rule, Rule),
        flow_id=row.flow_id,
        owner=row.owner,
        created_at=row.created_at,
        latest=row.latest,
    )


def version_of(row: sa.Row[Any]) -> Version:
    """A `Version` from its row."""
    values = {name: getattr(row, name) for name in _VERSION}
    return Version(**{**values, "standing": Standing(row.standing)})


def member_of(row: sa.Row[Any]) -> Member:
    """A `Member` from its row."""
    return Member(**row._mapping)


def flow_of(row: sa.Row[Any]) -> Flow:
    """A `Flow` from its row."""
    return Flow(
        id=row.id,
        spec=row.spec,
        revision=row.revision,
        state=FlowState(row.state),
        anchor=row.anchor,
        next_tick=row.next_tick,
        created_at=row.created_at,
        updated_at=row.updated_at,
        owner=row.owner,
    )


def flow_by_id(connection: sa.Connection, flow_id: str) -> Flow:
    """The flow of an id.

    Raises:
        NotFound: There is none.
    """
    row = connection.execute(_FLOW_BY_ID, {"flow": flow_id}).one_or_none()
    if row is None:
        raise NotFound(f"no flow is {flow_id}: `aero list flow` lists them")
    return flow_of(row)


def flow_at(connection: sa.Connection, flow_id: str, revision: int) -> Flow:
    """A flow as it is for a run of one revision: with the code, inputs and outputs of then.

    Raises:
        NotFound: There is no such flow.
    """
    flow = flow_by_id(connection, flow_id)
    if flow.revision == revision:
        return flow
    spec = connection.execute(_REVISION, {"flow": flow_id, "revision": revision}).scalar_one()
    return attrs.evolve(flow, revision=revision, spec=spec)


def run_by_id(connection: sa.Connection, run_id: str) -> Run | None:
    """A run with what it used and made."""
    row = connection.execute(_RUN_BY_ID, {"run": run_id}).one_or_none()
    return None if row is None else run_of(connection, row)


def runs_by_ids(connection: sa.Connection, ids: Sequence[str]) -> tuple[Run, ...]:
    """Runs in the order of their ids."""
    rows = {row.id: row for row in connection.execute(_RUNS_BY_ID, {"runs": ids})}
    return runs_of(connection, [rows[run_id] for run_id in ids])


def run_of(connection: sa.Connection, row: sa.Row[Any]) -> Run:
    """A `Run` from a row of `RUN`."""
    return runs_of(connection, [row])[0]


def runs_of(connection: sa.Connection, rows: Sequence[sa.Row[Any]]) -> tuple[Run, ...]:
    """Runs from rows of `RUN`, with what they used and made."""
    used: dict[str, list[Used]] = {row.id: [] for row in rows}
    generated: dict[str, list[Generated]] = {row.id: [] for row in rows}
    made = [row.id for row in rows if row.state in _COMMITTED]
    for u in connection.execute(_USED, {"runs": list(used)}) if used else ():
        used[u.run_id].append(Used(u.parameter, u.name, u.data_id, u.number, u.item, InputShape(u.shape)))
    for g in connection.execute(_GENERATED, {"runs": made}) if made else ():
        generated[g.run_id].append(Generated(g.key, g.name, g.data_id, g.number, g.member, g.confirmed))
    return tuple(_run(row, tuple(used[row.id]), tuple(generated[row.id])) for row in rows)


def _run(row: sa.Row[Any], used: tuple[Used, ...], generated: tuple[Generated, ...]) -> Run:
    return Run(
        id=row.id,
        flow_id=row.flow_id,
        flow=row.flow,
        revision=row.revision,
        state=RunState(row.state),
        cause=structure(row.cause, Cause),
        argument_set=row.argument_set,
        seq=row.seq,
        attempt=row.attempt,
        attempt_id=row.attempt_id,
        fencing=row.fencing,
        holder=row.holder,
        handle=row.handle,
        created_at=row.created_at,
        not_before=row.not_before,
        started_at=row.started_at,
        ended_at=row.ended_at,
        cancel_requested=row.cancel_requested,
        used=used,
        generated=generated,
        steps=structure(row.steps or [], tuple[Step, ...], "steps"),
        metrics=row.metrics or {},
        environment=row.environment,
        agent=row.agent,
        error=None if row.error is None else structure(row.error, Failure),
        log=row.log,
    )
