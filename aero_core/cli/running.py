"""Commands that register and run: init, apply, run, up."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import click

from aero_core import api
from aero_core import config as configuration
from aero_core.cli import signals
from aero_core.cli.harmless import harmless
from aero_core.cli.output import emit, format_option, short, when
from aero_core.cli.progress import RunProgress
from aero_core.cli.root import Settings
from aero_core.cli.streams import let_go, say, stdout_aside
from aero_core.cli.waiting import failure, waits_for
from aero_core.engine import Stopping
from aero_core.errors import AeroError, FlowFileError, NotFound
from aero_core.flowfile import FlowFile, load_flow_file, origin_of
from aero_core.models import Change, ChangeKind, Flow, FlowState, Run, RunState

FIRST_CONFIG = """\
# AERO's settings for this folder and those below it: docs/reference/configuration.
{project}
[limits]
runs = 2
"""

FIRST_FLOWS = '''\
"""A first flow file: watch a file, and count its lines whenever it changes."""

from pathlib import Path

from aero_core import AeroOutput, analysis, ingest

# Any http(s): or file: URL. AERO looks once a day and keeps a new version when the content has changed.
notes = ingest("notes", url=Path(__file__).with_name("notes.txt"), every="1d")


@analysis(inputs=[notes])
def lines(notes):
    """Runs again for every new version of `notes`; receives it as a local path."""
    count = len(Path(notes).read_text().splitlines())
    Path("lines.txt").write_text(f"{count}\\n")
    return AeroOutput("lines", "lines.txt")
'''

_files = click.argument("files", nargs=-1, required=True, metavar="FILE...")
_prune = click.option("--prune", is_flag=True, help="Disable flows that the file no longer declares.")


@click.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path, file_okay=False))
def init(folder: Path) -> None:
    """Write an aero.toml and a first flow file that runs as written into FOLDER; nothing is overwritten."""
    full = folder.resolve()
    origin_of(full, Path(full.anchor))  # refuses a path that nothing below could be recorded under
    project = f"project = {configuration.toml_text(full.name or 'project')}\n"
    if (folder / configuration.STATE_FOLDER / configuration.CATALOG_FILE).exists():
        # Flows that are registered there have a project without a name, and would become another's.
        project = ""
    wanted = {
        "aero.toml": FIRST_CONFIG.format(project=project),
        "flows.py": FIRST_FLOWS,
        "notes.txt": "The first line.\nThe second line.\n",
    }
    there = [name for name in wanted if (folder / name).exists()]
    if there:
        raise FlowFileError(f"{folder / there[0]} is there already: name another folder, or edit what is there")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in wanted.items():
            (folder / name).write_text(text, encoding="utf-8")
            click.echo(f"wrote {folder / name}")
    except OSError as error:
        raise FlowFileError(f"{folder} cannot be written: {error.strerror}") from None
    click.echo(f"Run it: aero run {shlex.quote(str(folder / 'flows.py'))}")


@click.command()
@_files
@click.option("--dry-run", is_flag=True, help="Show the plan and touch nothing.")
@_prune
@click.option("--adopt", metavar="OLD", help="Move the flows of another file's path (origin) to this one.")
@format_option
@click.pass_obj
def apply(settings: Settings, files: tuple[str, ...], dry_run: bool, prune: bool, adopt: str | None, form: str) -> None:
    """Register the flows of one or more files: new, changed, unchanged, gone."""
    with settings.open(*files) as aero:
        changes = (aero.plan if dry_run else aero.apply)(*_loaded(files), prune=prune, adopt=adopt)
        _warn_of_plugins(aero, settings)
    emit(changes, form, ("change", "flow", "what"), lambda change: _told(change, dry_run), "nothing to do")


@click.command()
@_files
@click.option("--only", multiple=True, metavar="FLOW", help="Run only this flow; may be given several times.")
@click.option("--now", is_flag=True, help="Run the flows due or not.")
@_prune
@format_option
@click.pass_obj
def run(settings: Settings, files: tuple[str, ...], only: tuple[str, ...], now: bool, prune: bool, form: str) -> int:
    """Register a file's flows, take what is due once, follow triggers to rest, and print what was made.

    Exits with 1 if a run failed, or waits to be tried again.
    """
    quiet = form != "table"
    with settings.open(*files) as aero:
        loaded = _loaded(files)
        only = _names(aero, loaded, only)
        changes = aero.apply(*loaded, prune=prune)
        _warn_of_plugins(aero, settings)
        if not quiet:
            _print_changes(changes)
        flows = _chosen(aero, changes, only)
        with RunProgress(quiet=quiet) as progress:
            ended = aero.run([flow.id for flow in flows], now, progress)
        if quiet:
            emit(ended, form, (), lambda item: (), "")
        else:
            _print_made(aero, settings, flows, ended)
        failed = bool(_failed(ended)) or any(_waiting(aero, flow) for flow in flows)
    return 1 if failed else 0


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@_prune
@click.pass_obj
def up(settings: Settings, files: tuple[str, ...], prune: bool) -> None:
    """Run all flows on time and on change until Ctrl-C; register those of the files first, if any are named.

    The first Ctrl-C lets runs finish for 10 seconds, the second hands them back at once.
    """
    try:
        # It has no other way to be stopped cleanly.
        signals.take(ignored=True)
        signals.interrupt()
        _stay(settings, files, prune)
    except KeyboardInterrupt:
        say("stopped")
    # It has done its work, whether or not its words could be kept.
    let_go()


def _loaded(files: Iterable[str]) -> list[FlowFile]:
    with stdout_aside():
        return [load_flow_file(Path(file)) for file in files]


def _stay(settings: Settings, files: Sequence[str], prune: bool) -> None:
    with settings.open(*files) as aero:
        if files:
            _print_changes(aero.apply(*_loaded(files), prune=prune))
        _warn_of_plugins(aero, settings)
        progress = RunProgress(_command(aero, settings))
        with Stopping(patient=True) as stopping, progress, aero.engine(None, progress) as engine:
            stopping.stops(engine)
            # Not sooner: who reads this may stop it at once.
            say("AERO is up; Ctrl-C stops it.")
            engine.run_forever()


def _chosen(aero: api.Aero, changes: Sequence[Change], only: Sequence[str]) -> list[Flow]:
    """The flows to run: the files', or the named ones, each with the ingestion of its raw bytes."""
    mine = [aero.catalog.flow(change.flow_id) for change in changes if change.kind is not ChangeKind.GONE]
    if not only:
        return mine
    by_name = {flow.name: flow for flow in mine}
    names = [part for name in only for part in (f"{name}.raw", name) if part in by_name]
    return [by_name[name] for name in dict.fromkeys(names)]


