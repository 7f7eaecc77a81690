"""The file that a download fills, with its checksum on the way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from aero_http.messages import disk_failed

_HEAD = 1 << 16
#: Smaller blocks are gathered: each costs a switch of threads.
_GATHER = 1 << 18
#: From this size on a thread pays.
_LARGE = 1 << 20
#: Blocks between network and disk: bounds the memory.
_DEPTH = 8


class Sink:
    """Takes blocks; a thread of its own hashes and writes them once they are many.

    Hashing costs about as much as receiving: one after the other would halve the speed.

    Attributes:
        size: Bytes taken since the beginning or the last restart.
        head: The first of them.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._pump: _Pump | None = None
        self._file: FileIO | None = None
        self._forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        if self._file is not None:
            self._file.close()

    def write(self, block: bytes) -> None:
        """Take a block.

        Raises:
            FetchError: The file cannot be written.
        """
        if len(self.head) < _HEAD:
            self.head += block[: _HEAD - len(self.head)]
        self.size += len(block)
        self._blocks.append(block)
        self._gathered += len(block)
        if self._gathered >= _GATHER:
            self._pass_on()

    def restart(self) -> None:
        """Begin, forgetting everything taken so far.

        Raises:
            FetchError: The file cannot be written.
        """
        self._stop()
        self._forget()
        self._guarded(self._empty)

    def finish(self) -> str:
        """Write what is left and answer the checksum.

        Raises:
            FetchError: The file cannot be written.
        """
        if self._blocks:
            self._pass_on()
        self._guarded(self._stop_well)
        return f"sha256:{self._digest.hexdigest()}"

    def _forget(self) -> None:
        self.size = 0
        self.head = b""
        self._digest = hashlib.sha256()
        self._blocks: list[bytes] = []
        self._gathered = 0

    def _empty(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._target.open("wb", buffering=0)

    def _pass_on(self) -> None:
        block = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)
        self._blocks, self._gathered = [], 0
        if self._pump is None and self.size > _LARGE:
            self._pump = _Pump(self._consume)
            self._pump.start()
        pump = self._pump
        self._guarded(lambda: self._consume(block) if pump is None else pump.put(block))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            raise disk_failed(str(self._target), error) from error

    def _consume(self, block: bytes) -> None:
        self._digest.update(block)
        rest = memoryview(block)
        while rest and self._file is not None:
            rest = rest[self._file.write(rest) :]

    def _stop_well(self) -> None:
        if (error := self._stop()) is not None:
            raise error

    def _stop(self) -> Exception | None:
        pump, self._pump = self._pump, None
        return pump.stop() if pump is not None else None


class _Pump(threading.Thread):
    """Hands blocks to another thread, a few at most on the way."""

    def __init__(self, consume: Callable[[bytes], None]) -> None:
        super().__init__(name="aero-http-sink", daemon=True)
        self._consume = consume
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._room = threading.Semaphore(_DEPTH)
        self._error: Exception | None = None

    def put(self, block: bytes) -> None:
        self._room.acquire()
        if self._error is not None:
            raise self._error
        self._queue.put(block)

    def stop(self) -> Exception | None:
        self._queue.put(None)
        self.join()
        return self._error

    def run(self) -> None:
        while (block := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self._consume(block)
                except Exception as error:  # noqa: BLE001 - raised where blocks come from
                    self._error = error
            self._room.release()
