"""What the engine asks the catalog page by page."""

from __future__ import annotations

from collections.abc import Iterator

from aero_core.catalog import Catalog
from aero_core.models import Run, RunState


def live_runs(catalog: Catalog) -> Iterator[Run]:
    """All runs that are queued or running, newest first."""
    after: str | None = None
    while True:
        page = catalog.list_runs(after, states=(RunState.QUEUED, RunState.RUNNING))
        yield from page.items
        if page.next is None:
            return
        after = page.next


def flow_ids(catalog: Catalog) -> frozenset[str]:
    """The ids of all flows."""
    found: set[str] = set()
    after: str | None = None
    while True:
        page = catalog.list_flows(after)
        found.update(flow.id for flow in page.items)
        if page.next is None:
            return frozenset(found)
        after = page.next
