"""Commands that look: show, versions, get, logs, why, lineage, verify."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path

import click

from aero_core import api
from aero_core.api.getting import parse_time
from aero_core.api.spare import spare_folder
from aero_core.cli.harmless import PLAIN, harmless, harmless_but_coloured
from aero_core.cli.output import emit, emit_each, format_option, pairs_of, short, size_of, took, versions_of, when
from aero_core.cli.progress import transfer_bar
from aero_core.cli.root import Settings
from aero_core.cli.waiting import waits_for
from aero_core.engine import log_of
from aero_core.errors import InvalidValue, NotFound
from aero_core.models import (
    LARGEST,
    Data,
    Explanation,
    Flow,
    FlowState,
    InputState,
    Member,
    Rule,
    Run,
    RunState,
    Version,
)

#: Members of a source that are shown; others are counted.
SHOWN_MEMBERS = 5


@click.command()
@click.argument("ref", metavar="DATA|FLOW|RUN")
@click.option("--kind", type=click.Choice(("data", "flow", "run")), help="Which, where a name is several things.")
@format_option
@click.pass_obj
def show(settings: Settings, ref: str, kind: str | None, form: str) -> None:
    """Show a data, flow or run by name, id or unique prefix of its id; the data where a flow has the same name."""
    with settings.open() as aero:
        found = _find(aero, ref, kind)
        if isinstance(found, Data):
            emit_each([aero.data_details(found.id)], form, lambda data: _data_lines(aero, data))
        elif isinstance(found, Flow):
            emit_each([found], form, _flow_lines)
        else:
            emit_each([aero.run_details(found.id)], form, _run_lines)


def _find(aero: api.Aero, ref: str, kind: str | None) -> Data | Flow | Run:
    looks: dict[str, Callable[[str], Data | Flow | Run]] = {
        "data": aero.data,
        "flow": aero.flow,
        "run": aero.catalog.run,
    }
    errors = []
    for name, look in looks.items():
        if kind in (None, name):
            try:
                return look(ref)
            except NotFound as error:
                errors.append(error)
    if kind is not None:
        raise errors[0]
    names = [*(data.name for data in aero.data_list()), *(flow.name for flow in aero.flows())]
    raise _nothing("data, flow or run", ref, names, "data")


def _nothing(what: str, ref: str, names: Iterable[str], kind: str) -> NotFound:
    """That nothing bears a name, and which names are near it."""
    near = list(dict.fromkeys(difflib.get_close_matches(ref, names, 3)))
    hint = f"did you mean {' or '.join(near)}?" if near else f"`aero list {kind}` lists what there is"
    return NotFound(f"no {what} is {ref!r}: {hint}")


def _data_lines(aero: api.Aero, data: api.DataDetails) -> Iterator[tuple[str, str]]:
    latest = aero.catalog.latest(data.id)
    yield "data", data.name
    yield "id", data.id
    yield "description", data.description or ""
    yield "tags", ", ".join(data.tags)
    yield "source", " ".join(data.source.urls) if data.source else ""
    for member in data.members[:SHOWN_MEMBERS]:
        name = f"{member.url}: " if len(data.members) > 1 else ""
        yield "checked", name + _look_at(member)
    if len(data.members) > SHOWN_MEMBERS:
        yield "checked", f"and {len(data.members) - SHOWN_MEMBERS} more (in --format json)"
    yield "made by flow", aero.catalog.flow(data.flow_id).name if data.flow_id else ""
    yield "rule", _rule(data.rule)
    yield "store", data.store
    if latest is None:
        yield "latest", "none yet"
        return
    yield "latest", f"@{latest.number}, {size_of(latest.size)}, {latest.media_type or 'unknown type'}"
    yield "available", f"{when(latest.available_at)} UTC"
    yield "checksum", latest.checksum or ""
    yield "location", aero.config.location(latest.location, latest.store).url
    yield "run", short(latest.run_id)
    yield "get it", f"aero get {data.name} -o {data.name}{latest.suffix}"


def _look_at(member: Member) -> str:
    """What the last look at a member told, and by what."""
    text = f"{when(member.checked_at)} UTC"
    if member.decided_by:
        text += f", decided by {member.decided_by}"
    if member.validators:
        text += f" ({pairs_of(member.validators)})"
    return text + (f", gone since {when(member.gone_at)} UTC" if member.gone_at else "")


def _flow_lines(flow: Flow) -> Iterator[tuple[str, str]]:
    spec = flow.spec
    yield "flow", flow.name
    yield "id", flow.id
    yield "description", spec.description or ""
    yield "tags", ", ".join(spec.tags)
    yield "state", flow.state.value
    yield "revision", str(flow.revision)
    yield "file", spec.origin
    yield "policy", spec.policy.name
    yield "schedule", str(spec.schedule or "")
    yield "next", f"{when(flow.next_tick)} UTC" if flow.next_tick and flow.state is FlowState.ACTIVE else ""
    yield "source", " ".join(spec.source.urls) if spec.source else ""
    yield "limit", size_of(spec.source.limit) if spec.source else ""
    yield "rule", _rule(spec.rule) if spec.rule != Rule() else ""
    yield "inputs", "\n".join(_input(i.parameter, i.item, i.data, i.version) for i in spec.inputs)
    yield "outputs", ", ".join(output.data for output in spec.outputs)
    yield "function", f"{spec.function.name} in {spec.function.entry}" if spec.function else ""
    yield "digest", spec.function.digest if spec.function else ""
    yield "kwargs", "\n".join(pairs_of(s.kwargs) for s in spec.argument_sets if s.kwargs)
    yield "store", spec.store
    yield "executor", spec.executor + (f" at {spec.endpoint}" if spec.endpoint else "")
    yield "retries", str(spec.retries or "")
    yield "timeout", f"{spec.timeout:g} s" if spec.timeout is not None else ""
    yield "memory", size_of(spec.memory)
    yield "rerun", "" if spec.rerun else "not by a new revision"
    yield "readonly inputs", "yes" if spec.readonly_inputs else ""


def _rule(rule: Rule) -> str:
    return rule.name + (f" ({pairs_of(rule.options)})" if rule.options else "")


def _input(parameter: str, item: str, data: str, version: int | None) -> str:
    name = parameter + (f"[{item}]" if item else "")
    return f"{name} = {data}" + (f"@{version}" if version else "")


def _run_lines(run: api.RunDetails) -> Iterator[tuple[str, str]]:
    yield "run", run.id
    yield "flow", f"{run.flow}, revision {run.revision}"
    yield "state", run.state.value
    yield "cause", str(run.cause)
    yield "error", run.error.message if run.error else ""
    yield "attempts", str(run.attempt)
    yield "began", f"{when(run.started_at)} UTC" if run.started_at else ""
    yield "ended", f"{when(run.ended_at)} UTC" if run.ended_at else ""
    yield "source", " ".join(run.source)
    yield "used", "\n".join(f"{_input(u.parameter, u.item, u.data, u.number)}" for u in run.used)
    yield "generated", versions_of(run.generated)
    if run.function is not None:
        yield "function", f"{run.function.name} in {run.function.entry}"
        yield "digest", run.function.digest
        yield "bundle", run.function.location
    yield "kwargs", pairs_of(run.kwargs)
    yield "steps", "\n".join(f"{s.name} {took(s.seconds)}" for s in run.steps)
    yield "agent", run.agent or ""
    if run.environment:
        env = run.environment
        told = f"Python {env.python} on {env.platform}, host {env.host}, " if env.python else ""
        yield "environment", f"{told}executor {env.executor}"
        yield "packages", f"{len(env.packages)} (in --format json)" if env.packages else ""
    yield "log", f"aero logs {short(run.id)}" if run.log else ""


@click.command()
@click.argument("data")
@click.option("--limit", type=click.IntRange(1, LARGEST), help="At most so many, newest first.")
@format_option
@click.pass_obj
def versions(settings: Settings, data: str, limit: int | None, form: str) -> None:
    """List the versions of DATA, newest first."""
    with settings.open() as aero:
        emit(
            islice(aero.versions(data), limit),
            form,
            ("version", "available (UTC)", "size", "type", "standing", "checksum", "run"),
            _version_row,
            f"data {data!r} has no version yet",
        )


def _version_row(version: Version) -> tuple[str, ...]:
    return (
        f"@{version.number}",
        when(version.available_at),
        size_of(version.size),
        version.media_type or "",
        version.standing.value,
        (version.checksum or "")[: len("sha256:") + 12],
        short(version.run_id),
    )


@click.command()
@click.argument("ref", metavar="DATA[@N]")
@click.option("--as-of", metavar="TIME", help="The latest version as of then (ISO 8601; UTC unless it says).")
@click.option("-o", "--output", required=True, metavar="FILE", help="File to write; - for standard output.")
@click.pass_obj
def get(settings: Settings, ref: str, as_of: str | None, output: str) -> None:
    """Write a version's bytes into a file, checked against the recorded checksum."""
    moment = None if as_of is None else parse_time(as_of)
    with settings.open() as aero:
        if output == "-":
            _to_stdout(aero, ref, moment)
            return
        target = Path(output)
        if target.is_dir():
            raise InvalidValue(f"{output} is a folder: name the file to write")
        with transfer_bar(ref) as progress:
            version = aero.get(ref, target, moment, progress)
        name = aero.catalog.data(version.data_id).name
    click.echo(f"{output}: {name}@{version.number}, {size_of(version.size)}", err=True)


