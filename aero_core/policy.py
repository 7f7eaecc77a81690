"""Must a flow run? Pure functions that a catalog calls inside its transactions.

They compare version numbers, never clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from aero_core.errors import InvalidValue, RegistrationError
from aero_core.models import Decision, FlowSpec, InputState, PolicyEnum


def parse_policy(value: PolicyEnum | int | str) -> PolicyEnum:
    """A policy from its member, number or name in any case.

    Raises:
        InvalidValue: There is no such policy.
    """
    try:
        if isinstance(value, str):
            return PolicyEnum[value.upper()]
        if isinstance(value, bool):
            raise ValueError
        return PolicyEnum(value)
    except (KeyError, ValueError):
        names = ", ".join(f"{policy.name} {policy.value}" for policy in PolicyEnum)
        raise InvalidValue(f"policy is {value!r}: expected one of {names}") from None


def starts_by_itself(policy: PolicyEnum) -> bool:
    """Whether registering a flow of this policy may start a run."""
    return policy not in (PolicyEnum.NONE, PolicyEnum.INGESTION_EVENT)


def starts_by_itself_at_ticks(policy: PolicyEnum) -> bool:
    """Whether a schedule's ticks mean anything to a flow of this policy."""
    return policy is not PolicyEnum.NONE


def decide(policy: PolicyEnum, inputs: Sequence[InputState], revision_due: bool = False) -> Decision:
    """Whether a flow is due for its inputs.

    Args:
        policy: The flow's policy.
        inputs: Its inputs, in order.
        revision_due: Its revision is new and has not run yet.
    """
    missing = [state for state in inputs if state.latest is None]
    if missing:
        return Decision(False, reason=f"waits for {_listed([_awaited(state) for state in missing])}")
    if revision_due:
        return Decision(True, _news(state for state in inputs if state.pinned is None), "is new, or changed")
    if policy not in (PolicyEnum.ANY, PolicyEnum.ALL):
        return Decision(False, reason=_REASONS[policy])
    free = [state for state in inputs if state.pinned is None]
    if not free:
        return Decision(False, reason="has no input that can change")
    if all(state.latest == state.attempted for state in free):
        return Decision(False, reason="failed for good on these inputs: waits for new ones, a change, or `aero retry`")
    fresh = [state for state in free if (state.latest or 0) > state.consumed]
    if policy is PolicyEnum.ANY and not fresh:
        return Decision(False, reason=f"waits for a new version of {_listed([s.data for s in free], 'or')}")
    if policy is PolicyEnum.ALL and len(fresh) < len(free):
        stale = [state.data for state in free if state not in fresh]
        return Decision(False, reason=f"waits for a new version of {_listed(stale)}")
    return Decision(True, _news(fresh), "has new input")


def _awaited(state: InputState) -> str:
    return f"a first version of {state.data}" if state.pinned is None else f"{state.data}@{state.pinned}"


def _news(states: Iterable[InputState]) -> tuple[str, ...]:
    return tuple(f"{state.data}@{state.latest}" for state in states if (state.latest or 0) > state.consumed)


_REASONS = {
    PolicyEnum.NONE: "runs only when asked to",
    PolicyEnum.INGESTION: "waits for its next tick",
    PolicyEnum.TIMER: "waits for its next tick",
    PolicyEnum.INGESTION_EVENT: "waits for a notification",
}


def find_cycle(makes: Mapping[str, Iterable[str]]) -> list[str]:
    """A cycle among data, or an empty list.

    Args:
        makes: For each data, those that it is made from.

    Returns:
        The data on the cycle in the order of making, the first one again at the end.
    """
    try:
        TopologicalSorter(makes).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


#: Settings whose change needs no rerun: field of the specification, and its word in a flow file.
_SETTINGS = {
    "policy": "policy",
    "schedule": "every",
    "rule": "rule",
    "store": "store",
    "executor": "executor",
    "endpoint": "endpoint",
    "retries": "retries",
    "timeout": "timeout",
    "memory": "memory",
    "rerun": "rerun",
    "readonly_inputs": "readonly_inputs",
    "tags": "tags",
    "description": "description",
}


def differences(old: FlowSpec, new: FlowSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What differs between two specifications of one flow, input data ids filled in.

    Returns:
        Fields that make a new revision, and fields that are settings only.
    """
    before, after = old.content(), new.content()
    content = tuple(name for name in after if before[name] != after[name])
    settings = [word for field, word in _SETTINGS.items() if getattr(old, field) != getattr(new, field)]
    if (old.source and old.source.limit) != (new.source and new.source.limit):
        settings.append("limit")
    return content, tuple(settings)


def check_together(specs: Sequence[FlowSpec]) -> None:
    """Refuse flows that cannot be registered together whatever the catalog holds: names declared twice.

    Raises:
        RegistrationError: Two flows bear one name, or two outputs are one data.
    """
    flows: set[tuple[str, str]] = set()
    makers: dict[str, str] = {}
    for spec in specs:
        if (spec.origin, spec.name) in flows:
            raise RegistrationError(f"flow {spec.name!r} is declared twice: give one of them another name")
        flows.add((spec.origin, spec.name))
        for output in spec.outputs:
            if output.data in makers:
                raise RegistrationError(
                    f"data {output.data!r} would be made by both flow {makers[output.data]!r} and flow {spec.name!r}: "
                    "rename one of them"
                )
            makers[output.data] = spec.name


def _listed(names: Sequence[str], word: str = "and") -> str:
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} {word} {unique[-1]}"
