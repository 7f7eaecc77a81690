"""The command line. Modules of commands are imported when one of their commands is used."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the console script `aero`."""
    if sys.argv[1:] == ["--version"]:
        # Answered before click is imported: shells and scripts ask this often.
        from aero_core import __version__

        sys.stdout.write(f"aero {__version__}\n")
        return
    from aero_core.cli import signals

    _open_streams()
    # Before the rest is loaded, which takes a moment.
    signals.take()
    from aero_core.cli.root import run
    from aero_core.cli.streams import let_go

    code = run(sys.argv[1:])
    let_go()
    sys.exit(code)


def _open_streams() -> None:
    """Where the caller has closed one (`aero ... >&-`), let it lead nowhere: no other file must get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)
            mode = "w" if number else "r"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
