"""Running flows whether they are due or not."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter

from aero_core.catalog import Catalog
from aero_core.engine import Engine
from aero_core.errors import RegistrationError
from aero_core.models import Cause, CauseKind, Flow, FlowState, Run


def run_now(engine: Engine, catalog: Catalog, flows: Sequence[Flow], agent: str) -> list[Run]:
    """Run flows without inputs side by side, then each that did not run by that, after those that it reads.

    Returns:
        The runs that ended, in order.

    Raises:
        RegistrationError: The only flow cannot run; one of several is passed over.
    """
    began = catalog.now()
    for flow in flows:
        if not flow.spec.inputs:
            _queue(catalog, flow, agent, alone=len(flows) == 1)
    ended = engine.run_to_rest()
    for flow in _in_order(flows):
        ran = any(run.flow_id == flow.id and (run.created_at or began) >= began for run in ended)
        if engine.stopping:
            break
        if flow.spec.inputs and not ran and _queue(catalog, flow, agent, alone=len(flows) == 1):
            ended += engine.run_to_rest()
    return ended


def _queue(catalog: Catalog, flow: Flow, agent: str, alone: bool) -> bool:
    if flow.state is not FlowState.ACTIVE:
        return False
    try:
        catalog.queue(flow.id, Cause(CauseKind.ASKED), agent)
    except RegistrationError:
        if alone:
            raise
        return False
    return True


def _in_order(flows: Sequence[Flow]) -> list[Flow]:
    """Flows such that each comes after those whose data it reads."""
    by_id = {flow.id: flow for flow in flows}
    makers = {output.data_id: flow.id for flow in flows for output in flow.spec.outputs}
    reads = {flow.id: [makers[i.data_id] for i in flow.spec.inputs if i.data_id in makers] for flow in flows}
    return [by_id[flow_id] for flow_id in TopologicalSorter(reads).static_order()]
