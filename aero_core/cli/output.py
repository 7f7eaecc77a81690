"""What commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from aero_core.cli.harmless import harmless, harmless_json
from aero_core.converter import unstructure
from aero_core.models import Generated

T = TypeVar("T")

FORMATS = ("table", "json", "jsonl")
ID_LENGTH = 8
#: Characters up to which a column of a table is kept in one piece; and what the others then have at least.
_WHOLE, _LEAST = len("2026-03-01 06:00:00"), 12
_UNITS = ("B", "kB", "MB", "GB", "TB")

format_option: Callable[[Any], Any] = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="A table for people; json, an array of the models' fields; jsonl, one object a line, streamed.",
)


def emit(items: Iterable[T], form: str, columns: Sequence[str], row: Callable[[T], Sequence[str]], empty: str) -> None:
    """Print models as a table, an array, or lines.

    Args:
        items: The models; taken one by one, so that a long listing needs no memory.
        form: One of `FORMATS`.
        columns: The table's headings.
        row: A model's cells.
        empty: What a person reads when there is nothing.
    """
    if form == "jsonl":
        for item in items:
            click.echo(_json(item))
    elif form == "json":
        _emit_array(items)
    else:
        rows = [row(item) for item in items]
        if rows:
            table(columns, rows)
        else:
            click.echo(empty)


def emit_each(items: Iterable[T], form: str, lines: Callable[[T], Iterable[tuple[str, str]]]) -> None:
    """Print models in full: as labelled lines, an array, or lines of JSON."""
    if form == "table":
        for item in items:
            _emit_lines(lines(item))
    else:
        emit(items, form, (), lambda item: (), "")


def _emit_lines(lines: Iterable[tuple[str, str]]) -> None:
    pairs = [(label, text) for label, text in lines if text]
    width = max((len(label) for label, _ in pairs), default=0)
    for label, text in pairs:
        first, *more = harmless(text).strip("\n").split("\n")
        click.echo(f"{label:<{width}}  {first}")
        for line in more:
            click.echo(f"{'':<{width}}  {line}")


def _emit_array(items: Iterable[object]) -> None:
    separator = "[\n"
    for item in items:
        click.echo(separator + _json(item), nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


def _json(item: object) -> str:
    return harmless_json(json.dumps(unstructure(item), ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, in the terminal's width; in full where the output is no terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else 10_000, highlight=False)
    # Two blanks between columns: a drawn table adds one of its own.
    lines, gap = (box.SIMPLE_HEAD, 1) if terminal else (None, 2)
    drawn = Table(box=lines, padding=(0, gap, 0, 0), pad_edge=False, show_edge=False)
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    # Ids and times are read at a glance, and copied: texts make room for them where there is enough.
    whole = [width <= _WHOLE for width in widths]
    needed = sum(width + 2 if kept else _LEAST for width, kept in zip(widths, whole, strict=True))
    for column, kept in zip(columns, whole, strict=True):
        drawn.add_column(column, overflow="fold", no_wrap=kept and needed <= console.width)
    for cells in rows:
        drawn.add_row(*(Text(harmless(" ".join(cell.split("\n"))), style=_style(cell)) for cell in cells))
    with console.capture() as capture:
        console.print(drawn)
    click.echo("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")), color=terminal or None)


_STYLES = {"failed": "red", "broken": "red", "succeeded": "green", "ok": "green", "running": "cyan", "new": "green"}


def _style(cell: str) -> str:
    return _STYLES.get(cell, "")


def short(identity: str | None) -> str:
    """The first characters of an id, which are enough to name it by."""
    return (identity or "")[:ID_LENGTH]


def when(moment: datetime | None) -> str:
    """A time for people, UTC."""
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def size_of(size: int | None) -> str:
    """Bytes for people, in powers of 1000."""
    if size is None:
        return ""
    amount = float(size)
    for unit in _UNITS:
        if amount < 1000 or unit == _UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return ""


def took(seconds: float) -> str:
    """A duration for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def pairs_of(mapping: Mapping[str, object]) -> str:
    """A mapping as `name=value` words."""
    return " ".join(f"{key}={value!r}" for key, value in mapping.items())


def versions_of(generated: Iterable[Generated]) -> str:
    """What a run made, as `data@number` words."""
    return ", ".join(f"{g.data}@{g.number}" + (" (as before)" if g.confirmed else "") for g in generated)
