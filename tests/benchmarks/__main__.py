"""Print the figures: `python -m tests.benchmarks`, from the repository's root.

They depend on the machine and on what else it does; targets are those of the reference machine.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks import history, runs, starting, throughput
from tests.benchmarks.figures import TINY, Figure, Sizes

PAGES: dict[str, Callable[[Path, Sizes], Iterator[Figure]]] = {
    "runs": runs.measure,
    "throughput": throughput.measure,
    "history": history.measure,
    "starting": starting.measure,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="Print AERO's figures.")
    parser.add_argument("pages", nargs="*", choices=[[], *PAGES], help="what to measure; everything by default")
    parser.add_argument("--tiny", action="store_true", help="only see that it works")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aero-bench-") as folder:
        for page in options.pages or PAGES:
            for figure in PAGES[page](Path(folder) / page, TINY if options.tiny else Sizes()):
                print(_line(figure), flush=True)


def _line(figure: Figure) -> str:
    line = f"{figure.what:<56} {figure.value:>9.2f} {figure.unit:<6}"
    if figure.wanted is None:
        return line
    return f"{line} target {figure.wanted:g}{'' if figure.value <= figure.wanted else '  MISSED'}"


if __name__ == "__main__":
    main()
