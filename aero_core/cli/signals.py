"""SIGINT and SIGTERM from the program's first moment on, when nothing but this module is loaded."""

from __future__ import annotations

import signal
from types import FrameType

#: The signals that came.
_taken: list[int] = []
_raising = False


def take(ignored: bool = False) -> None:
    """Note signals from now on, instead of ending at once.

    Args:
        ignored: Those too that the caller has had ignored, as shells do with SIGINT for what runs in the background.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if ignored or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _take)


def interrupt() -> None:
    """Raise KeyboardInterrupt if a signal has come, and from now on when one comes."""
    global _raising
    _raising = True
    if _taken:
        raise KeyboardInterrupt


def taken() -> int:
    """The signal that came first; SIGINT for none."""
    return _taken[0] if _taken else signal.SIGINT


def _take(number: int, _frame: FrameType | None) -> None:
    _taken.append(number)
    if _raising:
        raise KeyboardInterrupt
