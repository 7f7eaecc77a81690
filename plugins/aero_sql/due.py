"""What is due now: the statements of `begin` and `next_due`, each built once, for all flows and for chosen ones."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from attrs import frozen

from aero_core.models import FlowState, RunState
from aero_sql import schema as t
from aero_sql.rows import RUN

_NOW = sa.bindparam("now", type_=t.Moment())
_ONLY: sa.BindParameter[Any] = sa.bindparam("only", expanding=True)

_TICKS = (t.flow.c.state == FlowState.ACTIVE.value) & (t.flow.c.next_tick <= _NOW)
_READY = (t.run.c.state == RunState.QUEUED.value) & (t.run.c.not_before <= _NOW)
_FREED = (t.run.c.state == RunState.RUNNING.value) & (t.run.c.released | (t.run.c.lease_until < _NOW))
_FITTING = t.run.c.host.not_in(sa.bindparam("full_hosts", expanding=True)) & t.run.c.endpoint.not_in(
    sa.bindparam("full_endpoints", expanding=True)
)


@frozen
class Due:
    """Statements that look at all flows, or at those of the parameter `only`.

    Attributes:
        anything: Whether `begin` has something to do at `now`.
        ticks: Flows whose tick has come.
        freed: Runs whose engine is gone; `most` of them.
        ready: Queued runs, the longest due first, on hosts and endpoints that are not full; `most` of them.
        times: When the next queued run may begin, lease runs out and tick comes.
    """

    anything: sa.Select[Any]
    ticks: sa.Select[Any]
    freed: sa.Select[Any]
    ready: sa.Select[Any]
    times: tuple[sa.Select[Any], ...]


def _due(flow: sa.ColumnElement[bool], run: sa.ColumnElement[bool]) -> Due:
    one = sa.literal(1)
    runs = RUN.limit(sa.bindparam("most")).with_for_update(skip_locked=True)
    queued, running = (t.run.c.state == state.value for state in (RunState.QUEUED, RunState.RUNNING))
    return Due(
        anything=sa.select(
            sa.select(one).where(_TICKS, flow).exists()
            | sa.select(one).where(_READY, run).exists()
            | sa.select(one).where(_FREED, run).exists()
        ),
        ticks=sa.select(t.flow).where(_TICKS, flow),
        freed=runs.where(_FREED, run).order_by(t.run.c.seq),
        ready=runs.where(_READY, run, _FITTING).order_by(t.run.c.not_before, t.run.c.seq),
        times=(
            sa.select(sa.func.min(t.run.c.not_before)).where(queued, run),
            sa.select(sa.func.min(t.run.c.lease_until)).where(running, run),
            sa.select(sa.func.min(t.flow.c.next_tick)).where(t.flow.c.state == FlowState.ACTIVE.value, flow),
        ),
    )


ALL = _due(sa.true(), sa.true())
CHOSEN = _due(t.flow.c.id.in_(_ONLY), t.run.c.flow_id.in_(_ONLY))