def _to_stdout(aero: api.Aero, ref: str, as_of: datetime | None) -> None:
    aero.version(ref, as_of)  # before a folder is made where there may be no state yet
    with spare_folder(aero.config.state) as folder:
        target = folder / "content"
        aero.get(ref, target, as_of)
        with target.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@click.command()
@click.argument("ref", metavar="RUN|FLOW")
@click.pass_obj
def logs(settings: Settings, ref: str) -> None:
    """Print what a run's function wrote, and its traceback: of a run by id, or of a flow's last one by name."""
    with settings.open() as aero:
        run = _run_of(aero, ref)
        text = False
        # The record names the log once the attempt has ended; what it writes is there before.
        log = aero.config.state / run.log if run.log else log_of(aero.config.state, run.id)
        if log.is_file():
            text = log.stat().st_size > 0
            _show(log)
        if run.error is not None:
            click.echo(harmless(f"{run.flow} {run.state.value}: {run.error.message}"))
        elif not text:
            click.echo(
                f"run {short(run.id)} of {run.flow} ({run.state.value}) wrote nothing"
                + ("" if run.state.final else " yet")
            )


def _show(log: Path) -> None:
    """Print a log: as it is, or to a terminal such that it can do nothing but set colours."""
    sys.stdout.flush()
    if not sys.stdout.isatty():
        with log.open("rb") as raw:
            shutil.copyfileobj(raw, sys.stdout.buffer)
        return
    colours = not os.environ.get("NO_COLOR")
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            sys.stdout.write(harmless_but_coloured(line, colours))
    sys.stdout.write(PLAIN if colours else "")


