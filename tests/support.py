"""What tests share. Import it as `from tests.support import need`."""

from __future__ import annotations

import os
import shutil

import pytest


def need(command: str, package: str | None = None) -> str:
    """The path of a program that a test runs.

    Without the program the test is skipped on a person's machine and fails in CI, which
    installs it: see the list of packages in `.ci/run`.

    Args:
        command: Name of the program.
        package: The Debian package that brings it, if it has another name.
    """
    path = shutil.which(command)
    if path is None:
        missing = f"`{command}` is not installed; Debian package: {package or command}"
        if in_ci():
            pytest.fail(f"{missing}; add it to the list in .ci/run", pytrace=False)
        pytest.skip(missing)
    return path


def in_ci() -> bool:
    """Whether CI runs the tests (`CI=true`)."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
