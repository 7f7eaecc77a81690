"""What a benchmark answers, and how figures are taken."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from attrs import frozen


@frozen
class Sizes:
    """How much is measured: by default for figures, `tiny` to see that it works."""

    runs: int = 60
    megabytes: int = 256
    versions: int = 20_000
    starts: int = 7


TINY = Sizes(runs=3, megabytes=1, versions=50, starts=1)


@frozen
class Figure:
    """One measured figure, and what is wanted of it (a largest value)."""

    what: str
    value: float
    unit: str
    wanted: float | None = None


def milliseconds(action: Callable[[], object], times: int) -> float:
    """The median time of an action."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000
