"""Text that would steer a terminal, and secrets in URLs: in logs, errors, descriptions and tables."""

from __future__ import annotations

import json

import pytest

from aero_core.testing.servers import WebServer
from tests.e2e.program import AERO, Project, terminal

FLOWS = r"""
    import sys

    from aero_core import analysis

    TITLE = "\x1b]0;owned\x07\x9b2J\u202e"


    @analysis(outputs=[], description="one" + TITLE + "\ntwo")
    def loud():
        print("\x1b[31mred\x1b[0m and" + TITLE + "\ttab")


    @analysis(outputs=[], description="other")
    def failing():
        raise ValueError("bad" + TITLE)
"""
WRITTEN_OUT = r"\x1b]0;owned\x07\x9b2J\u202e"
RAW = ("\x1b]", "\x07", "\x9b", "\u202e")


@pytest.fixture
def hostile(project: Project) -> Project:
    project.write("flows.py", FLOWS)
    done = project.aero("run", "flows.py", code=1)
    assert not [character for character in RAW if character in done.out + done.err]
    assert f"FAIL  failing: ValueError: bad{WRITTEN_OUT}" in done.err
    assert f"failing failed: ValueError: bad{WRITTEN_OUT}" in done.out
    return project


def test_hostile_text_does_not_reach_a_terminal(hostile: Project) -> None:
    for words in (["logs", "loud"], ["logs", "failing"], ["list", "run"], ["show", "loud"], ["why", "failing"]):
        shown = terminal(hostile, *words)
        assert not [character for character in RAW if character in shown], words
    assert "\x1b[31mred\x1b[0m and" + WRITTEN_OUT + "\ttab\r\n" in terminal(hostile, "logs", "loud")
    plain = terminal(hostile, "logs", "loud", NO_COLOR="1")
    assert "\x1b" not in plain
    assert plain.startswith("red and")
    assert f"description  one{WRITTEN_OUT}\n" in hostile.aero("show", "loud").out
    assert f"bad{WRITTEN_OUT}" in hostile.aero("list", "run").out


def test_programs_get_what_was_written(hostile: Project) -> None:
    done = hostile.call(f"{AERO} logs loud")
    assert done.out == "\x1b[31mred\x1b[0m and\x1b]0;owned\x07\x9b2J\u202e\ttab\n"
    text = hostile.aero("list", "flow", "--format", "json").out
    assert not [character for character in RAW if character in text]
    assert json.loads(text)[1]["spec"]["description"] == "one\x1b]0;owned\x07\x9b2J\u202e\ntwo"


SECRET_FLOWS = """
    from aero_core import AeroOutput, analysis, ingest

    cases = ingest("cases", url="{url}?day=1&{secrets}&sort_by=age")


    @analysis(inputs=[cases])
    def same(cases):
        return AeroOutput("same", cases)


    @analysis(outputs=[])
    def failing():
        raise ValueError("no answer from 'https://ada:SECRET@data.invalid/a.csv?token=SECRET'")
"""
SECRETS = (
    "token=SECRET",
    "key=SECRET",
    "apiKey=SECRET",
    "api_key=SECRET",
    "appid=SECRET",
    "auth=SECRET",
    "access_token=SECRET",
    "client-secret=SECRET",
    "password=SECRET",
    "sig=SECRET%3D",
    "Signature=SECRET",
    "X-Amz-Credential=SECRET/20260301/x",
    "X-Amz-Security-Token=SECRET",
    "x-goog-signature=SECRET",
)


@pytest.fixture
def secret(project: Project, web: WebServer) -> Project:
    url = web.publish("cases.csv", b"day,cases\n")
    project.write("flows.py", SECRET_FLOWS.format(url=url, secrets="&".join(SECRETS)))
    done = project.aero("run", "flows.py", code=1)
    assert "SECRET" not in done.out + done.err
    assert web.requests[0].path.count("SECRET") == len(SECRETS)
    return project


def test_secrets_in_urls_are_not_printed(secret: Project) -> None:
    for words in (
        ["list", "data"],
        ["list", "flow"],
        ["list", "run"],
        ["list", "prov"],
        ["show", "cases"],
        ["show", "cases", "--kind", "flow"],
        ["why", "cases"],
        ["why", "failing"],
        ["lineage", "same"],
    ):
        for form in ("table", "json", "jsonl"):
            text = secret.aero(*words, "--format", form).out
            assert "SECRET" not in text, words
            if form == "json":
                json.loads(text)
    assert "ValueError: no answer from 'https://***@data.invalid/a.csv?token=***'" in secret.aero("list", "run").out


def test_the_rest_of_a_url_is_printed(secret: Project) -> None:
    hidden = "&".join(pair.partition("=")[0] + "=***" for pair in SECRETS)
    assert f"/cases.csv?day=1&{hidden}&sort_by=age" in secret.aero("lineage", "same").out
    (source,) = json.loads(secret.aero("show", "cases", "--format", "json").out)[0]["source"]["urls"]
    assert source.endswith(f"/cases.csv?day=1&{hidden}&sort_by=age")


def test_what_only_looks_like_a_secret_is_printed(project: Project) -> None:
    url = "https://data.invalid/token/key?monkey=1&keys=2&page_token_count=3&design=4&mail=a@b.c"
    project.write("flows.py", f'from aero_core import ingest\n\ningest("cases", url="{url}")\n')
    project.aero("apply", "flows.py")
    assert url in project.aero("show", "cases").out
