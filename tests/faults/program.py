"""`aero` as a process that is watched, stopped and killed; and what must hold of what it leaves."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from aero_core import api
from aero_core.models import RunState

AERO = Path(sys.executable).with_name("aero")
#: Seconds after which something that must happen has not happened.
PATIENCE = 60.0


class Program:
    """One `aero` process; its lines as they come. Killed at the end of the block, if it still runs."""

    def __init__(self, folder: Path, *arguments: str | Path, **environment: str) -> None:
        self.lines: list[str] = []
        self._read = 0
        self._news = threading.Condition()
        self._popen = subprocess.Popen(
            [str(AERO), *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._take, daemon=True)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._popen.kill()
        self._popen.wait()
        self._reader.join()

    def _take(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as lines:
            for line in lines:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_for(self, pattern: str, patience: float = PATIENCE) -> str:
        """The next line that has the pattern in it; what comes before it is passed over."""
        deadline = time.monotonic() + patience
        with self._news:
            while True:
                while self._read < len(self.lines):
                    line = self.lines[self._read]
                    self._read += 1
                    if re.search(pattern, line):
                        return line
                left = deadline - time.monotonic()
                assert left > 0, f"no line with {pattern!r} in:\n" + "\n".join(self.lines)
                self._news.wait(min(left, 1.0))

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._popen.send_signal(signal.SIGKILL)
        self._popen.wait()

    def end(self, patience: float = PATIENCE) -> int:
        """Wait for its end; the exit code."""
        code = self._popen.wait(patience)
        self._reader.join(patience)
        return code


def until(holds: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Look until something holds."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.005)


def run(folder: Path, *arguments: str | Path, code: int = 0, **environment: str) -> list[str]:
    """Run `aero` to its end; its lines."""
    with Program(folder, *arguments, **environment) as program:
        ended = program.end()
        assert ended == code, "\n".join(program.lines)
        return program.lines


def check_whole(flow_file: Path, at_rest: bool = True) -> None:
    """Assert that the record is whole: numbers, bytes, runs, and that no engine left anything lying about.

    Args:
        flow_file: Its project is looked at.
        at_rest: Nothing is to be done any more; else what came due as an engine stopped may wait for the next one.
    """
    with api.open(flow_file) as aero:
        assert aero.catalog.check() == []
        assert [finding for finding in aero.verify() if finding.problem] == []
        runs = {run.id: run for run in aero.runs()}
        for data in aero.data_list():
            versions = list(aero.versions(data.id, newest_first=False))
            assert [version.number for version in versions] == list(range(1, len(versions) + 1))
            makers = [version.run_id for version in versions]
            assert len(set(makers)) == len(makers)
            assert all(runs[maker].state is RunState.SUCCEEDED for maker in makers if maker)
            fingerprints = [version.fingerprint for version in versions]
            assert all(one != other for one, other in itertools.pairwise(fingerprints))
        assert [run for run in runs.values() if run.state is RunState.RUNNING] == []
        if at_rest:
            assert [run for run in runs.values() if run.state is RunState.QUEUED] == []
            for flow in aero.flows():
                assert not any(explained.decision.due for explained in aero.why(flow.id))
        state = aero.config.state
    assert [path.name for path in (state / "scratch").iterdir() if path.name != "code"] == []
    assert list((state / "engines").iterdir()) == []
