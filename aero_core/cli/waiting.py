"""What a flow waits for, in words: `run` says it of a flow that was not due, `why` of any."""

from __future__ import annotations

from aero_core.cli.output import when
from aero_core.models import Explanation, FlowState, PolicyEnum, RunState

_BY_INPUT = (PolicyEnum.ANY, PolicyEnum.ALL)
_BY_TICK = (PolicyEnum.INGESTION, PolicyEnum.TIMER)


def failure(explanation: Explanation) -> str:
    """How a flow's last run went wrong, if it did and that is what keeps the flow from running; else nothing."""
    last = explanation.last_run
    if last is None or explanation.decision.due or any(state.latest is None for state in explanation.inputs):
        return ""
    if last.state is RunState.CANCELLED:
        return "its last run was cancelled"
    if last.state is RunState.FAILED:
        return "its last run failed" + (f": {last.error.message}" if last.error else "")
    return ""


def waits_for(explanation: Explanation, command: str = "aero") -> str:
    """What brings on the next run of a flow that has none; empty where only a tick does.

    Args:
        explanation: Of the flow.
        command: How to call aero from here.
    """
    flow, decision = explanation.flow, explanation.decision
    policy = flow.spec.policy
    if flow.state is not FlowState.ACTIVE:
        return f"{flow.state.value}: `{command} resume {flow.name}` lets it run"
    if failure(explanation):
        brought_on = ["when it is changed", f"after `{command} retry {flow.name}`"]
        if policy in _BY_INPUT and not all(state.pinned for state in explanation.inputs):
            brought_on.insert(0, "with new input")
        elif flow.next_tick is not None:
            brought_on.insert(0, f"at {when(flow.next_tick)} UTC")
        return f"runs again {', '.join(brought_on[:-1])} or {brought_on[-1]}"
    if policy in _BY_INPUT or any(state.latest is None for state in explanation.inputs):
        return decision.reason
    reason = "it has no schedule" if policy in _BY_TICK else decision.reason
    return "" if policy in _BY_TICK and flow.next_tick else f"{reason} (--now runs it)"
