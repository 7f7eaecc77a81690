"""Commands that change runs and flows: cancel, retry, pause, resume."""

from __future__ import annotations

import click

from aero_core.cli.output import short
from aero_core.cli.root import Settings
from aero_core.models import RunState


@click.command()
@click.argument("ref", metavar="RUN|FLOW")
@click.pass_obj
def cancel(settings: Settings, ref: str) -> None:
    """Cancel a run by its id, or a flow's live runs by its name."""
    with settings.open() as aero:
        runs = aero.cancel(ref)
    for run in runs:
        asked = "is asked to stop" if run.state is RunState.RUNNING else f"is {run.state.value}"
        click.echo(f"run {short(run.id)} of {run.flow} {asked}")
    if not runs:
        click.echo(f"{ref} has no run to cancel")


@click.command()
@click.argument("ref", metavar="FLOW|RUN")
@click.pass_obj
def retry(settings: Settings, ref: str) -> None:
    """Make a flow due again on its present inputs; `aero run` or `aero up` then runs it."""
    with settings.open() as aero:
        for run in aero.retry(ref):
            begins = ": `aero run` of its file, or `aero up`, begins it" if run.state is RunState.QUEUED else ""
            click.echo(f"run {short(run.id)} of {run.flow} is {run.state.value}{begins}")


@click.command()
@click.argument("flow")
@click.pass_obj
def pause(settings: Settings, flow: str) -> None:
    """Let a flow make no further runs; one that runs now finishes, one that waits is cancelled."""
    with settings.open() as aero:
        click.echo(f"{aero.pause(flow).name} is paused: `aero resume {flow}` lets it run again")


@click.command()
@click.argument("flow")
@click.pass_obj
def resume(settings: Settings, flow: str) -> None:
    """Let a paused flow run again."""
    with settings.open() as aero:
        click.echo(f"{aero.resume(flow).name} is active")
