"""Records in full: with what a program would otherwise look up in several places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
from attrs import frozen

from aero_core.config import CODE_STORE, Config
from aero_core.models import JSON, Data, FlowSpec, Function, Member, Run


@frozen
class RunDetails(Run):
    """A run, and what of its flow's revision it ran with, which may not be today's.

    Attributes:
        source: URLs that it fetched from.
        function: The code, `location` as a whole URL.
        kwargs: What the function was called with, besides its inputs.
    """

    source: tuple[str, ...] = ()
    function: Function | None = None
    kwargs: Mapping[str, JSON] = attrs.field(factory=dict)


@frozen
class DataDetails(Data):
    """A data, and what the last look at each member of its source told."""

    members: tuple[Member, ...] = ()


def details_of_run(run: Run, spec: FlowSpec, config: Config) -> RunDetails:
    """A run in full; `spec` is its own revision's."""
    function = spec.function
    if function is not None:
        function = attrs.evolve(function, location=config.location(function.location, CODE_STORE).url)
    return RunDetails(
        **attrs.asdict(run, recurse=False),
        source=spec.source.urls if spec.source else (),
        function=function,
        kwargs=spec.kwargs_of(run.argument_set),
    )


def details_of_data(data: Data, members: Iterable[Member]) -> DataDetails:
    """A data in full."""
    return DataDetails(**attrs.asdict(data, recurse=False), members=tuple(members))
