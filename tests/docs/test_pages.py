"""Every page can be followed as it stands: its commands run, and print what it shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import RUN, Reader, blocks, fits, same_form

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUNNABLE = [page for page in PAGES if any(block.language in RUN for block in blocks(page.read_text("utf-8")))]

INSTALL = 'pip install ".[examples]" && aero run docs/examples/outbreaks/flows.py'
TEST = "pip install tox && tox"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    folder, home = tmp_path / "project", tmp_path / "home"
    home.mkdir()
    shutil.copytree(
        ROOT / "docs" / "examples",
        folder / "docs" / "examples",
        ignore=shutil.ignore_patterns(".aero", "__pycache__"),
    )
    reader = Reader(folder, home)
    try:
        for block in blocks(page.read_text(encoding="utf-8")):
            try:
                reader.follow(block)
            except AssertionError as error:
                pytest.fail(f"{page.relative_to(ROOT)}:{block.line}: {error}", pytrace=False)
    finally:
        reader.close()


def test_readme_has_the_two_commands_each_in_a_block_of_its_own() -> None:
    scripts = [block.text.strip() for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert INSTALL in scripts
    assert TEST in scripts


def test_no_page_names_the_machine_it_was_written_on() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for word in ("/root/", "/tmp/", "/work/", str(ROOT)):
            assert word not in text, f"{page.name} has {word}"


def test_files_that_pages_take_in_are_there() -> None:
    taken = [line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if "--8" in line]
    assert len(taken) >= 2
    for line in taken:
        match = re.fullmatch(r'--8<-- "(.+)"', line)
        assert match, line
        assert (ROOT / match[1]).is_file(), line


def test_dots_stand_for_any_lines() -> None:
    assert fits(["one", "..."], ["one", "two", "three"])
    assert fits(["...", "three"], ["one", "two", "three"])
    assert not fits(["one", "three"], ["one", "two", "three"])
    assert not fits(["one"], [])


def test_forms_hide_what_differs_from_run_to_run() -> None:
    first = "lines@1  lines    d796410f  2026-03-01 06:00:06  33 B in 1.2 s from file:///home/ada/a.csv"
    other = "lines@1  lines  00000000  2027-12-31 23:59:59  4.1 kB in 62 ms from file:///mnt/x/y/a.csv"
    assert same_form(first) == same_form(other)
    assert same_form("lines@1") != same_form("lines@2")
    assert same_form("a.csv") != same_form("b.csv")
