"""The code blocks of a page, and how a reader would use them.

Blocks of `bash`, `console`, `python` and `toml` are run, in order, in the page's folder:

- `bash`: the whole block is a script.
- `console`: lines that begin with `$ ` are commands, the lines below each what it prints. A line `...` stands for any
  lines. Ids, times, sizes, checksums and folders are compared by form.
- `python`: a script.
- `toml`: must be settings that AERO takes.

`title="NAME"` on a block of any language writes it to that file instead. A comment before a block says more:

- `<!-- test: file NAME -->` writes it, as a title does, but shows no title.
- `<!-- test: same as NAME -->` compares it with the file, which must be there.
- `<!-- test: exit N -->`: its last command fails with this exit code.
- `<!-- test: any order -->`: its commands may print their lines in any order.
- `<!-- test: until TEXT -->`: its last command runs until it has printed this, and is then stopped by Ctrl-C.
- `<!-- test: background until TEXT -->`: the same, but it goes on until the end of the page.
- `<!-- test: skip because REASON -->`: it is not run.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from aero_core import config

RUN = ("bash", "console", "python", "toml")
TIMEOUT = 90.0

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*)(?P<more>[^`\n]*)$")
_MARK = re.compile(r"<!-- test: (?P<words>.*?) -->")
_TITLE = re.compile(r'title="([^"]+)"')
_WORDS = ("file ", "same as ", "exit ", "any order", "until ", "background until ", "skip because ")

_FORMS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"sha256:[0-9a-f]+"), "CHECKSUM"),
    (re.compile(r"\b(?=[a-f]*[0-9])[0-9a-f]{8}\b|\b[a-f]{8}\b"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "CLOCK"),
    (re.compile(r"\b\d+(\.\d+)? (B|kB|MB|GB|TB)(?= free|\)|$| )"), "SIZE"),
    (re.compile(r"\b\d+(\.\d+)? (ms|s|min)\b"), "SPAN"),
    (re.compile(r"Python \d+\.\d+\.\d+(, \S+)?"), "PYTHON"),
    (re.compile(r"(file:|sqlite:/)?(/[\w.~@+-]+)+/(?=[\w.-]+)"), "FOLDER/"),
    (re.compile(r"\s+"), " "),
)


@frozen
class Block:
    """One code block of a page."""

    line: int
    language: str
    text: str
    title: str = ""
    marks: tuple[str, ...] = ()

    def mark(self, word: str) -> str | None:
        """What follows some words in the comments before the block; None where they are not there."""
        return next((mark.removeprefix(word).strip() for mark in self.marks if mark.startswith(word)), None)

    @property
    def file(self) -> str | None:
        """The file that the block is to be written to."""
        return self.mark("file ") or self.title or None


def blocks(text: str) -> Iterator[Block]:
    """A page's code blocks, in order, those within lists and tabs too."""
    lines = text.splitlines()
    marks: list[str] = []
    at = 0
    while at < len(lines):
        marks += [found["words"] for found in _MARK.finditer(lines[at])]
        fence = _FENCE.match(lines[at])
        if fence is None:
            if lines[at].strip() and not _MARK.search(lines[at]):
                marks = []
            at += 1
            continue
        end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == fence["ticks"])
        indent = len(fence["indent"])
        body = "".join(line[indent:].rstrip() + "\n" for line in lines[at + 1 : end])
        title = _TITLE.search(fence["more"])
        yield Block(at + 1, fence["language"], body, title[1] if title else "", tuple(marks))
        marks, at = [], end + 1


def same_form(printed: str) -> list[str]:
    """Lines, with what differs from run to run replaced by a word for it."""
    lines = []
    for line in printed.splitlines():
        for pattern, word in _FORMS:
            line = pattern.sub(word, line)
        if line.strip():
            lines.append(line.strip())
    return lines


