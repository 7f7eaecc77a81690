"""The root command: global flags, lazy loading of commands, and how errors reach a person."""

from __future__ import annotations

import difflib
import errno
import importlib
import importlib.metadata
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

import click
from attrs import frozen

from aero_core.cli import signals
from aero_core.cli.harmless import harmless
from aero_core.errors import AeroError, NotFound, StateError

if TYPE_CHECKING:
    from aero_core import api

#: Exit codes beyond those of `aero_core.errors`; docs/reference/exit-codes.md lists all.
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
COMMANDS_GROUP = "aero.commands"

#: Command: module and attribute, and its line of help, so that `aero --help` imports none of them.
_COMMANDS = {
    "init": ("running:init", "Write an aero.toml and a first flow file."),
    "apply": ("running:apply", "Register a flow file's flows; --dry-run shows the plan."),
    "run": ("running:run", "Register a flow file's flows, take what is due once, and follow triggers to rest."),
    "up": ("running:up", "As run, and stay: timers and triggers, until Ctrl-C."),
    "list": ("listing:list_", "List data, flows, runs, provenance or functions."),
    "show": ("looking:show", "Show one data, flow or run in full."),
    "versions": ("looking:versions", "List the versions of a data."),
    "get": ("looking:get", "Write a version's bytes into a file."),
    "logs": ("looking:logs", "Print what a run's function wrote, and its traceback."),
    "why": ("looking:why", "Say why a flow last ran and what it waits for."),
    "lineage": ("looking:lineage", "Show what a version was made from."),
    "verify": ("looking:verify", "Compare stored bytes with their checksums."),
    "cancel": ("changing:cancel", "Cancel a run, or a flow's live runs."),
    "retry": ("changing:retry", "Make a flow due again on its present inputs."),
    "pause": ("changing:pause", "Let a flow make no further runs."),
    "resume": ("changing:resume", "Let a paused flow run again."),
    "plugins": ("checking:plugins", "Say which plugins there are and what they serve."),
    "doctor": ("checking:doctor", "Check this installation and project."),
}


@frozen
class Settings:
    """The global flags."""

    state: Path | None = None
    profile: str | None = None
    verbose: int = 0

    def open(self, *files: str) -> api.Aero:
        """The project that the flags, or the flow files, or the working folder lead to."""
        # Help and completion need no engine: what runs flows is imported by who opens a project.
        from aero_core import api
        from aero_core import config as configuration
        from aero_core.flowfile import existing_file

        if files:
            # Before a state folder is made beside a file that is not there.
            existing_file(Path(files[0]), files[0])
        if len(files) > 1:
            config = configuration.load(Path(files[0]), self.state, self.profile)
            configuration.check_together(config, map(Path, files[1:]))
        return api.open(files[0] if files else None, self.profile, self.state)


class _ReaderGone(Exception):
    """Nobody reads our output any more. Click would answer a BrokenPipeError with exit code 1."""


class LazyGroup(click.Group):
    """Knows its commands' names and help without importing them."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and see that all that it has printed is read."""
        try:
            answer = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _ReaderGone from None
        return answer

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, but for those of site modules."""
        return [*_COMMANDS, *(point.name for point in _points())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name, imported now."""
        if cmd_name in _COMMANDS:
            module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
            found = getattr(importlib.import_module(f"aero_core.cli.{module}"), attribute)
            return found if isinstance(found, click.Command) else None
        for point in _points():
            if point.name == cmd_name:
                loaded = point.load()
                return loaded if isinstance(loaded, click.Command) else None
        return _from_site_modules(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words name; for a wrong one, those with names near it."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 3)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands with their lines of help, from the table above."""
        rows = [(name, line) for name, (_, line) in _COMMANDS.items()]
        rows += [(point.name, f"(from {point.dist.name if point.dist else point.value})") for point in _points()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _from_site_modules(ctx: click.Context, name: str) -> click.Command | None:
    """Site adapters are asked only for commands that nobody else has, and only within a project."""
    from aero_core import config as configuration
    from aero_core.api.registering import make_plugins

    flags = ctx.params
    try:
        config = configuration.load(None, flags.get("state"), flags.get("profile"))
        if not config.plugins.modules:
            return None
        plugins = make_plugins(config)
        ctx.call_on_close(plugins.close)
        extra = click.Group()
        plugins.extend_commands(extra)
        return extra.commands.get(name)
    except AeroError:
        return None


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--state", type=click.Path(path_type=Path), help="State folder, where it is not the one found.")
@click.option("--profile", help="Profile of aero.toml.")
@click.option("-v", "--verbose", count=True, help="Log what happens; twice: in detail.")
@click.version_option(package_name="aero-core", prog_name="aero", message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context, state: Path | None, profile: str | None, verbose: int) -> None:
    """Versioned data from sources that change, analyses that rerun themselves, provenance for every byte."""
    ctx.obj = Settings(state, profile, verbose)
    levels = {0: logging.ERROR, 1: logging.INFO}
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr, level=levels.get(verbose, logging.DEBUG), format="%(asctime)sZ %(name)s %(message)s"
    )
    try:
        Path.cwd()
    except FileNotFoundError:
        raise NotFound("the working folder is not there any more: go to another one") from None
    if ctx.invoked_subcommand != "up":
        # That one stops cleanly, and says so itself.
        signals.interrupt()


def run(arguments: Sequence[str]) -> int:
    """Run a command line and answer its exit code."""
    try:
        answer = root.main(list(arguments), prog_name="aero", standalone_mode=False)
        return answer if isinstance(answer, int) else 0
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        _say(_explain(error, arguments))
        return error.exit_code
    except AeroError as error:
        _say(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return EXIT_TERMINATED if signals.taken() == SIGTERM else EXIT_INTERRUPTED
    except _ReaderGone:
        # `aero list run | head`: nothing is left to say to it.
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _say(f"the disk of AERO's state, or of its output, is full ({error.strerror}): make room")
            return StateError.exit_code
        if logging.getLogger().isEnabledFor(logging.INFO):
            raise
        _say(f"internal error, {type(error).__name__}: {error} (this is a bug: `aero -v ...` shows where)")
        return EXIT_INTERNAL


def _explain(error: click.ClickException, arguments: Sequence[str]) -> str:
    """A wrong command line as one line: click's own words take three."""
    message = error.format_message()
    if isinstance(error, click.UsageError):
        # An option without its value is found before click knows of which command it is.
        words = ["aero", *[word for word in arguments if word in _COMMANDS][:1]]
        path = error.ctx.command_path if error.ctx else " ".join(words)
        return f"{message.rstrip('.')}: `{path} --help` shows what can be given"
    return message


def _say(message: str) -> None:
    # The exit code says it too, to whom this cannot be told.
    with suppress(OSError):
        click.echo(f"Error: {harmless(' '.join(message.split()))}", err=True)


def _points() -> list[importlib.metadata.EntryPoint]:
    return sorted(importlib.metadata.entry_points(group=COMMANDS_GROUP), key=lambda point: point.name)
