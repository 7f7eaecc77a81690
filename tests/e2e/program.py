"""Running the real `aero` in a folder of its own, and reading what it says."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

from attrs import frozen

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24
AERO = Path(sys.executable).with_name("aero")
#: Seconds that one call may take; a machine with more to do than this one needs most of it.
PATIENCE = 60
_COLOURS = ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")


@frozen
class Done:
    """What a call answered."""

    code: int
    out: str
    err: str


class Project:
    """A folder with flow files in it, and a home without any settings.

    Attributes:
        folder: Where `aero` is called.
    """

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.folder = folder
        self.home = home or folder.parent / f"{folder.name}.home"
        folder.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)

    def write(self, name: str, text: str) -> Path:
        """Write a text file, its indentation taken off."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """What `aero` sees of the environment: nothing that the person who tests has set for it."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AERO_") and key not in _COLOURS}
        kept |= {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / ".config")}
        kept["PATH"] = os.pathsep.join([str(AERO.parent), os.environ["PATH"]])
        return kept | {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **more}

    def call(
        self,
        command: str | list[str],
        env: Mapping[str, str] | None = None,
        before: Callable[[], None] | None = None,
    ) -> Done:
        """Run a program, or with a text a shell's command, and wait for it."""
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {command}"] if isinstance(command, str) else command,
            cwd=self.folder,
            env=self.environment() | dict(env or {}),
            preexec_fn=before,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def aero(self, *arguments: str | Path, code: int = 0, env: Mapping[str, str] | None = None) -> Done:
        """Run `aero`, which must exit with `code`."""
        done = self.call([str(AERO), *map(str, arguments)], env)
        assert done.code == code, f"exit code {done.code}, not {code}\n{done.out}\n{done.err}"
        assert "Traceback" not in done.err, done.err
        return done

    def out(self, *arguments: str | Path, code: int = 0) -> str:
        """What `aero` prints for people, its columns a blank apart."""
        lines = self.aero(*arguments, code=code).out.splitlines()
        return "\n".join(" ".join(line.split()) for line in lines)

    def json(self, *arguments: str | Path, code: int = 0) -> list[Any]:
        """What `aero` prints as JSON."""
        done = self.aero(*arguments, "--format", "json", code=code)
        found = json.loads(done.out)
        assert isinstance(found, list)
        return found

    def refuses(self, *arguments: str | Path, code: int = 2, env: Mapping[str, str] | None = None) -> str:
        """Run `aero`, which must do nothing but say in one line what is wrong."""
        return refused(self.aero(*arguments, code=code, env=env), code)

    def fails(self, *arguments: str | Path) -> str:
        """Run `aero`, in which exactly one run must fail; its line."""
        done = self.aero(*arguments, code=1)
        failed = [line for line in done.err.splitlines() if line.startswith("FAIL  ")]
        assert len(failed) == 1, done.err
        return one_line(failed[0] + "\n", "FAIL  ")

    def tree(self) -> dict[str, bytes]:
        """All files in the folder, and what is in them."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b""
            for path in sorted(self.folder.rglob("*"))
        }


def refused(done: Done, code: int = 2) -> str:
    """The one line in which a call says why it did nothing."""
    assert (done.code, done.out) == (code, ""), done
    return one_line(done.err, "Error: ")


def at_once(work: Callable[[str], Done], names: Iterable[str]) -> dict[str, Done]:
    """Do independent work for each name, as much at a time as there are processors."""
    listed = list(names)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(listed, pool.map(work, listed), strict=True))


def terminal(project: Project, *arguments: str, **env: str) -> str:
    """What `aero` writes to a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [str(AERO), *arguments],
        cwd=project.folder,
        env=project.environment(COLUMNS="120", **env),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    # Linux answers an error at the end, macOS nothing.
    with suppress(OSError):
        while block := os.read(ours, 4096):
            shown += block
    os.close(ours)
    assert done.wait(PATIENCE) == 0
    return shown.decode()


def one_line(text: str, start: str) -> str:
    """A message that is one line of a length that can be read; without its start."""
    assert text.startswith(start), text
    assert text.count("\n") == 1, text
    assert text.endswith("\n"), text
    assert len(text) < 700, text
    assert "Traceback" not in text, text
    return text.removeprefix(start).strip()


def without_override() -> None:
    """Let permissions count for root too; its files stay readable, which they are for nobody else."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def without_search() -> None:
    """As `without_override`, for folders that may not be entered."""
    without_override()
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH, 0, 0, 0)
