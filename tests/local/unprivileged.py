"""Running a piece of a test as a user who may nothing, also when the tests run as root."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

NOBODY = 65534


def as_nobody(code: str, *readable: Path) -> str:
    """What a Python program prints that runs without root's rights.

    Args:
        code: The program.
        *readable: Folders, with those above them, that it must be able to enter.
    """
    drop = ""
    if os.geteuid() == 0:
        for folder in readable:
            for step in (folder, *folder.parents):
                if step.stat().st_uid == 0 and not step.stat().st_mode & 0o001:
                    step.chmod(step.stat().st_mode | 0o011)
        drop = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    # What it needs is imported before: the installed packages may be root's alone.
    ready = "import aero_core.models, aero_core.errors, aero_local.store, aero_local.source\n"
    ready += "import aero_local.paths, aero_local.machine, pwd, codecs, mimetypes\n"
    done = subprocess.run(
        [sys.executable, "-c", ready + drop + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout
