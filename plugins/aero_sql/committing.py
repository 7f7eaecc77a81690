"""The end of a run: commit and fail, and what becomes due by it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import attrs
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
    canonical_json,
)
from aero_sql import schema as t
from aero_sql.base import Base
from aero_sql.deciding import look_at, look_at_concerned, numbers_of, settle
from aero_sql.outbox import add_record
from aero_sql.rows import flow_at, flow_by_id, run_by_id, version_of

#: Unchanged polls kept of each flow.
RING = 100
_MICROSECOND = timedelta(microseconds=1)

#: The data that a commit adds to, by id: who holds them may read their numbers.
_LOCK_DATA = (
    sa.select(t.data.c.id, t.data.c.name)
    .where(t.data.c.id.in_(sa.bindparam("data", expanding=True)))
    .order_by(t.data.c.id)
    .with_for_update()
)
#: Two looks: only one maximum at a time is read off the end of an index.
_LAST = sa.select(
    *(
        sa.select(sa.func.max(column)).where(t.version.c.data_id == sa.bindparam("data")).scalar_subquery()
        for column in (t.version.c.number, t.version.c.available_at)
    )
)


def _newest(standing: Standing) -> sa.ScalarSelect[Any]:
    """A member's last number of one standing: one for each, because only then an index answers with its first row."""
    other = t.version.alias()
    return (
        sa.select(other.c.number)
        .where(
            other.c.data_id == sa.bindparam("data"),
            other.c.member == sa.bindparam("member"),
            other.c.standing == standing.value,
        )
        .order_by(other.c.number.desc())
        .limit(1)
        .scalar_subquery()
    )


#: What a member's new content is compared with.
_COMPARED = sa.select(t.version).where(
    t.version.c.data_id == sa.bindparam("data"),
    t.version.c.number.in_([_newest(standing) for standing in (Standing.CURRENT, Standing.HELD, Standing.REJECTED)]),
)
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