def fits(expected: list[str], printed: list[str]) -> bool:
    """Whether the printed lines are the expected ones, `...` being any lines."""
    if not expected:
        return not printed
    if expected[0] == "...":
        return any(fits(expected[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    return bool(printed) and expected[0] == printed[0] and fits(expected[1:], printed[1:])


def fits_in_any_order(expected: list[str], printed: list[str]) -> bool:
    """The same for lines whose order is a matter of chance."""
    wanted, found = Counter(expected), Counter(printed)
    any_more = wanted.pop("...", 0)
    return wanted <= found if any_more else wanted == found


class Reader:
    """Somebody who follows a page, in a shell of their own.

    Args:
        folder: Where the page begins.
        home: An empty home folder, outside of it.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self._state = home / "shell"
        self._state.write_text(f"cd {shlex.quote(str(folder))}\n")
        self._environment = {**os.environ, "HOME": str(home), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
        self._environment["SHELL_STATE"] = str(self._state)
        self._environment.pop("XDG_CONFIG_HOME", None)
        self._environment["PATH"] = os.pathsep.join(
            [str(_shims(home)), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
        )
        self._background: list[subprocess.Popen[str]] = []

    def close(self) -> None:
        """Press Ctrl-C in every terminal that is still busy."""
        for process in self._background:
            _stop(process)

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        for mark in block.marks:
            assert mark.startswith(_WORDS), f"unknown words: test: {mark}"
        if block.mark("skip because ") is not None:
            assert len(block.mark("skip because ") or "") > 10, "say why"
        elif (name := block.mark("same as ")) is not None:
            assert (self.cwd / name).read_text() == block.text
        elif block.file is not None:
            (self.cwd / block.file).parent.mkdir(parents=True, exist_ok=True)
            (self.cwd / block.file).write_text(block.text)
        elif block.language == "bash":
            self._run(f"set -eu\n{block.text}", block, None)
        elif block.language == "console":
            for place, (command, expected) in enumerate(commands := list(_commands(block.text))):
                self._run(command, block, expected, last=place == len(commands) - 1)
        elif block.language == "python":
            script = self._state.with_name("block.py")
            script.write_text(block.text)
            self._run(f"python {shlex.quote(str(script))}", block, None)
        elif block.language == "toml":
            self._check_settings(block.text)

    @property
    def cwd(self) -> Path:
        """The folder that the shell is in."""
        words = shlex.split(self._state.read_text().splitlines()[-1])
        return Path(words[-1])

    def _run(self, command: str, block: Block, expected: str | None, last: bool = True) -> None:
        until = (block.mark("until ") or block.mark("background until ")) if last else None
        process = self._start(command)
        if until is not None:
            printed = _read_until(process, until)
            if block.mark("background until ") is not None:
                self._background.append(process)
                return
            printed += _stop(process)
            # What a terminal shows for Ctrl-C, and what may come after the text that was waited for.
            expected = None if expected is None else re.sub(r"^\^C", "...\n", expected, flags=re.MULTILINE)
        else:
            try:
                printed, _ = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                raise AssertionError(f"$ {command}\ndoes not end; it printed\n{_stop(process)}") from None
        wanted = int(block.mark("exit ") or 0) if last else 0
        assert process.returncode == wanted, f"$ {command}\nends with {process.returncode}\n{printed}"
        if expected is not None:
            should, did = same_form(expected), same_form(printed)
            fit = fits_in_any_order if block.mark("any order") is not None else fits
            told = "\n".join(["the page shows", *should, "", "the command prints", *did])
            assert fit(should, did), f"$ {command}\n{told}"

    def _start(self, command: str) -> subprocess.Popen[str]:
        save = 'export -p; echo "cd $(printf %q "$PWD")"'
        script = f'. "$SHELL_STATE"\ntrap \'{{ {save}; }} > "$SHELL_STATE"\' EXIT\n{command}'
        return subprocess.Popen(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
            cwd=self.folder,
            text=True,
            start_new_session=True,
        )

    def _check_settings(self, text: str) -> None:
        place = self._state.with_name("settings")
        place.mkdir(exist_ok=True)
        (place / config.CONFIG_FILE).write_text(text)
        config.load(start=place)


def _commands(text: str) -> Iterator[tuple[str, str | None]]:
    """A console block's commands, each with what it shows; None where it shows nothing below the last one."""
    command, shown = "", ""
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, shown or None
            command, shown = line[2:], ""
        elif line.startswith("> ") and not shown:
            command += "\n" + line[2:]
        else:
            shown += line + "\n"
    if command:
        yield command, shown or None


def _read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    printed = ""
    # Ends the process, and with it its output, where the text never comes.
    watch = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
    watch.start()
    try:
        for line in process.stdout:
            printed += line
            if text in line:
                return printed
    finally:
        watch.cancel()
    raise AssertionError(f"it never printed {text!r}, but\n{printed}")


def _stop(process: subprocess.Popen[str]) -> str:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    try:
        rest, _ = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
    return rest or ""


def _shims(home: Path) -> Path:
    """Commands that would change this environment: AERO is installed in it, as a wheel, and tox runs us."""
    folder = home / "shims"
    folder.mkdir()
    for name in ("pip", "tox"):
        shim = folder / name
        shim.write_text('#!/bin/sh\necho "$(basename "$0") $*" >> "$HOME/installed"\n')
        shim.chmod(0o755)
    return folder
