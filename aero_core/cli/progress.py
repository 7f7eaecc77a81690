"""What a person sees while runs go on: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

import click

from aero_core.cli.harmless import harmless
from aero_core.cli.output import short, size_of, when
from aero_core.cli.streams import if_written
from aero_core.engine import Event, EventKind
from aero_core.models import Progress as ProgressCall
from aero_core.models import Report, Run, RunState

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

MARKS = {RunState.SUCCEEDED: "done", RunState.UNCHANGED: "same", RunState.FAILED: "FAIL", RunState.CANCELLED: "stop"}


class RunProgress(AbstractContextManager["RunProgress"]):
    """Prints a line for each ended run; on a terminal shows a bar for each running one.

    Args:
        command: How to call aero, for a line that tells where a failed run's log is; None: somebody else tells.
        quiet: Print no lines (the output is for a program).
    """

    def __init__(self, command: str | None = None, quiet: bool = False) -> None:
        self._command, self._quiet = command, quiet
        self._lock = threading.Lock()
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._names: dict[str, str] = {}

    def __enter__(self) -> RunProgress:
        if sys.stderr.isatty() and not self._quiet:
            self._bars = _make_bars()
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Take word from the engine, from any of its threads."""
        with self._lock:
            if event.kind is EventKind.WARNING:
                self._line(f"warn  {event.message}")
            elif event.run is None:
                return
            elif event.kind is EventKind.BEGAN:
                self._names[event.run.id] = event.run.flow
                if self._bars is not None:
                    self._tasks[event.run.id] = self._bars.add_task(
                        event.run.flow, total=None, step="starts", amount=""
                    )
            elif event.kind is EventKind.REPORT and event.report is not None:
                self._move(event.run, event.report)
            else:
                self._end(event.run, event)

    def _move(self, run: Run, report: Report) -> None:
        task = self._tasks.get(run.id)
        if self._bars is not None and task is not None:
            self._bars.update(
                task,
                completed=report.done,
                total=report.total,
                step=report.step,
                amount=_amount(report.done, report.total),
            )

    def _end(self, run: Run, event: Event) -> None:
        task = self._tasks.pop(run.id, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        if event.kind is EventKind.RETRY:
            why = run.error.message if run.error else ""
            self._line(f"wait  {run.flow}: {why} (attempt {run.attempt}, again at {when(run.not_before)} UTC)")
            return
        made = ", ".join(f"{v.data}@{v.number}" for v in run.generated if not v.confirmed)
        text = f"{MARKS[run.state]}  {run.flow}"
        if made:
            text += f" -> {made} ({size_of(sum(v.size or 0 for v in event.versions))})"
        elif run.state is RunState.UNCHANGED:
            text += ": nothing new" + (", missing bytes stored again" if run.metrics.get("restored") else "")
        elif run.error is not None:
            text += f": {run.error.message}"
            if self._command is not None:
                text += f" (`{self._command} logs {short(run.id)}`)"
        self._line(text)

    def _line(self, text: str) -> None:
        if self._quiet:
            return
        text = harmless(text)
        # In the engine's loop: a disk that is full of such lines must not end what runs.
        with if_written():
            if self._bars is not None:
                self._bars.console.print(text, highlight=False, markup=False, soft_wrap=True)
            else:
                click.echo(text, err=True)


def _amount(done: int, total: int | None) -> str:
    """Bytes done; nothing for a step that moves none, as a function."""
    if not done:
        return ""
    return size_of(done) if total is None else f"{size_of(done)} of {size_of(total)}"


def _make_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.fields[step]}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


@contextmanager
def transfer_bar(label: str) -> Iterator[ProgressCall]:
    """A bar for one transfer; silent where the output is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with _make_bars() as bars:
        task = bars.add_task(label, total=None, step="", amount="")
        yield lambda done, total: bars.update(task, completed=done, total=total, amount=_amount(done, total))
