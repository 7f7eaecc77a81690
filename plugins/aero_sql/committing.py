"""The end of a run: commit and fail, and what becomes due by it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from attrs import frozen

from aero_core.converter import unstructure
from aero_core.errors import CommitConflict, InvalidValue, NotFound, StaleRun
from aero_core.models import (
    CauseKind,
    Commit,
    Committed,
    Environment,
    FailedAttempt,
    Flow,
    FlowState,
    Generated,
    NewVersion,
    Run,
    RunState,
    Standing,
    Version,
)
from aero_sql import schema as t
from aero_sql.base import Base
from aero_sql.deciding import look_at, look_at_readers, settle
from aero_sql.outbox import add_record
from aero_sql.rows import flow_at, flow_by_id, run_by_id, version_of

#: Unchanged polls kept of each flow.
RING = 100
_MICROSECOND = timedelta(microseconds=1)

_LOCK_DATA = (
    sa.select(t.data.c.id, t.data.c.name)
    .where(t.data.c.id.in_(sa.bindparam("data", expanding=True)))
    .order_by(t.data.c.id)
    .with_for_update()
)


def _newest(*standings: Standing) -> sa.Select[Any]:
    return (
        sa.select(t.version)
        .where(
            t.version.c.data_id == sa.bindparam("data"),
            t.version.c.member == sa.bindparam("member"),
            t.version.c.standing.in_([standing.value for standing in standings]),
        )
        .order_by(t.version.c.number.desc())
        .limit(1)
    )


# One statement for each standing: only then the index answers with its first row.
_COMPARED = tuple(_newest(standing) for standing in (Standing.CURRENT, Standing.HELD, Standing.REJECTED))
_LAST_NUMBER = sa.select(sa.func.max(t.version.c.number)).where(t.version.c.data_id == sa.bindparam("data"))
_LAST_AVAILABLE = sa.select(sa.func.max(t.version.c.available_at)).where(t.version.c.data_id == sa.bindparam("data"))
_COLLECTED = sa.select(t.collecting.c.location).where(t.collecting.c.location == sa.bindparam("location"))
_MADE = (
    sa.select(t.version)
    .join_from(
        t.run_generated,
        t.version,
        (t.version.c.data_id == t.run_generated.c.data_id) & (t.version.c.number == t.run_generated.c.number),
    )
    .where(t.run_generated.c.run_id == sa.bindparam("run"), t.run_generated.c.confirmed.is_(False))
    .order_by(t.run_generated.c.position)
)


@frozen
class _Ending:
    """A run about to end, in its transaction; `flow` is as of the run's revision."""

    connection: sa.Connection
    run: Run
    flow: Flow
    now: datetime


class Committing(Base):
    """`commit` and `fail`."""

    def commit(self, commit: Commit) -> Committed:
        with self._db.write() as connection:
            # Read within the lock: what becomes available now was not there at any earlier time that was told.
            now = self.now()
            run = _run(connection, commit.run_id)
            if run.state in (RunState.SUCCEEDED, RunState.UNCHANGED):
                return _committed(connection, run)
            _check_held(run, commit.fencing)
            ending = _Ending(connection, run, flow_at(connection, run.flow_id, run.revision), now)
            _check_outputs(ending, commit)
            _lock(connection, commit)
            generated = [_add(ending, new) for new in commit.versions]
            _save_generated(ending, generated)
            _save_members(ending, commit)
            made = {g.data_id for g in generated if not g.confirmed}
            state = RunState.UNCHANGED if ending.flow.spec.outputs and not made else RunState.SUCCEEDED
            _end(ending, state, commit)
            settle(connection, run, _numbers(run), consumed=True)
            poll = ending.flow.spec.source is not None and state is RunState.UNCHANGED
            if poll:
                _forget_old_polls(ending)
            else:
                _record(ending)
            look_at_readers(connection, made, run.flow_id, now)
            look_at(connection, flow_by_id(connection, run.flow_id), now, CauseKind.INPUTS)
            return _committed(connection, _run(connection, run.id))

    def fail(self, failed: FailedAttempt) -> Run:
        with self._db.write() as connection:
            now = self.now()
            run = _run(connection, failed.run_id)
            # A claim takes the last attempt's error away: where there is one, this failure was told before.
            if run.state is not RunState.RUNNING and run.fencing == failed.fencing and run.error is not None:
                return run
            _check_held(run, failed.fencing)
            flow = flow_by_id(connection, run.flow_id)
            again = failed.retry_after is not None and not failed.cancelled and not run.cancel_requested
            # A flow that was stopped has no queued runs: this one ends as those did, and comes back with the flow.
            stopped = again and flow.state is not FlowState.ACTIVE
            if again and not stopped:
                later = now + timedelta(seconds=failed.retry_after or 0)
                values: dict[str, object] = {"state": RunState.QUEUED.value, "not_before": later}
            else:
                cancelled = failed.cancelled or run.cancel_requested or stopped
                state = RunState.CANCELLED if cancelled else RunState.FAILED
                values = {"state": state.value, "ended_at": now}
            values |= {"holder": None, "handle": None, "lease_until": None, "error": unstructure(failed.failure)}
            values |= {"log": failed.log, "steps": unstructure(failed.steps)}
            values["environment_id"] = _environment(connection, failed.environment)
            connection.execute(sa.update(t.run).where(t.run.c.id == run.id).values(values))
            if not again:
                settle(connection, run, _numbers(run), consumed=False)
                look_at(connection, flow, now, CauseKind.INPUTS)
            return _run(connection, run.id)


