"""The command that lists: data, flows, runs, provenance, functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TypeVar

import click
from attrs import frozen

from aero_core import api
from aero_core.cli.output import emit, format_option, short, took, versions_of, when
from aero_core.cli.root import Settings
from aero_core.models import (
    JSON,
    LARGEST,
    Environment,
    FlowSpec,
    FlowState,
    Function,
    Generated,
    RunState,
    Step,
    Used,
)

T = TypeVar("T")

KINDS = ("data", "flow", "run", "prov", "function")
TABLE_ROWS = 100


@frozen
class Provenance:
    """A run as PROV sees it: activity, agent, entities used and generated, and what reproducing it needs.

    Attributes:
        source: URLs that the run ingested from.
    """

    activity: str
    flow: str
    agent: str | None
    source: tuple[str, ...]
    used: tuple[Used, ...]
    generated: tuple[Generated, ...]
    bundle_id: str | None
    kwargs: Mapping[str, JSON]
    environment: Environment | None
    steps: tuple[Step, ...]


@frozen
class FunctionUse:
    """A function as it is kept, and the flow that uses it."""

    flow: str
    function: Function


@click.command("list")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--limit", type=click.IntRange(1, LARGEST), help=f"At most so many; {TABLE_ROWS} in a table of runs.")
@format_option
@click.pass_obj
def list_(settings: Settings, kind: str, limit: int | None, form: str) -> None:
    """List data, flows, runs, prov (provenance) or functions."""
    with settings.open() as aero:
        if limit is None and form == "table" and kind in ("run", "prov"):
            limit = TABLE_ROWS
        _LISTS[kind](aero, limit, form)


def _newest(items: Iterator[T], limit: int | None, form: str) -> Iterator[T]:
    """The first items; a table says if there are others."""
    yield from islice(items, limit)
    if form == "table" and limit is not None and next(items, None) is not None:
        click.echo(f"the newest {limit}, there are others: --limit N shows so many", err=True)


def _list_data(aero: api.Aero, limit: int | None, form: str) -> None:
    emit(
        islice(aero.data_list(), limit),
        form,
        ("data", "latest", "store", "source", "description", "id"),
        lambda d: (
            d.name,
            f"@{d.latest}" if d.latest else "none",
            d.store,
            " ".join(d.source.urls) if d.source else "",
            d.description or "",
            short(d.id),
        ),
        "no data yet: `aero run FILE` makes some",
    )


def _list_flows(aero: api.Aero, limit: int | None, form: str) -> None:
    emit(
        islice(aero.flows(), limit),
        form,
        ("flow", "policy", "schedule", "state", "revision", "next (UTC)", "file", "id"),
        lambda f: (
            f.name,
            f.spec.policy.name,
            str(f.spec.schedule or ""),
            f.state.value,
            str(f.revision),
            when(f.next_tick) if f.state is FlowState.ACTIVE else "",
            f.spec.origin,
            short(f.id),
        ),
        "no flows yet: `aero apply FILE` registers some",
    )


def _list_runs(aero: api.Aero, limit: int | None, form: str) -> None:
    emit(
        _newest(aero.runs(), limit, form),
        form,
        ("run", "flow", "state", "cause", "began (UTC)", "took", "made or error"),
        lambda r: (
            short(r.id),
            r.flow,
            r.state.value,
            str(r.cause),
            when(r.started_at or r.created_at),
            "" if r.seconds is None else took(r.seconds),
            r.error.message if r.error else versions_of(r.generated),
        ),
        "no runs yet: `aero run FILE` makes some",
    )


def _list_provenance(aero: api.Aero, limit: int | None, form: str) -> None:
    done = aero.runs(states=(RunState.SUCCEEDED, RunState.UNCHANGED))
    specs: dict[tuple[str, int], FlowSpec] = {}

    def records() -> Iterator[Provenance]:
        for run in done:
            if run.used or run.generated:
                revision = (run.flow_id, run.revision)
                if revision not in specs:
                    specs[revision] = aero.catalog.revision(*revision)
                spec = specs[revision]
                yield Provenance(
                    activity=run.id,
                    flow=run.flow,
                    agent=run.agent,
                    source=spec.source.urls if spec.source else (),
                    used=run.used,
                    generated=run.generated,
                    bundle_id=spec.function.bundle_id if spec.function else None,
                    kwargs=spec.kwargs_of(run.argument_set),
                    environment=run.environment,
                    steps=run.steps,
                )

    emit(
        _newest(records(), limit, form),
        form,
        ("activity", "flow", "agent", "source", "used", "generated"),
        lambda p: (
            short(p.activity),
            p.flow,
            p.agent or "",
            " ".join(p.source),
            ", ".join(f"{u.data}@{u.number}" for u in p.used),
            versions_of(p.generated),
        ),
        "no provenance yet: `aero run FILE` makes some",
    )


def _list_functions(aero: api.Aero, limit: int | None, form: str) -> None:
    uses = (FunctionUse(f.name, f.spec.function) for f in aero.flows() if f.spec.function is not None)
    emit(
        islice(uses, limit),
        form,
        ("function", "flow", "file", "digest"),
        lambda u: (u.function.name, u.flow, u.function.entry, u.function.digest[: len("sha256:") + 12]),
        "no functions yet: `aero apply FILE` registers some",
    )


_LISTS = {
    "data": _list_data,
    "flow": _list_flows,
    "run": _list_runs,
    "prov": _list_provenance,
    "function": _list_functions,
}
