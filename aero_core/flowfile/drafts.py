"""From the arguments of a declaration to the flows that it declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import attrs

from aero_core.bundle import plain_function
from aero_core.errors import FlowFileError, InvalidValue
from aero_core.flowfile.arguments import (
    check_count,
    check_flag,
    check_url,
    optional_text,
    parse_kwargs,
    parse_outputs,
    parse_rule,
    parse_texts,
)
from aero_core.flowfile.declaration import Declaration, Draft, Function
from aero_core.flowfile.inputs import Signature, read_inputs
from aero_core.models import (
    ArgumentSet,
    FlowSpec,
    Input,
    Output,
    PolicyEnum,
    Rule,
    Source,
    check_name,
    parse_size,
    parse_span,
)
from aero_core.policy import parse_policy
from aero_core.schedule import parse_schedule

_INGESTING = (
    PolicyEnum.INGESTION,
    PolicyEnum.INGESTION_EVENT,
    PolicyEnum.TIMER,
    PolicyEnum.NONE,
)
_ANALYSING = (PolicyEnum.ANY, PolicyEnum.ALL, PolicyEnum.TIMER, PolicyEnum.NONE)

_Given = Mapping[str, Any]


def draft_ingestion(given: _Given, body: object = None) -> tuple[Draft, ...]:
    """The flow of an ingestion; with a function as its body two, of the raw bytes and of it.

    Raises:
        FlowFileError: An argument is not such as can be.
    """
    if callable(given["name"]):
        raise FlowFileError("@ingest needs a source: write @ingest(url=...)")
    name = _name(given, body)
    with _naming(name):
        if given["url"] is None:
            raise InvalidValue("url is missing: say where the data come from")
        raw = name if body is None else check_name(f"{name}.raw", "the raw data")
        source = Source((check_url(given["url"]),), limit=parse_size(given["limit"], "limit"))
        fetching = attrs.evolve(
            _common(given, raw),
            source=source,
            outputs=(Output("", raw),),
            policy=_policy(given["policy"], _INGESTING, "an ingestion"),
            schedule=parse_schedule(given["every"], given["tz"]),
            rule=parse_rule(given["rule"]),
        )
        store, code = optional_text(given["store"], "store"), parse_texts(given["code"], "code")
        if body is None:
            if code:
                raise InvalidValue("code= goes with a function: this ingestion has none")
            return (Draft(fetching, store=store),)
        function = _function(body)
        signature = Signature.of(function)
        first = signature.first()
        signature.check([first], [])
        making = attrs.evolve(
            _common(given, name),
            inputs=(Input(first, raw),),
            outputs=(Output("", name),),
            policy=PolicyEnum.ANY,
        )
        return Draft(fetching, store=store), Draft(making, function, code, store)


def draft_analysis(given: _Given, body: object) -> tuple[Draft, ...]:
    """The flow of an analysis.

    Raises:
        FlowFileError: An argument is not such as can be.
    """
    if not callable(body):
        raise FlowFileError(f"analysis was given {type(body).__name__} as its function: write inputs= before inputs")
    if isinstance(body, Declaration) and body.function is None:
        raise FlowFileError(f"analysis was given {body!r} as its function: write inputs= before inputs")
    name = _name(given, body)
    with _naming(name):
        function = _function(body)
        signature = Signature.of(function)
        inputs = read_inputs(given["inputs"], signature)
        kwargs = parse_kwargs(given["kwargs"])
        signature.check([item.parameter for item in inputs], kwargs)
        default = PolicyEnum.ANY if inputs else PolicyEnum.TIMER
        policy = default if given["policy"] is None else given["policy"]
        policy = _policy(policy, _ANALYSING, "an analysis")
        if policy in (PolicyEnum.ANY, PolicyEnum.ALL) and not inputs:
            raise InvalidValue(f"policy is {policy.name}, which needs inputs: there are none")
        spec = attrs.evolve(
            _common(given, name),
            inputs=inputs,
            outputs=parse_outputs(given["outputs"], name),
            argument_sets=(ArgumentSet(kwargs),),
            policy=policy,
            schedule=parse_schedule(given["every"], given["tz"]),
            rule=parse_rule(given["rule"]),
            endpoint=optional_text(given["endpoint"], "endpoint"),
            rerun=check_flag(given["rerun"], "rerun"),
            readonly_inputs=check_flag(given["readonly_inputs"], "readonly_inputs"),
        )
        store, code = optional_text(given["store"], "store"), parse_texts(given["code"], "code")
        return (Draft(spec, function, code, store),)


def _common(given: _Given, name: str) -> FlowSpec:
    timeout, memory = given["timeout"], given["memory"]
    return FlowSpec(
        name=name,
        rule=Rule(),
        retries=check_count(given["retries"], "retries"),
        timeout=None if timeout is None else parse_span(timeout, "timeout"),
        memory=None if memory is None else parse_size(memory, "memory"),
        tags=parse_texts(given["tags"], "tags"),
        description=optional_text(given["description"], "description"),
    )


def _name(given: _Given, body: object) -> str:
    name = given["name"]
    if name is None:
        name = getattr(body, "__name__", None)
        if name == "<lambda>":
            plain_function(body)  # says what to do
    try:
        return check_name(name, "a flow")
    except InvalidValue as error:
        raise FlowFileError(str(error)) from None


def _function(body: object) -> Function:
    """The function itself, also of one that another flow was declared with."""
    function = body.function if isinstance(body, Declaration) else body
    plain_function(function)
    return cast("Function", function)


def _policy(value: Any, allowed: tuple[PolicyEnum, ...], what: str) -> PolicyEnum:
    policy = parse_policy(value)
    if policy not in allowed:
        names = ", ".join(item.name for item in allowed)
        raise InvalidValue(f"policy is {policy.name}, which is not one of {what}: expected {names}")
    return policy


@contextmanager
def _naming(flow: str) -> Iterator[None]:
    """Say in every complaint which flow it is about."""
    try:
        yield
    except (FlowFileError, InvalidValue) as error:
        raise FlowFileError(f"flow {flow!r}: {error}") from None
