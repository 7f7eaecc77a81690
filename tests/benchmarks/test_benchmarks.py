"""The benchmarks work; their figures are for people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["runs", "throughput", "history", "starting"])
def test_a_page_of_figures(page: str) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "--tiny", page]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 2
    assert all(line.split() for line in lines)
