"""The rows of a flow beside its own: inputs, outputs, argument sets, revisions, and its records."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from aero_core.converter import unstructure
from aero_core.errors import CommitConflict
from aero_core.models import Flow, FlowSpec
from aero_sql import schema as t
from aero_sql.outbox import add_record


def write_parts(connection: sa.Connection, flow_id: str, old: Flow | None, spec: FlowSpec, pending: int | None) -> None:
    """Write the rows of a flow's inputs, outputs and argument sets anew.

    Args:
        connection: The registration's transaction.
        flow_id: The flow.
        old: The flow as it was, if it was.
        spec: The flow as it is to be.
        pending: The revision that it is due for (0: none); None leaves that as it is.
    """
    run = connection.execute
    kept = {(i.parameter, i.item, i.data_id) for i in old.spec.inputs} if old else set()
    before = dict(
        run(
            sa.select(t.argument_set.c.key, t.argument_set.c.pending_revision).where(
                t.argument_set.c.flow_id == flow_id
            )
        ).all()
    )
    for table in (t.flow_input, t.flow_output, t.argument_set):
        run(sa.delete(table).where(table.c.flow_id == flow_id))
    for place, given in enumerate(spec.inputs):
        row = {"flow_id": flow_id, "position": place, "parameter": given.parameter, "item": given.item}
        row |= {"shape": given.shape.value, "data_id": given.data_id}
        run(sa.insert(t.flow_input), {**row, "pinned": given.version, "mode": given.mode.value})
    for place, output in enumerate(spec.outputs):
        row = {"flow_id": flow_id, "position": place, "key": output.key, "data_id": output.data_id}
        run(sa.insert(t.flow_output), row)
    for place, arguments in enumerate(spec.argument_sets):
        due = before.get(arguments.key, 0) if pending is None else pending
        row = {"flow_id": flow_id, "key": arguments.key, "position": place, "pending_revision": due}
        run(sa.insert(t.argument_set), {**row, "kwargs": dict(arguments.kwargs)})
        if old is not None and not spec.rerun:
            _consume_new(connection, flow_id, arguments.key, spec, kept if arguments.key in before else set())


def _consume_new(
    connection: sa.Connection, flow_id: str, argument_set: str, spec: FlowSpec, kept: set[tuple[str, str, str]]
) -> None:
    """Without a rerun new inputs count as used at their latest."""
    for given in spec.inputs:
        if (given.parameter, given.item, given.data_id) in kept:
            continue
        latest = connection.execute(
            sa.select(sa.func.max(t.version.c.number)).where(
                t.version.c.data_id == given.data_id, t.version.c.standing == "current"
            )
        ).scalar()
        key = {"flow_id": flow_id, "argument_set": argument_set, "parameter": given.parameter, "item": given.item}
        where = [t.consumed.c[name] == value for name, value in {**key, "data_id": given.data_id}.items()]
        connection.execute(sa.delete(t.consumed).where(*where))
        connection.execute(sa.insert(t.consumed), {**key, "data_id": given.data_id, "consumed": latest or 0})


def write_revision(connection: sa.Connection, flow: Flow, agent: str, now: datetime) -> None:
    """Keep what a flow is at its present revision, and where its code is."""
    connection.execute(
        sa.insert(t.flow_revision),
        {
            "flow_id": flow.id,
            "revision": flow.revision,
            "spec": flow.spec,
            "agent": agent,
            "created_at": now,
        },
    )
    function = flow.spec.function
    if function is None:
        return
    collected = sa.select(t.collecting.c.location).where(t.collecting.c.location == function.location)
    if connection.execute(collected).first() is not None:
        raise CommitConflict(f"{function.location} is being collected: the code is stored again")
    known = sa.select(t.bundle.c.id).where(t.bundle.c.id == function.bundle_id)
    if connection.execute(known).first() is None:
        connection.execute(
            sa.insert(t.bundle),
            {
                "id": function.bundle_id,
                "digest": function.digest,
                "location": function.location,
                "size": function.size,
                "created_at": now,
            },
        )


def record_flow(connection: sa.Connection, kind: str, flow: Flow, now: datetime) -> None:
    """Put what became of a flow into the outbox."""
    payload = {
        "flow": f"urn:uuid:{flow.id}",
        "name": flow.name,
        "revision": flow.revision,
        "spec": unstructure(flow.spec),
        "agent": flow.owner,
    }
    add_record(connection, kind, payload, now)
