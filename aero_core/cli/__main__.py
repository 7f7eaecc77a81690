"""`python -m aero_core.cli` is `aero`."""

from aero_core.cli import main

main()