def _run_of(aero: api.Aero, ref: str) -> Run:
    try:
        return aero.catalog.run(ref)
    except NotFound:
        pass
    try:
        flow = aero.flow(ref)
    except NotFound:
        raise _nothing("run or flow", ref, (flow.name for flow in aero.flows()), "run") from None
    newest = next(aero.runs(flow.id), None)
    if newest is None:
        raise NotFound(f"flow {flow.name!r} has not run yet: `aero why {flow.name}` says what it waits for")
    return newest


@click.command()
@click.argument("flow")
@format_option
@click.pass_obj
def why(settings: Settings, flow: str, form: str) -> None:
    """Say why FLOW last ran and what it waits for, input by input."""
    with settings.open() as aero:
        emit_each(aero.why(flow), form, _why_lines)


def _why_lines(explanation: Explanation) -> Iterator[tuple[str, str]]:
    flow, last, live = explanation.flow, explanation.last_run, explanation.live_run
    yield "flow", f"{flow.name} ({flow.spec.policy.name})"
    if last is None:
        yield "last run", "none yet"
    else:
        yield "last run", f"{short(last.id)} {last.state.value} at {when(last.ended_at)} UTC, because: {last.cause}"
        yield "error", last.error.message if last.error else ""
    if live is not None:
        at = f" (not before {when(live.not_before)} UTC)" if live.state is RunState.QUEUED and live.attempt else ""
        yield "now", f"{live.state.value}{at}, because: {live.cause}"
        yield "last attempt", live.error.message if live.error else ""
    else:
        yield "now", waits_for(explanation)
        if flow.next_tick is not None and flow.state is FlowState.ACTIVE:
            yield "next", f"{when(flow.next_tick)} UTC ({flow.spec.schedule})"
    for state in explanation.inputs:
        yield "input", _input_line(state)