def _names(aero: api.Aero, files: Sequence[FlowFile], only: Sequence[str]) -> tuple[str, ...]:
    """The names of flows that are given by name or id, before the files are registered."""
    names = [draft.spec.name for file in files for declared in file.declarations for draft in declared.drafts]
    chosen = []
    for ref in only:
        name = ref
        if ref not in names and aero.has_catalog:
            with suppress(NotFound):
                name = aero.flow(ref).name
        if name not in names:
            raise NotFound(f"the file declares no flow {ref!r}: it has {', '.join(names)}")
        chosen.append(name)
    return tuple(chosen)


def _warn_of_plugins(aero: api.Aero, settings: Settings) -> None:
    """Not sooner than flows are registered: an error that a plugin's absence makes names the plugin itself."""
    for info in aero.plugins.infos():
        if info.status == "broken":
            advice = f"`{_command(aero, settings)} doctor` checks all"
            say(harmless(f"warn  plugin {info.name} is left out: {info.reason} ({advice})"))


def _told(change: Change, dry_run: bool = False) -> tuple[str, str, str]:
    what = ", ".join(change.fields)
    if change.kind is ChangeKind.GONE:
        what = "stays; --prune disables it"
        if change.disabled:
            what = "would be disabled" if dry_run else "disabled"
    if change.kind is ChangeKind.UPDATED:
        what += " (no rerun)"
    return change.kind.value, change.flow, what


