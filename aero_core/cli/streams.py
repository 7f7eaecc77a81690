"""Writing to standard output and error where they may take nothing: a full disk, a reader that is gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def if_written() -> Iterator[None]:
    """Print in the block what nobody waits for: what cannot be written, as on a full disk, is left out.

    A reader that is gone is another matter: it has seen enough, which ends the command.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        return


@contextmanager
def stdout_aside() -> Iterator[None]:
    """Send what others print in the block to standard error: standard output is for the command's answer."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        with if_written():
            sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def say(line: str, err: bool = True) -> None:
    """Print a line as `if_written` does, by default to standard error."""
    with if_written():
        click.echo(line, err=err)


def let_go() -> None:
    """Write what is left in buffers, or let it go nowhere: Python would try once more, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
