"""The command line. Modules of commands are imported when one of their commands is used."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the console script `aero`."""
    if sys.argv[1:] == ["--version"]:
        # Answered before click is imported: shells and scripts ask this often.
        from aero_core import __version__

        sys.stdout.write(f"aero {__version__}\n")
        return
    from aero_core.cli import signals

    # Before the rest is loaded, which takes a moment.
    signals.take()
    from aero_core.cli.root import run

    sys.exit(run(sys.argv[1:]))
