"""Stored bytes that are missing or damaged: what is healed, and what is said of the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aero_core import api
from aero_core.testing.servers import WebServer
from tests.e2e.program import Project

CASES = b"4\n9\n"
FLOWS = """\
    from pathlib import Path

    from aero_core import AeroOutput, analysis, ingest

    cases = ingest("cases", url={url!r}, every="1d", rule={rule!r})


    @analysis(inputs=[cases])
    def total(cases):
        Path("total.txt").write_text(str(sum(map(int, Path(cases).read_text().split()))))
        return AeroOutput("total", "total.txt")
"""


HANDS = """\
    import os
    from pathlib import Path

    from aero_core import AeroOutput, analysis, ingest


    def writes(cases):
        os.chmod(cases, 0o600)
        with open(cases, "r+") as file:
            file.write("5")
        return AeroOutput("writes", cases)


    def writes_and_raises(cases):
        writes(cases)
        raise ValueError("five")


    def replaces(cases):
        Path("other").write_text("5\\n9\\n")
        os.replace("other", os.readlink(cases))
        return AeroOutput("replaces", cases)


    def removes(cases):
        os.remove(os.readlink(cases))


    def touches(cases):
        os.utime(cases)
        return AeroOutput("touches", cases)


    def stores_again(cases):
        Path("same").write_bytes(Path(cases).read_bytes())
        os.replace("same", os.readlink(cases))
        return AeroOutput("stores_again", cases)


    def swaps_the_link(cases):
        Path("other").write_text("5\\n9\\n")
        os.replace("other", cases)
        return AeroOutput("swaps_the_link", cases)


    HANDS = (writes, writes_and_raises, replaces, removes, touches, stores_again, swaps_the_link)
    for function in HANDS:
        source = ingest(f"of_{function.__name__}", url=Path(__file__).with_name("cases.txt"))
        analysis(function, inputs={"cases": source}, readonly_inputs=True, retries=1)
