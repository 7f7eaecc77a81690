"""What the engine keeps of an attempt while it lasts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from attrs import frozen

from aero_core.models import Claim, Launched, Report, Step, steady_clock


class Heard:
    """The steps that an attempt reported: all that is known of them when its worker has no time to answer."""

    def __init__(self) -> None:
        self._now = steady_clock()
        self._begun: list[tuple[str, datetime]] = []
        self._ended: datetime | None = None

    def note(self, report: Report) -> None:
        """Take note of the step, if it has just begun."""
        if not self._begun or self._begun[-1][0] != report.step:
            self._begun.append((report.step, self._now()))

    def steps(self) -> tuple[Step, ...]:
        """The steps of an attempt that is over; the last one ended when this was first asked."""
        self._ended = self._ended or self._now()
        ends = [*(began for _, began in self._begun[1:]), self._ended]
        return tuple(Step(name, began, end) for (name, began), end in zip(self._begun, ends, strict=False))


@frozen
class Live:
    """A launched attempt."""

    claim: Claim
    launched: Launched
    log: Path
    scratch: Path
    heard: Heard


@frozen
class Finished:
    """An attempt that has ended; `again` when the catalog could not take its end the first time."""

    run_id: str
    attempt_id: str
    again: bool = False
