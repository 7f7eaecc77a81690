"""Runs on their way: queued, held, handed back, cancelled. How they begin is in `claiming`."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from aero_core.catalog import Beat
from aero_core.errors import NotFound, RegistrationError, StaleRun
from aero_core.models import (
    Cause,
    CauseKind,
    FlowState,
    Holder,
    Run,
    RunState,
)
from aero_sql import schema as t
from aero_sql.base import Base
from aero_sql.deciding import add_run, due_now, end_cancelled, settle, situations
from aero_sql.due import ALL, CHOSEN
from aero_sql.rows import RUN, flow_by_id, run_by_id, run_of, runs_by_ids

_QUEUED = RunState.QUEUED.value
_RUNNING = RunState.RUNNING.value

_HOLDERS = sa.select(t.holder).where(
    t.holder.c.id.in_(sa.select(t.run.c.holder).where(t.run.c.state == _RUNNING, t.run.c.released.is_(False)))
)


_UNATTEMPTED = sa.update(t.consumed).where(t.consumed.c.flow_id == sa.bindparam("flow")).values(attempted=None)


class Running(Base):
    """All that may happen to a run before its end, but for its claim."""

    def queue(self, flow_id: str, cause: Cause, agent: str) -> tuple[Run, ...]:
        with self._db.write() as connection:
            now = self.now()
            flow = flow_by_id(connection, flow_id)
            if flow.state is not FlowState.ACTIVE:
                raise RegistrationError(f"flow {flow.name!r} is {flow.state.value}: `aero resume {flow.name}` first")
            if cause.kind is CauseKind.RETRY:
                connection.execute(_UNATTEMPTED, {"flow": flow_id})
            ids = []
            for found in situations(connection, [flow_id]):
                if found.missing:
                    listed = ", ".join(found.missing)
                    raise RegistrationError(f"flow {flow.name!r} cannot run: there is no {listed} yet")
                if found.run_id is None:
                    ids.append(add_run(connection, flow, found.argument_set, cause, now, agent))
                else:
                    due_now(connection, found.run_id, now)
                    ids.append(found.run_id)
            return runs_by_ids(connection, ids)

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
            row = connection.execute(RUN.where(t.run.c.id == run_id, t.run.c.fencing == fencing)).one_or_none()
            if row is not None and row.state in (_QUEUED, RunState.CANCELLED.value):
                return
            if row is None or row.state != _RUNNING:
                raise StaleRun(f"run {run_id} was taken over")
            if row.cancel_requested:
                end_cancelled(connection, run_of(connection, row), now)
                return
            flow = flow_by_id(connection, row.flow_id)
            values: dict[str, object] = {"holder": None, "handle": None, "lease_until": None}
            if flow.state is not FlowState.ACTIVE:
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
                    for found in situations(connection, [run.flow_id])
                    if found.argument_set == run.argument_set
                    for state in found.inputs
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