def _input_line(state: InputState) -> str:
    name = f"{state.data}: "
    if state.pinned is not None:
        return name + f"pinned to @{state.pinned}" + (", which does not exist yet" if state.latest is None else "")
    if state.latest is None:
        return name + "no version yet"
    used = f"last used @{state.consumed}" if state.consumed else "not used yet"
    fresh = ", new" if state.latest > state.consumed else ""
    return name + f"latest @{state.latest}, {used}{fresh}"


@click.command()
@click.argument("ref", metavar="DATA[@N]")
@click.option("--depth", type=click.IntRange(min=1), default=20, show_default=True, help="How far back; at most 100.")
@format_option
@click.pass_obj
def lineage(settings: Settings, ref: str, depth: int, form: str) -> None:
    """Show as a tree what a version was made from, by which runs, down to the sources."""
    with settings.open() as aero:
        node = aero.lineage(ref, depth)
        if form != "table":
            emit_each([node], form, lambda node: ())
            return
        for line in _tree(node):
            click.echo(harmless(line))


def _tree(node: api.LineageNode, lead: str = "", branch: str = "") -> Iterator[str]:
    made = f"  by {node.flow}, run {short(node.run_id)}" if node.flow else ""
    source = f"  from {' '.join(node.source)}" if node.source else ""
    again = "  (see above)" if node.repeated else "  (more: --depth)" if node.cut else ""
    yield f"{lead}{branch}{node.data}@{node.number}{made}{source}{again}"
    below = lead + {"": "", "├── ": "│   ", "└── ": "    "}[branch]
    for place, child in enumerate(node.inputs):
        last = place == len(node.inputs) - 1
        yield from _tree(child, below, "└── " if last else "├── ")


@click.command()
@click.argument("data", required=False)
@format_option
@click.pass_obj
def verify(settings: Settings, data: str | None, form: str) -> int:
    """Compare stored bytes with their checksums, of all data or of one. Exits with 1 if some are damaged or missing."""
    bad = good = 0
    with settings.open() as aero:
        findings = []
        with transfer_bar("verifying") as progress:
            for finding in aero.verify(data, progress):
                good, bad = good + (finding.problem is None), bad + (finding.problem is not None)
                if finding.problem is not None or form != "table":
                    findings.append(finding)
        if findings or form != "table":
            emit(
                findings,
                form,
                ("version", "problem"),
                lambda f: (f"{f.data}@{f.number}", f.problem or "ok"),
                "",
            )
    total = good + bad
    result = f"{bad} damaged or missing" if bad else "all as recorded"
    click.echo(f"{total} version{'s' * (total != 1)} verified: {result}", err=True)
    return 1 if bad else 0
