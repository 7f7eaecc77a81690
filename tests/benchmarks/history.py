"""Begin and commit with little and with much history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from aero_core.models import (
    Cause,
    CauseKind,
    Commit,
    FlowSpec,
    Holder,
    Limits,
    NewVersion,
    Output,
    Registration,
    new_id,
)
from aero_sql import schema
from aero_sql.catalog import SqlCatalog
from tests.benchmarks.figures import Figure, Sizes, milliseconds

FEW = 10
_HOLDER = Holder("bench")


def measure(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """All figures of this page."""
    folder.mkdir()
    few = _begin_and_commit(folder / "few.sqlite", FEW, sizes)
    many = _begin_and_commit(folder / "many.sqlite", sizes.versions, sizes)
    yield Figure(f"begin and commit with {FEW} versions", few, "ms")
    yield Figure(f"the same with {sizes.versions:,}, as a multiple", many / few, "x", 1.2)


def _begin_and_commit(path: Path, versions: int, sizes: Sizes) -> float:
    catalog = SqlCatalog(f"sqlite:///{path}")
    try:
        change = catalog.register(Registration((FlowSpec("a", outputs=(Output("", "a"),)),)))[0]
        flow = catalog.flow(change.flow_id)
        data = flow.spec.outputs[0].data_id
        _fill(path, catalog, flow.id, data, versions)
        numbers = iter(range(10**9))

        def once() -> None:
            catalog.queue(flow.id, Cause(CauseKind.ASKED), "bench")
            (claim,) = catalog.begin(_HOLDER, Limits(1))
            text = str(next(numbers))
            new = NewVersion("", data, f"sha256:{text}", f"bytes:{text}", 1, location=f"file:///x/{text}")
            catalog.commit(Commit(claim.run.id, claim.run.fencing, (new,)))

        return milliseconds(once, sizes.runs)
    finally:
        catalog.close()


def _fill(path: Path, catalog: SqlCatalog, flow: str, data: str, count: int) -> None:
    """Versions and their runs as commits leave them, many at a time: one that was committed, again and again."""
    catalog.queue(flow, Cause(CauseKind.ASKED), "bench")
    (claim,) = catalog.begin(_HOLDER, Limits(1))
    new = NewVersion("", data, "sha256:0", "bytes:first", 1, location="file:///x/first")
    catalog.commit(Commit(claim.run.id, claim.run.fencing, (new,)))
    engine = sa.create_engine(f"sqlite:///{path}")
    now = datetime.now(UTC) - timedelta(days=1)
    with engine.begin() as connection:
        run = dict(connection.execute(sa.select(schema.run)).one()._mapping)
        version = dict(connection.execute(sa.select(schema.version)).one()._mapping)
        ids = [new_id() for _ in range(count)]
        connection.execute(sa.insert(schema.run), [{**run, "seq": n + 2, "id": i} for n, i in enumerate(ids)])
        rows = [
            {**version, "number": n + 2, "run_id": i, "fingerprint": f"bytes:old {n}", "available_at": now}
            for n, i in enumerate(ids)
        ]
        connection.execute(sa.insert(schema.version), rows)
    engine.dispose()