"""


@pytest.fixture
def summing(project: Project) -> Project:
    """A project that has run once on a file."""
    project.write("cases.txt", "4\n9\n")
    flows(project)
    project.aero("run", "flows.py")
    return project


def flows(project: Project, url: str = "", rule: str = "bytes") -> None:
    project.write("flows.py", FLOWS.format(url=url or (project.folder / "cases.txt").as_uri(), rule=rule))


def stored(project: Project, content: bytes) -> Path:
    """The file in the store that has this content."""
    files = [path for path in (project.folder / ".aero" / "store").rglob("*") if path.is_file()]
    (found,) = [path for path in files if path.read_bytes() == content]
    return found


def test_bytes_that_the_source_still_has_come_back(summing: Project) -> None:
    place = stored(summing, CASES)
    place.unlink()
    done = summing.aero("run", "flows.py", "--only", "cases", "--now")
    assert done.err == "same  cases: nothing new, missing bytes stored again\n"
    assert place.read_bytes() == CASES
    assert summing.aero("verify").err == "2 versions verified: all as recorded\n"
    assert "the bytes of cases@1 were missing: they are stored again" in summing.out("logs", "cases")
    (run, *_) = summing.json("list", "run")
    assert (run["state"], run["metrics"]["restored"]) == ("unchanged", 1)
    done = summing.aero("run", "flows.py", "--only", "cases", "--now")
    assert done.err == "same  cases: nothing new\n"


def test_shortened_bytes_come_back(summing: Project) -> None:
    place = stored(summing, CASES)
    place.chmod(0o600)
    place.write_bytes(b"4")
    summing.aero("run", "flows.py", "--only", "cases", "--now")
    assert place.read_bytes() == CASES


def test_a_server_is_asked_unconditionally_where_bytes_are_missing(project: Project, web: WebServer) -> None:
    flows(project, web.publish("cases.txt", CASES, etag='"1"'))
    project.aero("run", "flows.py", "--only", "cases")
    place = stored(project, CASES)
    assert "nothing new" in project.aero("run", "flows.py", "--only", "cases", "--now").err
    place.unlink()
    project.aero("run", "flows.py", "--only", "cases", "--now")
    assert place.read_bytes() == CASES
    conditional = ["if-none-match" in {name.lower() for name in request.headers} for request in web.requests]
    assert conditional == [False, True, False]


def test_a_result_that_is_made_again_comes_back(summing: Project) -> None:
    place = stored(summing, b"13")
    place.unlink()
    done = summing.aero("run", "flows.py", "--only", "total", "--now")
    assert done.err == "same  total: nothing new, missing bytes stored again\n"
    assert place.read_bytes() == b"13"


def test_other_bytes_of_equal_fingerprint_heal_nothing(project: Project) -> None:
    project.write("cases.txt", "4\n9\n")
    flows(project, rule="text")
    project.aero("run", "flows.py", "--only", "cases")
    place = stored(project, CASES)
    place.unlink()
    (project.folder / "cases.txt").write_bytes(b"4\r\n9\r\n")
    done = project.aero("run", "flows.py", "--only", "cases", "--now")
    assert done.err == "same  cases: nothing new\n"
    assert not place.exists()


@pytest.mark.parametrize("same", [True, False])
def test_another_rule_can_do_without_the_missing_bytes(summing: Project, same: bool) -> None:
    stored(summing, CASES).unlink()
    if not same:
        summing.write("cases.txt", "4\n9\n1\n")
    flows(summing, rule="text")
    done = summing.aero("run", "flows.py", "--only", "cases", "--now")
    assert done.err == (
        "same  cases: nothing new, missing bytes stored again\n" if same else "done  cases -> cases@2 (6 B)\n"
    )


def test_who_needs_missing_bytes_says_what_to_do(summing: Project) -> None:
    place = stored(summing, CASES)
    place.unlink()
    what = f"the bytes of cases@1 are missing from store 'local' ({place.as_uri()}): "
    do = (
        "run the flow that makes it (`aero run FILE --only cases --now`) while its source still has that content, "
        "or restore them from a backup"
    )
    assert summing.refuses("get", "cases", "-o", "copy", code=5) == f"{what}{do}; `aero verify` lists all"
    (found,) = summing.json("verify", "cases", code=1)
    assert found["problem"] == what + do
    done = summing.aero("run", "flows.py", "--only", "total", "--now", code=1)
    assert f"FAIL  total: {what}{do}; `aero verify` lists all\n" in done.err


def test_who_needs_damaged_bytes_says_what_to_do(summing: Project) -> None:
    place = stored(summing, CASES)
    place.chmod(0o600)
    place.write_bytes(b"4\n8\n")
    said = summing.refuses("get", "cases", "-o", "copy", code=5)
    assert said.startswith(f"cases@1 is damaged: {place.as_uri()} has sha256:")
    assert "or remove it there and run the flow that makes it (`aero run FILE --only cases --now`)" in said
    place.unlink()
    summing.aero("run", "flows.py", "--only", "cases", "--now")
    assert summing.aero("get", "cases", "-o", "-").out == "4\n9\n"


def test_a_function_that_writes_through_its_link_fails(project: Project) -> None:
    project.write("cases.txt", CASES.decode())
    project.write("hands.py", HANDS)
    done = project.aero("run", "hands.py", code=1)
    failed = dict(line.removeprefix("FAIL  ").split(": ", 1) for line in done.err.splitlines() if line[:4] == "FAIL")
    assert set(failed) == {"writes", "writes_and_raises", "replaces", "removes"}
    for name, said in failed.items():
        assert said.startswith(
            f"of_{name}@1 was written into, replaced or removed while flow {name!r} had a link to it "
            "(parameter 'cases'): write to a copy, or leave readonly_inputs off; the version is damaged, restore /"
        )
    assert "wait" not in done.err
    for name in ("touches", "stores_again", "swaps_the_link"):
        assert f"done  {name} -> {name}@1 (4 B)" in done.err
    assert done.err.count("done  ") == 7 + 3
    bad = [found["data"] for found in project.json("verify", code=1) if found["problem"]]
    assert set(bad) == {"of_writes", "of_writes_and_raises", "of_replaces", "of_removes"}


@pytest.mark.parametrize("what", ["lost", "damaged"])
def test_a_run_without_its_code_says_what_to_do(summing: Project, what: str) -> None:
    state = summing.folder / ".aero"
    shutil.rmtree(state / "scratch" / "code")
    (archive,) = (state / "code").iterdir()
    if what == "lost":
        archive.unlink()
    else:
        archive.chmod(0o600)
        archive.write_bytes(b"x" * archive.stat().st_size)
    with api.open(summing.folder / "flows.py") as aero:
        aero.retry("total")
        (run,) = aero.run()
        assert run.error is not None
        assert run.error.message.startswith(f"the code of flow 'total' is {what}")
        assert run.error.message.endswith(": register its file again (`aero apply FILE`), then `aero retry total`")
        aero.apply(summing.folder / "flows.py")
        aero.retry("total")
        assert [run.error for run in aero.run()] == [None]