_CHANGE = sa.update(t.run).where(t.run.c.id == sa.bindparam("of_run"))
_RENEW = sa.update(t.version).where(
    t.version.c.data_id == sa.bindparam("of_data"), t.version.c.number == sa.bindparam("of_number")
)
_ENVIRONMENT = sa.select(t.environment.c.id).where(t.environment.c.id == sa.bindparam("environment"))
_OLDEST_POLL = (
    sa.select(t.run.c.seq)
    .where(t.run.c.flow_id == sa.bindparam("flow"), t.run.c.state == RunState.UNCHANGED.value)
    .order_by(t.run.c.seq.desc())
    .offset(RING)
    .limit(1)
)
_OLD_POLLS = sa.select(t.run.c.id).where(
    t.run.c.flow_id == sa.bindparam("flow"),
    t.run.c.state == RunState.UNCHANGED.value,
    t.run.c.seq <= sa.bindparam("oldest"),
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
            names = _lock(connection, commit)
            made = [_add(ending, names[new.data_id], new) for new in commit.versions]
            generated = tuple(each for each, _ in made)
            versions = tuple(version for _, version in made if version is not None)
            _save_generated(ending, generated)
            _save_members(ending, commit)
            changed = ending.flow.spec.outputs == () or versions != ()
            state = RunState.SUCCEEDED if changed else RunState.UNCHANGED
            ended = attrs.evolve(_end(ending, state, commit), generated=generated)
            settle(connection, run, numbers_of(run), consumed=True)
            forgotten: tuple[str, ...] = ()
            if ending.flow.spec.source is not None and state is RunState.UNCHANGED:
                forgotten = _forget_old_polls(ending)
            else:
                _record(ending, ended, versions)
            current = {version.data_id for version in versions if version.standing is Standing.CURRENT}
            look_at_concerned(connection, run.flow_id, current, now)
            return Committed(ended, versions, forgotten)

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
            values["metrics"] = dict(failed.metrics)
            values["environment_id"] = _environment(connection, failed.environment)
            connection.execute(_CHANGE, {"of_run": run.id, **values})
            if not again:
                settle(connection, run, numbers_of(run), consumed=False)
                look_at(connection, [flow], now, CauseKind.INPUTS)
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


def _lock(connection: sa.Connection, commit: Commit) -> dict[str, str]:
    """Lock the data that the commit adds to; answers their names."""
    ids = sorted({new.data_id for new in commit.versions})
    return {row.id: row.name for row in connection.execute(_LOCK_DATA, {"data": ids})} if ids else {}


def _add(ending: _Ending, name: str, new: NewVersion) -> tuple[Generated, Version | None]:
    """Insert a version, or find the one that stands already."""
    connection = ending.connection
    standing = _standing(connection, new)
    if standing is not None:
        _renew(connection, new)
        return Generated(new.key, name, new.data_id, standing.number, new.member, confirmed=True), None
    if new.location is None:
        raise CommitConflict(f"{name} has changed since the run compared its content: it is compared again")
    if connection.execute(_COLLECTED, {"location": new.location}).first() is not None:
        raise CommitConflict(f"{new.location} is being collected: the content is stored again")
    last_number, last = connection.execute(_LAST, {"data": new.data_id}).one()
    available = None
    if new.held is None:
        available = ending.now if last is None else max(ending.now, last + _MICROSECOND)
    version = Version(
        data_id=new.data_id,
        number=(last_number or 0) + 1,
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
    return Generated(new.key, name, new.data_id, version.number, new.member), version


def _standing(connection: sa.Connection, new: NewVersion) -> Version | None:
    """The member's latest current, or last held or rejected version, if its content is equal."""
    rows = connection.execute(_COMPARED, {"data": new.data_id, "member": new.member})
    candidates = [version_of(row) for row in rows]
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
        of = {"of_data": new.data_id, "of_number": new.previous_number}
        connection.execute(_RENEW, {**of, "fingerprint": new.previous_fingerprint})


def _save_generated(ending: _Ending, generated: tuple[Generated, ...]) -> None:
    rows = [
        {
            "run_id": ending.run.id,
            "position": place,
            "key": made.key,
            "data_id": made.data_id,
            "number": made.number,
            "member": made.member,
            "confirmed": made.confirmed,
        }
        for place, made in enumerate(generated)
    ]
    if rows:
        ending.connection.execute(sa.insert(t.run_generated), rows)


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


def _end(ending: _Ending, state: RunState, commit: Commit) -> Run:
    """Save the run's end; answers the run as it is then."""
    values: dict[str, Any] = {"ended_at": ending.now, "handle": None, "error": None, "log": commit.log}
    values["metrics"] = dict(commit.metrics)
    kept = {
        "state": state.value,
        "lease_until": None,
        "steps": unstructure(commit.steps),
        "environment_id": _environment(ending.connection, commit.environment),
    }
    ending.connection.execute(_CHANGE, {"of_run": ending.run.id, **values, **kept})
    return attrs.evolve(ending.run, state=state, steps=commit.steps, environment=commit.environment, **values)


def _environment(connection: sa.Connection, environment: Environment | None) -> str | None:
    """Environments are few and large: each is kept once."""
    if environment is None:
        return None
    identity = hashlib.sha256(canonical_json(unstructure(environment)).encode()).hexdigest()
    if connection.execute(_ENVIRONMENT, {"environment": identity}).first() is None:
        connection.execute(sa.insert(t.environment), {"id": identity, "content": environment})
    return identity


def _forget_old_polls(ending: _Ending) -> tuple[str, ...]:
    """Keep the newest polls of the flow that found nothing; answers the ids of the others."""
    flow = {"flow": ending.run.flow_id}
    oldest = ending.connection.execute(_OLDEST_POLL, flow).scalar()
    if oldest is None:
        return ()
    old = ending.connection.execute(_OLD_POLLS, {**flow, "oldest": oldest}).scalars().all()
    for column in (t.run_used.c.run_id, t.run_generated.c.run_id, t.run.c.id):
        ending.connection.execute(sa.delete(column.table).where(column.in_(old)))
    return tuple(old)


def _record(ending: _Ending, run: Run, made: tuple[Version, ...]) -> None:
    """The run's complete record for provenance stores, with stable names of everything."""
    function = ending.flow.spec.function
    versions = {(version.data_id, version.number): version for version in made}
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
        "kwargs": dict(ending.flow.spec.kwargs_of(run.argument_set)),
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
