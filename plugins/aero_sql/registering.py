"""Registration: flows and their data, in one transaction."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from datetime import datetime

import attrs
import sqlalchemy as sa

from aero_core import policy, schedule
from aero_core.config import toml_text
from aero_core.converter import structure, to_json, unstructure
from aero_core.errors import RegistrationError
from aero_core.models import (
    CauseKind,
    Change,
    ChangeKind,
    Flow,
    FlowSpec,
    FlowState,
    Input,
    Output,
    Registration,
    RunState,
    new_id,
)
from aero_sql import schema as t
from aero_sql.base import Base
from aero_sql.deciding import clear_queued, look_at, source_host
from aero_sql.parts import record_flow, write_parts, write_revision
from aero_sql.rows import flow_by_id, flow_of

#: Word of a plan for a disabled flow that is registered again.
_ENABLED = "enabled again"


class _Undo(Exception):
    """Ends a dry run: the transaction is rolled back."""

    def __init__(self, changes: tuple[Change, ...]) -> None:
        super().__init__()
        self.changes = changes


class Registering(Base):
    """`register` and `set_flow_state`."""

    def register(self, registration: Registration) -> tuple[Change, ...]:
        # As it will be read back: kwargs with a tuple are the same as those with a list.
        specs = tuple(structure(json.loads(to_json(spec)), FlowSpec) for spec in registration.specs)
        registration = attrs.evolve(registration, specs=specs)
        policy.check_together(specs)
        try:
            with self._db.write() as connection:
                changes = _Registrar(connection, registration, self.now()).register()
                if registration.dry_run:
                    raise _Undo(changes)
        except _Undo as undone:
            changes = undone.changes
        return changes

    def set_flow_state(self, flow_id: str, state: FlowState, agent: str) -> Flow:
        with self._db.write() as connection:
            now = self.now()
            flow = flow_by_id(connection, flow_id)
            if flow.state is state:
                return flow
            values: dict[str, object] = {"state": state.value, "updated_at": now}
            ticks = policy.starts_by_itself_at_ticks(flow.spec.policy)
            if state is FlowState.ACTIVE and flow.spec.schedule is not None and ticks:
                values["next_tick"] = schedule.next_tick(flow.spec.schedule, flow.anchor or now, now, flow.id)
            connection.execute(sa.update(t.flow).where(t.flow.c.id == flow_id).values(values))
            if state is not FlowState.ACTIVE:
                clear_queued(connection, [flow_id], now)
            flow = flow_by_id(connection, flow_id)
            look_at(connection, [flow], now, CauseKind.INPUTS, agent)
            if state is FlowState.DISABLED:
                record_flow(connection, "retired", flow, now)
            return flow


class _Registrar:
    """One registration at work."""

    def __init__(self, connection: sa.Connection, registration: Registration, now: datetime) -> None:
        self._connection, self._registration, self._now = connection, registration, now
        self._old = self._known()

    def register(self) -> tuple[Change, ...]:
        specs = self._registration.specs
        flows = [self._place(spec) for spec in specs]
        gone = self._gone({flow_id for flow_id, _ in flows})
        pruned = {flow.id for flow in gone} if self._registration.prune else set()
        if pruned:
            self._disable(gone)
        for (flow_id, _), spec in zip(flows, specs, strict=True):
            # All before any is taken: a data may move from one flow to another in one registration.
            self._let_go(flow_id, spec)
        made = [self._make_data(flow_id, spec) for (flow_id, _), spec in zip(flows, specs, strict=True)]
        ready = [self._resolve(spec) for spec in made]
        changes = [self._save(flow_id, old, spec) for (flow_id, old), spec in zip(flows, ready, strict=True)]
        self._refuse_cycles()
        concerned = [
            flow_by_id(self._connection, change.flow_id)
            for change in changes
            if change.kind in (ChangeKind.NEW, ChangeKind.CHANGED, ChangeKind.UPDATED)
        ]
        look_at(self._connection, concerned, self._now, CauseKind.REGISTERED, self._registration.agent)
        left = [Change(ChangeKind.GONE, flow.name, flow_id=flow.id, disabled=flow.id in pruned) for flow in gone]
        return (*changes, *left)

    def _known(self) -> dict[tuple[str, str], Flow]:
        registration = self._registration
        rows = self._connection.execute(
            sa.select(t.flow).where(
                t.flow.c.project == registration.project, t.flow.c.namespace == registration.namespace
            )
        )
        flows = [flow_of(row) for row in rows]
        return {(flow.spec.origin, flow.spec.name): flow for flow in flows}

    def _place(self, spec: FlowSpec) -> tuple[str, Flow | None]:
        """The flow's id, and the flow as it is: its own, or one that is adopted."""
        old = self._old.get((spec.origin, spec.name))
        if old is None and self._registration.adopt is not None:
            old = self._old.pop((self._registration.adopt, spec.name), None)
        if old is not None:
            return old.id, old
        flow_id = new_id()
        now = self._now
        self._connection.execute(
            sa.insert(t.flow),
            {
                "id": flow_id,
                "project": self._registration.project,
                "origin": spec.origin,
                "name": spec.name,
                "namespace": spec.namespace,
                "revision": 0,
                "state": FlowState.ACTIVE.value,
                "policy": int(spec.policy),
                "spec": spec,
                "owner": self._registration.agent,
                "created_at": now,
                "updated_at": now,
            },
        )
        return flow_id, None

    def _gone(self, kept: set[str]) -> list[Flow]:
        origins = self._registration.origins
        return sorted(
            (
                flow
                for (origin, _), flow in self._old.items()
                if origin in origins and flow.id not in kept and flow.state is not FlowState.DISABLED
            ),
            key=lambda flow: flow.name,
        )

    def _disable(self, flows: Sequence[Flow]) -> None:
        ids = [flow.id for flow in flows]
        self._connection.execute(
            sa.update(t.flow)
            .where(t.flow.c.id.in_(ids))
            .values(state=FlowState.DISABLED.value, next_tick=None, updated_at=self._now)
        )
        clear_queued(self._connection, ids, self._now)
        for flow in flows:
            record_flow(self._connection, "retired", flow, self._now)

    # Data

    def _let_go(self, flow_id: str, spec: FlowSpec) -> None:
        names = [output.data for output in spec.outputs]
        kept = (t.data.c.namespace == spec.namespace) & t.data.c.name.in_(names)
        self._connection.execute(sa.update(t.data).where(t.data.c.flow_id == flow_id, ~kept).values(flow_id=None))

    def _make_data(self, flow_id: str, spec: FlowSpec) -> FlowSpec:
        return attrs.evolve(spec, outputs=tuple(self._output(flow_id, spec, output) for output in spec.outputs))

    def _output(self, flow_id: str, spec: FlowSpec, output: Output) -> Output:
        values = {
            "kind": output.kind.value,
            "description": spec.description,
            "tags": list(spec.tags),
            "source": None if spec.source is None else unstructure(spec.source),
            "store": spec.store,
            "rule": unstructure(spec.rule),
            "flow_id": flow_id,
        }
        there = self._connection.execute(
            sa.select(
                t.data.c.id,
                t.data.c.flow_id,
                t.flow.c.name.label("maker"),
                t.flow.c.origin,
                t.flow.c.project,
                t.flow.c.state,
            )
            .select_from(t.data.outerjoin(t.flow, t.flow.c.id == t.data.c.flow_id))
            .where(t.data.c.namespace == spec.namespace, t.data.c.name == output.data)
        ).one_or_none()
        if there is None:
            data_id = new_id()
            row = {"id": data_id, "namespace": spec.namespace, "name": output.data, "created_at": self._now}
            self._connection.execute(sa.insert(t.data), {**row, "owner": self._registration.agent, **values})
            return attrs.evolve(output, data_id=data_id)
        if there.flow_id not in (None, flow_id) and there.state != FlowState.DISABLED.value:
            hint = "rename one of them, or drop the other with --prune"
            if there.maker == spec.name:
                hint = f"rename one of them, or move it here with --adopt {there.origin}"
            of = there.origin
            if there.project != self._registration.project:
                of = f"{of}, of project {there.project!r},"
                hint = f"if they are the same, set project = {toml_text(there.project)} in aero.toml; else rename one"
            raise RegistrationError(
                f"flow {spec.name!r}: data {output.data!r} is made by flow {there.maker!r} of {of} already: {hint}"
            )
        self._connection.execute(sa.update(t.data).where(t.data.c.id == there.id).values(values))
        return attrs.evolve(output, data_id=there.id)

    # Inputs

    def _resolve(self, spec: FlowSpec) -> FlowSpec:
        return attrs.evolve(spec, inputs=tuple(self._input(spec, wanted) for wanted in spec.inputs))

    def _input(self, spec: FlowSpec, wanted: Input) -> Input:
        row = self._connection.execute(
            sa.select(t.data.c.id, t.data.c.name, t.data.c.flow_id).where(
                sa.or_(
                    t.data.c.id == wanted.data,
                    sa.and_(t.data.c.namespace == spec.namespace, t.data.c.name == wanted.data),
                )
            )
        ).first()
        if row is None:
            names = sa.select(t.data.c.name).where(t.data.c.namespace == spec.namespace).limit(1000)
            near = difflib.get_close_matches(wanted.data, self._connection.execute(names).scalars().all(), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`aero list data` lists what there is"
            raise RegistrationError(f"flow {spec.name!r}: no data is {wanted.data!r}: {hint}")
        if wanted.version is not None:
            pinned = sa.select(t.version.c.number).where(
                t.version.c.data_id == row.id, t.version.c.number == wanted.version
            )
            if not self._is_made(row.flow_id) and self._connection.execute(pinned).first() is None:
                raise RegistrationError(
                    f"flow {spec.name!r}: {row.name}@{wanted.version} does not exist: "
                    f"`aero versions {row.name}` lists them"
                )
        return attrs.evolve(wanted, data=row.name, data_id=row.id)

    def _is_made(self, flow_id: str | None) -> bool:
        """Whether the flow that makes a data is there and may run."""
        maker = sa.select(t.flow.c.id).where(t.flow.c.id == flow_id, t.flow.c.state != FlowState.DISABLED.value)
        return self._connection.execute(maker).first() is not None

    def _refuse_cycles(self) -> None:
        rows = self._connection.execute(
            sa.select(t.flow_output.c.data_id.label("made"), t.flow_input.c.data_id.label("used"))
            .select_from(
                t.flow_output.join(t.flow_input, t.flow_input.c.flow_id == t.flow_output.c.flow_id).join(
                    t.flow, t.flow.c.id == t.flow_output.c.flow_id
                )
            )
            .where(t.flow.c.state != FlowState.DISABLED.value)
        )
        makes: dict[str, list[str]] = {}
        for row in rows:
            makes.setdefault(row.made, []).append(row.used)
        cycle = policy.find_cycle(makes)
        if cycle:
            names = dict(
                self._connection.execute(sa.select(t.data.c.id, t.data.c.name).where(t.data.c.id.in_(cycle))).all()
            )
            shown = " <- ".join(names[data_id] for data_id in cycle)
            raise RegistrationError(
                f"flows make a cycle: {shown}; a function that needs its own last output asks for it "
                "with a parameter named `previous`"
            )

    # Flows

    def _save(self, flow_id: str, old: Flow | None, spec: FlowSpec) -> Change:
        if old is None:
            return self._write(flow_id, None, spec, ChangeKind.NEW, ())
        content, settings = policy.differences(old.spec, spec)
        moved = ("file",) if old.spec.origin != spec.origin else ()
        if content:
            return self._write(flow_id, old, spec, ChangeKind.CHANGED, (*content, *settings, *moved))
        enabled = (_ENABLED,) if old.state is FlowState.DISABLED else ()
        if enabled or settings or moved:
            return self._write(flow_id, old, spec, ChangeKind.UPDATED, (*enabled, *settings, *moved))
        return Change(ChangeKind.UNCHANGED, spec.name, flow_id=flow_id)

    def _write(
        self, flow_id: str, old: Flow | None, spec: FlowSpec, kind: ChangeKind, fields: tuple[str, ...]
    ) -> Change:
        if kind is ChangeKind.UPDATED and old is not None and old.spec.function is not None:
            # Equal code: what runs stays the archive of the revision.
            spec = attrs.evolve(spec, function=old.spec.function)
        revision = (old.revision if old else 0) + (kind is not ChangeKind.UPDATED)
        state = old.state if old and old.state is not FlowState.DISABLED else FlowState.ACTIVE
        anchor, next_tick = self._ticks(flow_id, old, spec, kind)
        self._connection.execute(
            sa.update(t.flow)
            .where(t.flow.c.id == flow_id)
            .values(
                origin=spec.origin,
                revision=revision,
                state=state.value,
                policy=int(spec.policy),
                spec=spec,
                anchor=anchor,
                next_tick=next_tick,
                updated_at=self._now,
            )
        )
        if kind is ChangeKind.CHANGED:
            # What failed for good may go well now: it is tried again, also where a change asks for no rerun.
            self._connection.execute(
                sa.update(t.consumed).where(t.consumed.c.flow_id == flow_id).values(attempted=None)
            )
            self._begin_anew(flow_id)
        self._keep_queued(flow_id, spec)
        write_parts(self._connection, flow_id, old, spec, self._pending(spec, kind, revision))
        flow = flow_by_id(self._connection, flow_id)
        if kind is not ChangeKind.UPDATED:
            write_revision(self._connection, flow, self._registration.agent, self._now)
        record_flow(self._connection, "registered", flow, self._now)
        return Change(kind, spec.name, fields, flow_id)

    def _begin_anew(self, flow_id: str) -> None:
        """Let a run that waits for its next attempt begin at once: what it waits for was the old revision's trouble."""
        retries = sa.update(t.run).where(
            t.run.c.flow_id == flow_id, t.run.c.state == RunState.QUEUED.value, t.run.c.attempt > 0
        )
        self._connection.execute(retries.values(not_before=self._now, attempt=0))

    def _keep_queued(self, flow_id: str, spec: FlowSpec) -> None:
        """Let queued runs know where they are to run; those whose argument set is gone have nothing to run."""
        queued = sa.update(t.run).where(t.run.c.flow_id == flow_id, t.run.c.state == RunState.QUEUED.value)
        gone = t.run.c.argument_set.not_in([arguments.key for arguments in spec.argument_sets])
        self._connection.execute(queued.where(gone).values(state=RunState.CANCELLED.value, ended_at=self._now))
        self._connection.execute(queued.values(host=source_host(spec), endpoint=spec.endpoint or ""))

    def _ticks(
        self, flow_id: str, old: Flow | None, spec: FlowSpec, kind: ChangeKind
    ) -> tuple[datetime | None, datetime | None]:
        if spec.schedule is None or not policy.starts_by_itself_at_ticks(spec.policy):
            return None, None
        enabled = old is not None and old.state is FlowState.DISABLED
        if old is not None and not enabled and old.spec.schedule == spec.schedule and old.anchor is not None:
            return old.anchor, old.next_tick or schedule.next_tick(spec.schedule, old.anchor, self._now, flow_id)
        kept = old.anchor if old and old.spec.schedule and old.spec.schedule.seconds == spec.schedule.seconds else None
        anchor = kept or self._now
        # The first tick of a new interval flow is its registration, see `_pending`.
        return anchor, schedule.next_tick(spec.schedule, anchor, self._now, flow_id)

    def _pending(self, spec: FlowSpec, kind: ChangeKind, revision: int) -> int | None:
        """The revision that the flow is due for now; None leaves things as they are."""
        if not policy.starts_by_itself(spec.policy):
            return 0
        if kind is ChangeKind.UPDATED:
            return None
        if kind is ChangeKind.NEW:
            waits = spec.schedule is not None and spec.schedule.cron is not None
            return 0 if waits else revision
        return revision if spec.rerun else 0
