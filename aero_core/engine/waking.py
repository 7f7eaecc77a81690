"""Waking: a thread that waits for changes of the catalog, so that the engine need not look for them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from aero_core.catalog import Catalog

logger = logging.getLogger("aero.engine")

#: Longest wait in one call, and so how long the end of the thread may take, in seconds.
_WAIT = 0.5
#: Seconds until the next try after an error.
_RECOVER = 1.0


class Waker:
    """Calls `wake` for every change of the catalog after `mark`. Its thread starts with the first `start`."""

    def __init__(self, catalog: Catalog, wake: Callable[[], None]) -> None:
        self._catalog, self._wake = catalog, wake
        self._position: int | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def mark(self) -> None:
        """Note where the catalog stands: whatever changes from now on wakes."""
        if self._thread is None:
            self._position = self._catalog.position()

    def start(self) -> None:
        """Begin to wait, if it has not begun."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="aero-waker", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                if self._position is None:
                    self._position = self._catalog.position()
                seen = self._catalog.wait(self._position, _WAIT)
            # Whatever is wrong with the catalog, the engine meets it too, and says so.
            except Exception as error:  # noqa: BLE001
                if self._closing.is_set():
                    return
                logger.warning("waiting for changes failed: %s", error)
                self._closing.wait(_RECOVER)
                continue
            if seen != self._position:
                self._position = seen
                self._wake()