def _run(connection: sa.Connection, run_id: str) -> Run:
    run = run_by_id(connection, run_id)
    if run is None:
        raise NotFound(f"no run is {run_id}")
    return run


def _committed(connection: sa.Connection, run: Run) -> Committed:
    return Committed(run, tuple(version_of(row) for row in connection.execute(_MADE, {"run": run.id})))


def _check_held(run: Run, fencing: int) -> None:
    if run.fencing != fencing or run.state is not RunState.RUNNING:
        raise StaleRun(f"run {run.id} is {run.state.value} under fencing number {run.fencing}, not {fencing}")


def _check_outputs(ending: _Ending, commit: Commit) -> None:
    """Refuse content of data that the run's flow does not make."""
    outputs = {output.data_id for output in ending.flow.spec.outputs}
    for new in commit.versions:
        if new.data_id not in outputs:
            named = sa.select(t.data.c.name).where(t.data.c.id == new.data_id)
            name = ending.connection.execute(named).scalar() or new.data_id
            raise InvalidValue(f"run {ending.run.id} brings content of {name}: flow {ending.flow.name!r} makes no such")


def _numbers(run: Run) -> dict[tuple[str, str, str], int]:
    """The versions that a run used, as `settle` takes them."""
    return {(used.parameter, used.item, used.data_id): used.number for used in run.used}


def _lock(connection: sa.Connection, commit: Commit) -> None:
    ids = sorted({new.data_id for new in commit.versions})
    if ids:
        connection.execute(_LOCK_DATA, {"data": ids}).all()


def _add(ending: _Ending, new: NewVersion) -> Generated:
    """Insert a version, or find the one that stands already."""
    connection = ending.connection
    name = connection.execute(_LOCK_DATA, {"data": [new.data_id]}).one().name
    standing = _standing(connection, new)
    if standing is not None:
        _renew(connection, new)
        return Generated(new.key, name, new.data_id, standing.number, new.member, confirmed=True)
    if new.location is None:
        raise CommitConflict(f"{name} has changed since the run compared its content: it is compared again")
    if connection.execute(_COLLECTED, {"location": new.location}).first() is not None:
        raise CommitConflict(f"{new.location} is being collected: the content is stored again")
    number = (connection.execute(_LAST_NUMBER, {"data": new.data_id}).scalar() or 0) + 1
    available = None
    if new.held is None:
        last = connection.execute(_LAST_AVAILABLE, {"data": new.data_id}).scalar()
        available = ending.now if last is None else max(ending.now, last + _MICROSECOND)
    version = Version(
        data_id=new.data_id,
        number=number,
        checksum=new.checksum,
        fingerprint=new.fingerprint,
        size=new.size,
        media_type=new.media_type,
        encoding=new.encoding,
        suffix=new.suffix,
        store=new.store,
        location=new.location,
        member=new.member,
        run_id=ending.run.id,
        created_at=ending.now,
        available_at=available,
        standing=Standing.CURRENT if new.held is None else Standing.HELD,
    )
    values = {column.name: getattr(version, column.name) for column in t.version.columns}
    connection.execute(sa.insert(t.version), values)
    return Generated(new.key, name, new.data_id, number, new.member)


def _standing(connection: sa.Connection, new: NewVersion) -> Version | None:
    """The member's latest current, or last held or rejected version, if its content is equal."""
    rows = [connection.execute(look, {"data": new.data_id, "member": new.member}).first() for look in _COMPARED]
    candidates = [version_of(row) for row in rows if row is not None]
    current = [v for v in candidates if v.standing is Standing.CURRENT]
    stopped = sorted((v for v in candidates if v.standing is not Standing.CURRENT), key=lambda v: -v.number)[:1]
    for candidate in (*current, *stopped):
        known = new.previous_fingerprint if candidate.number == new.previous_number else candidate.fingerprint
        if known == new.fingerprint:
            return candidate
    return None


