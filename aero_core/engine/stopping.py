"""Signals while an engine works: they stop it, and do what they do otherwise when it is closed.

An exception that a signal raises in the midst of the engine's work may leave a lock that nobody gives back, or a
transaction that nobody ends; and in a destructor it is lost.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FrameType, TracebackType

from aero_core.engine.engine import Engine

_Handler = Callable[[int, FrameType | None], object]


class Stopping(AbstractContextManager["Stopping"]):
    """Keeps SIGINT and SIGTERM back in the main thread, where somebody handles them; enter it before the engine.

    Args:
        patient: Runs get some seconds to finish at the first signal; else they are handed back at once.
    """

    def __init__(self, patient: bool = False) -> None:
        self._patient = patient
        self._engine: Engine | None = None
        self._handlers: dict[int, _Handler] = {}
        self._taken: list[tuple[int, FrameType | None]] = []

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._taken:
            number, frame = self._taken[0]
            self._handlers[number](number, frame)

    def stops(self, engine: Engine) -> None:
        """Name the engine to stop; at once, if a signal has come already."""
        self._engine = engine
        for _ in self._taken:
            self._stop(engine)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._taken.append((number, frame))
        if self._engine is not None:
            self._stop(self._engine)

    def _stop(self, engine: Engine) -> None:
        engine.stop()
        if not self._patient:
            engine.stop()
