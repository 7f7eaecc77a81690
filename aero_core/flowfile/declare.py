"""`ingest` and `analysis`: how a flow file declares its flows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aero_core.flowfile.declaration import Declaration, Function, collect
from aero_core.flowfile.drafts import draft_analysis, draft_ingestion
from aero_core.models import JSON, PolicyEnum, Rule


def ingest(
    name: str | None = None,
    url: str | Path | None = None,
    every: float | str | None = None,
    tz: str = "UTC",
    policy: PolicyEnum | int | str = PolicyEnum.INGESTION,
    rule: str | Rule | Mapping[str, JSON] = "bytes",
    store: str | None = None,
    code: Sequence[str | Path] = (),
    retries: int = 0,
    timeout: float | str | None = None,
    memory: int | str | None = None,
    limit: int | str = "10GB",
    tags: Sequence[str] = (),
    description: str | None = None,
) -> Declaration:
    """Declare data that come from a source.

    As a call, the bytes as they come become data `name`. As a decorator over a function, they
    become data `name.raw`, and the function, which receives their file, makes data `name` from
    them; without `name` the function's name counts.

    Args:
        name: The data's name.
        url: Where it comes from: a URL, or an absolute `pathlib.Path`.
        every: How often to look: seconds, text such as `"1d"`, or a cron expression.
        tz: Zone of the cron expression.
        policy: INGESTION, or INGESTION_EVENT, TIMER, NONE.
        rule: What counts as changed content.
        store: Where versions are kept; the profile's store by default.
        code: Files that the function needs beside the Python modules that it imports.
        retries: How often to run the function again after it raised.
        timeout: Longest time from the function's start.
        memory: Most memory that the function may use.
        limit: Largest answer to take from the source.
        tags: Words to find it by.
        description: What it is.

    Raises:
        FlowFileError: An argument is not such as can be; the message says which.
    """
    given = dict(locals())

    def over(body: Function) -> Declaration:
        return Declaration("ingest", draft_ingestion(given, body))

    drafts = () if name is None else draft_ingestion(given)
    return collect(Declaration("ingest", drafts, decorate=over))


def analysis(
    function: Function | None = None,
    /,
    inputs: object = (),
    policy: PolicyEnum | int | str | None = None,
    every: float | str | None = None,
    tz: str = "UTC",
    outputs: Sequence[str] | None = None,
    kwargs: Mapping[str, JSON] | None = None,
    name: str | None = None,
    code: Sequence[str | Path] = (),
    rule: str | Rule | Mapping[str, JSON] = "bytes",
    store: str | None = None,
    endpoint: str | None = None,
    retries: int = 0,
    timeout: float | str | None = None,
    memory: int | str | None = None,
    rerun: bool = True,
    readonly_inputs: bool = False,
    tags: Sequence[str] = (),
    description: str | None = None,
) -> Declaration:
    """Declare a function over data, as a decorator or with the function as first argument.

    Args:
        function: What to run; left out in a decorator.
        inputs: A list of data for the parameters named after them, or a mapping of parameters to
            data, lists of data or mappings of data. Data: a declaration, an output of one, a name
            or an id, with `@N` for one number.
        policy: ANY (by default with inputs), ALL, TIMER (by default without), NONE.
        every: When it is looked at: seconds, text such as `"1d"`, or a cron expression.
        tz: Zone of the cron expression.
        outputs: Names of several outputs; one that is named like the flow by default.
        kwargs: Values of further parameters.
        name: The flow's name; the function's by default.
        code: Files that the function needs beside the Python modules that it imports.
        rule: What counts as a changed result.
        store: Where versions are kept; the profile's store by default.
        endpoint: Where the function runs, in the executor's words.
        retries: How often to run the function again after it raised.
        timeout: Longest time from the function's start.
        memory: Most memory that the function may use.
        rerun: Whether a changed flow runs again on what is there.
        readonly_inputs: Whether links into the store will do in place of private copies.
        tags: Words to find it by.
        description: What it is.

    Raises:
        FlowFileError: An argument is not such as can be; the message says which.
    """
    given = dict(locals())

    def over(body: Function) -> Declaration:
        return Declaration("analysis", draft_analysis(given, body))

    if function is None:
        return collect(Declaration("analysis", decorate=over))
    return collect(over(function))
