"""Looking things up: by reference, and in pages that cost the same wherever they are."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from aero_core.catalog import Page
from aero_core.errors import InvalidValue, NotFound
from aero_core.models import (
    Data,
    Decision,
    Explanation,
    Flow,
    FlowSpec,
    FlowState,
    Member,
    Run,
    RunState,
    Standing,
    Version,
)
from aero_sql import schema as t
from aero_sql.base import Base
from aero_sql.deciding import situations
from aero_sql.rows import DATA, RUN, data_of, flow_by_id, flow_of, member_of, run_by_id, run_of, runs_of, version_of

T = TypeVar("T")

_PREFIX = re.compile(r"[0-9a-f-]{4,36}")
_NEAR = 1000
_LAST_ENDED = (
    sa.select(t.run.c.id)
    .where(
        t.run.c.flow_id == sa.bindparam("flow"),
        t.run.c.argument_set == sa.bindparam("argument_set"),
        t.run.c.state.in_([state.value for state in RunState if state.final]),
    )
    .order_by(t.run.c.seq.desc())
    .limit(1)
)


class Lookup(Base):
    """All methods that only read."""

    def data(self, ref: str, namespace: str = "") -> Data:
        with self._db.read() as connection:
            row = connection.execute(DATA.where(t.data.c.namespace == namespace, t.data.c.name == ref)).first()
            row = row or _by_prefix(connection, DATA, t.data.c.id, ref, "data")
            if row is None:
                raise NotFound(_nobody(connection, "data", ref, t.data, namespace))
            return data_of(row)

    def list_data(
        self,
        after: str | None = None,
        limit: int = 100,
        flow_id: str | None = None,
        namespace: str | None = None,
    ) -> Page[Data]:
        query = DATA.order_by(t.data.c.name, t.data.c.id).limit(limit + 1)
        if flow_id is not None:
            query = query.where(t.data.c.flow_id == flow_id)
        if namespace is not None:
            query = query.where(t.data.c.namespace == namespace)
        if after is not None:
            query = query.where(_past(after, t.data.c.name, t.data.c.id))
        with self._db.read() as connection:
            return _page(connection.execute(query).all(), limit, data_of, lambda d: json.dumps([d.name, d.id]))

    def version(self, data_id: str, number: int) -> Version:
        query = sa.select(t.version).where(t.version.c.data_id == data_id, t.version.c.number == number)
        with self._db.read() as connection:
            # Past what a database counts to is past what there is.
            row = connection.execute(query).one_or_none() if number < 2**31 else None
            if row is None:
                name = connection.execute(sa.select(t.data.c.name).where(t.data.c.id == data_id)).scalar() or data_id
                raise NotFound(f"{name}@{number} does not exist: `aero versions {name}` lists them")
            return version_of(row)

    def latest(self, data_id: str, as_of: datetime | None = None) -> Version | None:
        current = (t.version.c.data_id == data_id, t.version.c.standing == Standing.CURRENT.value)
        query = sa.select(t.version).where(*current).order_by(t.version.c.number.desc()).limit(1)
        if as_of is not None:
            query = query.where(t.version.c.available_at <= as_of)
        with self._db.read() as connection:
            row = connection.execute(query).first()
            return None if row is None else version_of(row)

    def versions(
        self, data_id: str, after: str | None = None, limit: int = 100, newest_first: bool = True
    ) -> Page[Version]:
        number = t.version.c.number
        query = sa.select(t.version).where(t.version.c.data_id == data_id).limit(limit + 1)
        query = query.order_by(number.desc() if newest_first else number)
        if after is not None:
            query = query.where(number < int(after) if newest_first else number > int(after))
        with self._db.read() as connection:
            return _page(connection.execute(query).all(), limit, version_of, lambda v: str(v.number))

    def members(self, data_id: str, after: str | None = None, limit: int = 100) -> Page[Member]:
        query = sa.select(t.member).where(t.member.c.data_id == data_id).order_by(t.member.c.key).limit(limit + 1)
        if after is not None:
            query = query.where(t.member.c.key > after)
        with self._db.read() as connection:
            return _page(connection.execute(query).all(), limit, member_of, lambda m: m.key)

    def flow(self, ref: str, namespace: str = "") -> Flow:
        query = sa.select(t.flow).where(t.flow.c.namespace == namespace, t.flow.c.name == ref)
        with self._db.read() as connection:
            named = connection.execute(query).all()
            active = [row for row in named if row.state != FlowState.DISABLED.value] or named
            if len(active) > 1:
                places = ", ".join(f"{row.id[:8]} of {row.origin}" for row in active)
                raise InvalidValue(f"several flows are named {ref!r}: use an id ({places})")
            row = active[0] if active else _by_prefix(connection, sa.select(t.flow), t.flow.c.id, ref, "flow")
            if row is None:
                raise NotFound(_nobody(connection, "flow", ref, t.flow, namespace))
            return flow_of(row)

    def list_flows(
        self,
        after: str | None = None,
        limit: int = 100,
        origin: str | None = None,
        data_id: str | None = None,
        namespace: str | None = None,
    ) -> Page[Flow]:
        query = sa.select(t.flow).order_by(t.flow.c.name, t.flow.c.id).limit(limit + 1)
        if origin is not None:
            query = query.where(t.flow.c.origin == origin)
        if namespace is not None:
            query = query.where(t.flow.c.namespace == namespace)
        if data_id is not None:
            readers = sa.select(t.flow_input.c.flow_id).where(t.flow_input.c.data_id == data_id)
            query = query.where(t.flow.c.id.in_(readers))
        if after is not None:
            query = query.where(_past(after, t.flow.c.name, t.flow.c.id))
        with self._db.read() as connection:
            return _page(connection.execute(query).all(), limit, flow_of, lambda f: json.dumps([f.name, f.id]))

    def revision(self, flow_id: str, number: int) -> FlowSpec:
        kept = sa.select(t.flow_revision.c.spec).where(
            t.flow_revision.c.flow_id == flow_id, t.flow_revision.c.revision == number
        )
        with self._db.read() as connection:
            spec = connection.execute(kept).scalar()
            if spec is None:
                raise NotFound(f"flow {flow_id} has no revision {number}")
            found: FlowSpec = spec
            return found

    def run(self, ref: str) -> Run:
        with self._db.read() as connection:
            row = _by_prefix(connection, RUN, t.run.c.id, ref, "run")
            if row is None:
                raise NotFound(f"no run is {ref!r}: `aero list run` lists them")
            return run_of(connection, row)

    def list_runs(
        self,
        after: str | None = None,
        limit: int = 100,
        flow_id: str | None = None,
        states: Collection[RunState] = (),
    ) -> Page[Run]:
        query = RUN.order_by(t.run.c.seq.desc()).limit(limit + 1)
        if flow_id is not None:
            query = query.where(t.run.c.flow_id == flow_id)
        if states:
            query = query.where(t.run.c.state.in_([state.value for state in states]))
        return self._runs(query, after, limit)

    def readers(self, data_id: str, number: int, after: str | None = None, limit: int = 100) -> Page[Run]:
        used = sa.select(t.run_used.c.run_id).where(t.run_used.c.data_id == data_id, t.run_used.c.number == number)
        return self._runs(RUN.where(t.run.c.id.in_(used)).order_by(t.run.c.seq.desc()).limit(limit + 1), after, limit)

    def _runs(self, query: sa.Select[Any], after: str | None, limit: int) -> Page[Run]:
        if after is not None:
            query = query.where(t.run.c.seq < int(after))
        with self._db.read() as connection:
            rows = connection.execute(query).all()
            found = runs_of(connection, rows[:limit])
            return Page(found, str(found[-1].seq) if len(rows) > limit else None)

    def explain(self, flow_id: str) -> tuple[Explanation, ...]:
        with self._db.read() as connection:
            flow = flow_by_id(connection, flow_id)
            explained = []
            for found in situations(connection, [flow_id]):
                wanted = {"flow": flow_id, "argument_set": found.argument_set}
                last = connection.execute(_LAST_ENDED, wanted).scalar()
                decision = found.decide(flow)
                if flow.state is not FlowState.ACTIVE:
                    decision = Decision(False, reason=f"is {flow.state.value}")
                explained.append(
                    Explanation(
                        flow,
                        found.inputs,
                        decision,
                        run_by_id(connection, last) if last else None,
                        run_by_id(connection, found.run_id) if found.run_id else None,
                    )
                )
            return tuple(explained)

    def check(self) -> list[str]:
        with self._db.read() as connection:
            lines = connection.exec_driver_sql("PRAGMA quick_check(10)").scalars().all()
        return [str(line) for line in lines if line != "ok"]


def _page(rows: Any, limit: int, model: Callable[[Any], T], cursor: Callable[[T], str]) -> Page[T]:
    """The first `limit` of `limit + 1` rows, and where the next page begins."""
    items = tuple(model(row) for row in rows[:limit])
    return Page(items, cursor(items[-1]) if len(rows) > limit else None)


def _past(after: str, name: sa.ColumnElement[Any], identity: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    last_name, last_id = json.loads(after)
    return sa.or_(name > last_name, sa.and_(name == last_name, identity > last_id))


def _by_prefix(
    connection: sa.Connection, query: sa.Select[Any], column: sa.ColumnElement[Any], ref: str, what: str
) -> sa.Row[Any] | None:
    if not _PREFIX.fullmatch(ref):
        return None
    # "g" comes right after every character of an id.
    rows = connection.execute(query.where(column >= ref, column < ref + "g").limit(2)).all()
    if len(rows) > 1:
        raise InvalidValue(f"several {what} ids begin with {ref!r}: give more of it")
    return rows[0] if rows else None


def _nobody(connection: sa.Connection, what: str, ref: str, table: sa.Table, namespace: str) -> str:
    names = connection.execute(sa.select(table.c.name).where(table.c.namespace == namespace).limit(_NEAR))
    near = difflib.get_close_matches(ref, names.scalars().all(), 3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`aero list {what}` lists what there is"
    return f"no {what} is {ref!r}: {hint}"
