"""What an engine tells its caller."""

from __future__ import annotations

from enum import StrEnum

from attrs import frozen

from aero_core.models import Report, Run, Version


class EventKind(StrEnum):
    """What happened."""

    BEGAN = "began"
    REPORT = "report"
    ENDED = "ended"
    RETRY = "retry"
    WARNING = "warning"


@frozen
class Event:
    """Word from the engine.

    Attributes:
        run: The run concerned, as it is now.
        versions: What an ended run made.
        report: Progress within a step.
        message: A warning.
    """

    kind: EventKind
    run: Run | None = None
    versions: tuple[Version, ...] = ()
    report: Report | None = None
    message: str = ""
