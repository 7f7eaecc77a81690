"""What the engine keeps of an attempt while it lasts."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from aero_core.models import Claim, Launched


@frozen
class Live:
    """A launched attempt."""

    claim: Claim
    launched: Launched
    log: Path
    scratch: Path


@frozen
class Finished:
    """An attempt that has ended; `again` when the catalog could not take its end the first time."""

    run_id: str
    attempt_id: str
    again: bool = False
