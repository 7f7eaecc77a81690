"""Lineage: what a version was made from."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from aero_core.catalog import Catalog
from aero_core.errors import InvalidValue
from aero_core.models import Data, Run, Version

#: Each level takes several of Python's frames where a tree is made, shown and turned into JSON.
DEEPEST = 100


@frozen
class LineageNode:
    """A version (PROV's entity), the run that made it (activity), and the versions that the run used.

    Attributes:
        source: URLs that the run ingested from, which may not be those of today; none for a version with inputs.
        repeated: Its inputs are shown elsewhere in the tree.
        cut: Its inputs are deeper than asked for.
    """

    data: str
    number: int
    version: Version
    flow: str | None = None
    run_id: str | None = None
    agent: str | None = None
    source: tuple[str, ...] = ()
    inputs: tuple[LineageNode, ...] = ()
    repeated: bool = False
    cut: bool = False


def trace(
    catalog: Catalog, located: Callable[[Version], Version], data: Data, version: Version, depth: int
) -> LineageNode:
    """The tree of one version; what occurs several times is unfolded once.

    Args:
        catalog: Knows the runs.
        located: Makes a version's location a whole URL.
        data: The version's data.
        version: The root.
        depth: How far back; at most `DEEPEST`.

    Raises:
        InvalidValue: That is too far.
    """
    if depth > DEEPEST:
        raise InvalidValue(f"depth is {depth}: expected at most {DEEPEST}; a version in the tree has its own lineage")
    return _node(catalog, located, data, version, depth, set())


def _node(
    catalog: Catalog,
    located: Callable[[Version], Version],
    data: Data,
    version: Version,
    depth: int,
    seen: set[tuple[str, int]],
) -> LineageNode:
    run: Run | None = None if version.run_id is None else catalog.run(version.run_id)
    key = (data.id, version.number)
    has_inputs = run is not None and bool(run.used)
    repeated = has_inputs and key in seen
    cut = has_inputs and not repeated and depth <= 0
    if not cut:
        # What was cut off here may be within reach elsewhere.
        seen.add(key)
    inputs: list[LineageNode] = []
    for used in run.used if run and not (repeated or cut) else ():
        below = catalog.version(used.data_id, used.number)
        inputs.append(_node(catalog, located, catalog.data(used.data_id), below, depth - 1, seen))
    return LineageNode(
        data=data.name,
        number=version.number,
        version=located(version),
        flow=run.flow if run else None,
        run_id=version.run_id,
        agent=run.agent if run else None,
        source=_source(catalog, data, run),
        inputs=tuple(inputs),
        repeated=repeated,
        cut=cut,
    )


def _source(catalog: Catalog, data: Data, run: Run | None) -> tuple[str, ...]:
    # The data names today's source: its flow may have had another when the run was made.
    source = data.source if run is None else catalog.revision(run.flow_id, run.revision).source
    return source.urls if source else ()