def _renew(connection: sa.Connection, new: NewVersion) -> None:
    """Keep the fingerprint under the present rule, so that the next run need not read the old bytes again."""
    if new.previous_number is not None and new.previous_fingerprint is not None:
        connection.execute(
            sa.update(t.version)
            .where(t.version.c.data_id == new.data_id, t.version.c.number == new.previous_number)
            .values(fingerprint=new.previous_fingerprint)
        )


def _save_generated(ending: _Ending, generated: list[Generated]) -> None:
    for place, made in enumerate(generated):
        key = {"run_id": ending.run.id, "position": place, "key": made.key, "data_id": made.data_id}
        value = {"number": made.number, "member": made.member, "confirmed": made.confirmed}
        ending.connection.execute(sa.insert(t.run_generated), {**key, **value})


def _save_members(ending: _Ending, commit: Commit) -> None:
    if not commit.members:
        return
    data_id = ending.flow.spec.outputs[0].data_id
    now = sa.literal(ending.now, t.Moment())
    for check in commit.members:
        where = (t.member.c.data_id == data_id, t.member.c.key == check.key)
        values = {
            "url": check.url,
            "validators": dict(check.validators),
            "decided_by": check.decided_by,
            "checked_at": ending.now,
            # When it was first missing: a later look must not move it.
            "gone_at": sa.func.coalesce(t.member.c.gone_at, now) if check.gone else None,
        }
        if ending.connection.execute(sa.update(t.member).where(*where).values(values)).rowcount == 0:
            values["gone_at"] = ending.now if check.gone else None
            ending.connection.execute(sa.insert(t.member), {"data_id": data_id, "key": check.key, **values})


def _end(ending: _Ending, state: RunState, commit: Commit) -> None:
    ending.connection.execute(
        sa.update(t.run)
        .where(t.run.c.id == ending.run.id)
        .values(
            state=state.value,
            ended_at=ending.now,
            handle=None,
            lease_until=None,
            steps=unstructure(commit.steps),
            metrics=dict(commit.metrics),
            environment_id=_environment(ending.connection, commit.environment),
            error=None,
            log=commit.log,
        )
    )


def _environment(connection: sa.Connection, environment: Environment | None) -> str | None:
    """Environments are few and large: each is kept once."""
    if environment is None:
        return None
    content = unstructure(environment)
    identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    known = sa.select(t.environment.c.id).where(t.environment.c.id == identity)
    if connection.execute(known).first() is None:
        connection.execute(sa.insert(t.environment), {"id": identity, "content": content})
    return identity


def _forget_old_polls(ending: _Ending) -> None:
    polls = (t.run.c.flow_id == ending.run.flow_id, t.run.c.state == RunState.UNCHANGED.value)
    oldest = ending.connection.execute(
        sa.select(t.run.c.seq).where(*polls).order_by(t.run.c.seq.desc()).offset(RING).limit(1)
    ).scalar()
    if oldest is None:
        return
    old = sa.select(t.run.c.id).where(*polls, t.run.c.seq <= oldest)
    for table in (t.run_used, t.run_generated):
        ending.connection.execute(sa.delete(table).where(table.c.run_id.in_(old)))
    ending.connection.execute(sa.delete(t.run).where(*polls, t.run.c.seq <= oldest))


def _record(ending: _Ending) -> None:
    """The run's complete record for provenance stores, with stable names of everything."""
    run = _run(ending.connection, ending.run.id)
    function = ending.flow.spec.function
    versions = {(v.data_id, v.number): v for v in _committed(ending.connection, run).versions}
    payload = {
        "run": f"urn:uuid:{run.id}",
        "flow": f"urn:uuid:{run.flow_id}",
        "name": run.flow,
        "revision": run.revision,
        "state": run.state.value,
        "cause": unstructure(run.cause),
        "agent": run.agent,
        "started_at": None if run.started_at is None else run.started_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "steps": unstructure(run.steps),
        "environment": unstructure(run.environment),
        "function": None if function is None else unstructure(function),
        "kwargs": next((dict(s.kwargs) for s in ending.flow.spec.argument_sets if s.key == run.argument_set), {}),
        "used": [{"entity": iri(u.data_id, u.number), **unstructure(u)} for u in run.used],
        "generated": [
            {
                "entity": iri(g.data_id, g.number),
                **unstructure(g),
                "version": unstructure(versions.get((g.data_id, g.number))),
            }
            for g in run.generated
        ],
        "source": None if ending.flow.spec.source is None else unstructure(ending.flow.spec.source),
    }
    add_record(ending.connection, "committed", payload, ending.now)


def iri(data_id: str, number: int) -> str:
    """A version's stable name."""
    return f"urn:uuid:{data_id}#{number}"
