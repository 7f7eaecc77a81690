"""How long a fetch goes on: how slowly, how often and after which waits."""

from __future__ import annotations

import time
from collections.abc import Callable

from urllib3.exceptions import MaxRetryError
from urllib3.util.retry import Retry

from aero_http.lateness import SPAN
from aero_http.messages import Interrupted
from aero_http.settings import Settings

_TICK = 0.5


class Pace:
    """Notices a body that trickles: the read timeout bounds silences, but not how many there are."""

    def __init__(self, settings: Settings) -> None:
        self._rate, self._span = settings.min_rate, SPAN * settings.read_timeout
        self._since, self._bytes = time.monotonic(), 0

    def trickles(self, count: int) -> bool:
        """Whether, with `count` more bytes, too few have come for too long."""
        self._bytes += count
        passed = time.monotonic() - self._since
        if passed < self._span:
            return False
        slow = self._bytes < self._rate * passed
        self._since, self._bytes = time.monotonic(), 0
        return slow


class Patience:
    """What is left of one fetch's retries."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._left = self._full()

    def renew(self) -> None:
        """Begin to count anew: the download has got on."""
        self._left = self._full()

    def wait(self, broken: Interrupted, tick: Callable[[], None]) -> None:
        """Wait until it is time to try again.

        Args:
            broken: Why.
            tick: Called about twice a second; what it raises passes through.

        Raises:
            FetchError: There is no retry left, or the server asks for too long a wait.
        """
        wait = broken.error.retry_after or 0.0
        if wait > self._settings.retry_after_max:
            raise broken.error
        try:
            self._left = self._left.increment(error=broken)
        except MaxRetryError:
            # Tried in vain is not the reason: the failure is.
            raise broken.error from None
        until = time.monotonic() + (wait or self._left.get_backoff_time())
        while (rest := until - time.monotonic()) > 0:
            tick()
            time.sleep(min(rest, _TICK))

    def _full(self) -> Retry:
        return Retry(
            total=self._settings.retries,
            backoff_factor=self._settings.backoff,
            backoff_max=self._settings.backoff_max,
        )