def _print_changes(changes: Sequence[Change]) -> None:
    for change in changes:
        if change.kind is not ChangeKind.UNCHANGED:
            kind, flow, what = _told(change)
            say(f"{kind:<9} {flow}" + (f": {what}" if what else ""), err=False)


def _print_made(aero: api.Aero, settings: Settings, flows: Sequence[Flow], ended: Sequence[Run]) -> None:
    made = [(item, run) for run in ended for item in run.generated if not item.confirmed]
    ran = {run.flow_id for run in ended}
    if made:
        click.echo()
        rows = [(f"{item.data}@{item.number}", run.flow, short(run.id), when(run.ended_at)) for item, run in made]
        emit(rows, "table", ("made", "by flow", "run", "at (UTC)"), lambda row: row, "")
        click.echo(f"\nLook at it: {_command(aero, settings)} show {made[-1][0].data}")
    for flow in flows:
        if flow.id not in ran:
            click.echo(harmless(_not_due(aero, flow, _command(aero, settings))))
    for run in _failed(ended):
        click.echo(harmless(f"\n{run.flow} {run.state.value}: {run.error.message if run.error else ''}"))
        click.echo(f"Look at it: {_command(aero, settings)} logs {short(run.id)}")


def _not_due(aero: api.Aero, flow: Flow, command: str) -> str:
    explanation = aero.catalog.explain(flow.id)[0]
    name, live, tick = flow.name, explanation.live_run, explanation.flow.next_tick
    if explanation.flow.state is not FlowState.ACTIVE:
        return f"{name} is {waits_for(explanation, command)}"
    if live is not None and live.state is RunState.RUNNING:
        return f"{name} runs in another engine"
    if live is not None and live.error is not None:
        return f"{name} is tried again at {when(live.not_before)} UTC: {live.error.message}"
    if live is not None:
        return f"{name} waits to be run: {live.cause}"
    text = f"{name} was not due: "
    if failed := failure(explanation):
        return f"{text}{failed}; it {waits_for(explanation, command)}"
    reason = waits_for(explanation, command)
    if not reason:
        return f"{text}next at {when(tick)} UTC (--now runs it anyway)"
    return text + reason + (f", looked at next at {when(tick)} UTC" if tick else "")


def _waiting(aero: api.Aero, flow: Flow) -> bool:
    """Whether a run of the flow has failed and is to be tried again later."""
    live = [explanation.live_run for explanation in aero.catalog.explain(flow.id)]
    return any(run is not None and run.state is RunState.QUEUED and run.error is not None for run in live)


def _failed(ended: Sequence[Run]) -> list[Run]:
    """The last run of each flow, where it failed."""
    last = {(run.flow_id, run.argument_set): run for run in ended}
    return [run for run in last.values() if run.state in (RunState.FAILED, RunState.CANCELLED)]


def _command(aero: api.Aero, settings: Settings) -> str:
    """How to call aero from here such that it finds this project."""
    words = ["aero"]
    if settings.profile is not None:
        words += ["--profile", settings.profile]
    if not _found_from_here(aero, settings):
        folder = aero.config.state
        words += ["--state", str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)]
    return shlex.join(words)


def _found_from_here(aero: api.Aero, settings: Settings) -> bool:
    """Whether a command without a flow file finds the same state and the same settings."""
    try:
        found = configuration.load(None, None, settings.profile)
    except AeroError:
        return False
    return (found.state, found.file) == (aero.config.state, aero.config.file)
