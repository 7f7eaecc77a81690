"""Every test runs on the installed package and in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# For `tests.support`. Last, so that the packages beside it stay hidden behind the installed ones.
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))


# A shell starts what runs in the background with Ctrl-C ignored, which all its children inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Where the wheel is to be tested (tox sets the variable), refuse anything else."""
    if os.environ.get("AERO_TEST_INSTALLED") != "1":
        return
    for source in [ROOT / "aero_core", *sorted((ROOT / "plugins").glob("aero_*"))]:
        spec = importlib.util.find_spec(source.name)
        if spec is None or spec.origin is None or not Path(spec.origin).is_relative_to(sys.prefix):
            where = spec.origin if spec else "missing"
            raise pytest.UsageError(f"{source.name} is to be tested as installed, but is {where}")
        stale = _modules(Path(spec.origin).parent) - _modules(source)
        if stale:
            raise pytest.UsageError(
                f"{source.name}: the wheel has {', '.join(sorted(stale))}, the source has not; "
                "remove the folder build/ and run again"
            )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many tests go on at once with `--numprocesses=auto`: most of them wait more than they compute."""
    return 2 * (os.cpu_count() or 1)


def _modules(package: Path) -> set[str]:
    return {path.relative_to(package).as_posix() for path in package.rglob("*.py")}


@pytest.fixture(scope="session", autouse=True)
def _session_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave the source tree: `python -m ...` started from it would import its packages."""
    os.chdir(tmp_path_factory.mktemp("session"))


@pytest.fixture(autouse=True)
def _own_folder(_session_folder: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths and `.aero` folders of a test land in its `tmp_path`."""
    monkeypatch.chdir(tmp_path)
