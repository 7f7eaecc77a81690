"""The server of the reference example, over real HTTP on the loopback interface."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "outbreaks"
NAMES = ["flu1918", "flu2009", "measles1861", "sars2003"]

Get = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outbreaks_replay", EXAMPLE / "replay.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def replay(module: ModuleType) -> Iterator[Any]:
    with module.Replay(start=15) as replay:
        yield replay


@pytest.fixture
def get(replay: Any) -> Iterator[Get]:
    with requests.Session() as session:
        session.trust_env = False

        def get(name: str, method: str = "GET", **headers: str) -> requests.Response:
            names = {key.replace("_", "-"): value for key, value in headers.items()}
            url = f"{replay.url}/{name}.csv"
            return session.request(method, url, headers=names, timeout=10)

        yield get


def file_of(name: str) -> list[str]:
    return (EXAMPLE / "data" / f"{name}.csv").read_text().splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_serves_the_first_days(get: Get, name: str) -> None:
    answer = get(name)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert answer.text.splitlines() == file_of(name)[:16]
    age = datetime.now(UTC) - parsedate_to_datetime(answer.headers["Last-Modified"])
    assert timedelta(0) <= age < timedelta(minutes=1)


def test_a_tick_publishes_a_day_of_each(replay: Any, get: Get) -> None:
    before = {name: get(name) for name in NAMES}

    assert replay.advance() == NAMES

    assert replay.days == dict.fromkeys(NAMES, 16)
    for name in NAMES:
        after = get(name)
        assert after.text.splitlines() == file_of(name)[:17]
        assert after.headers["ETag"] != before[name].headers["ETag"]


def test_the_whole_series_is_the_file(module: ModuleType) -> None:
    for name in NAMES:
        lines = file_of(name)
        whole = module.csv_text(lines, len(lines) - 1)
        assert whole == (EXAMPLE / "data" / f"{name}.csv").read_bytes()


def test_an_ended_series_goes_on_without_cases(module: ModuleType) -> None:
    school = module.csv_text(file_of("flu2009"), 36).decode().splitlines()
    hongkong = module.csv_text(file_of("sars2003"), 109).decode().splitlines()

    assert school[:33] == file_of("flu2009")
    assert school[33:35] == ['33,"2009-05-29",0', '34,"2009-05-30",0']
    assert school[36] == '36,"2009-06-01",0'
    assert hongkong[108:] == ["108,108,0", "109,109,0"]


def test_serves_an_ended_series(module: ModuleType) -> None:
    with module.Replay(start=32) as replay:
        replay.advance()
        answer = requests.get(f"{replay.url}/flu2009.csv", timeout=10)

    assert answer.text.splitlines() == [*file_of("flu2009"), '33,"2009-05-29",0']


@pytest.mark.parametrize("form", ["{}", "W/{}", '"another", {}', "*"])
def test_not_modified_by_etag(get: Get, form: str) -> None:
    etag = get("flu2009").headers["ETag"]

    answer = get("flu2009", If_None_Match=form.format(etag))

    assert answer.status_code == 304
    assert answer.content == b""
    assert answer.headers["ETag"] == etag
    assert "Last-Modified" in answer.headers


def test_an_etag_is_of_one_content(replay: Any, get: Get) -> None:
    etag = get("flu2009").headers["ETag"]
    replay.advance()

    answer = get("flu2009", If_None_Match=etag)

    assert answer.status_code == 200
    assert len(answer.text.splitlines()) == 17


def test_not_modified_by_time(get: Get) -> None:
    modified = get("flu2009").headers["Last-Modified"]
    before = format_datetime(parsedate_to_datetime(modified) - timedelta(seconds=1), usegmt=True)

    assert get("flu2009", If_Modified_Since=modified).status_code == 304
    assert get("flu2009", If_Modified_Since=before).status_code == 200
    assert get("flu2009", If_Modified_Since="yesterday").status_code == 200


def test_the_etag_outranks_the_time(get: Get) -> None:
    modified = get("flu2009").headers["Last-Modified"]

    answer = get("flu2009", If_None_Match='"another"', If_Modified_Since=modified)

    assert answer.status_code == 200


def test_a_second_with_two_contents_proves_nothing(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    noon = datetime(2026, 8, 1, 12, tzinfo=UTC)
    monkeypatch.setattr(module, "_now", lambda: noon)
    with module.Replay() as replay:
        url = f"{replay.url}/flu1918.csv"
        headers = {"If-Modified-Since": format_datetime(noon, usegmt=True)}
        assert requests.get(url, headers=headers, timeout=10).status_code == 304
        replay.advance()
        assert requests.get(url, headers=headers, timeout=10).status_code == 200


def test_head_is_get_without_the_body(get: Get) -> None:
    whole, head = get("sars2003"), get("sars2003", method="HEAD")

    assert head.status_code == 200
    assert head.content == b""
    for name in ("ETag", "Last-Modified", "Content-Length", "Content-Type"):
        assert head.headers[name] == whole.headers[name]
    etag = whole.headers["ETag"]
    assert get("sars2003", method="HEAD", If_None_Match=etag).status_code == 304


def test_a_held_series_does_not_change(replay: Any, get: Get) -> None:
    replay.held.add("sars2003")
    before = get("sars2003")

    assert replay.advance() == ["flu1918", "flu2009", "measles1861"]

    after = get("sars2003")
    assert after.content == before.content
    assert after.headers["ETag"] == before.headers["ETag"]
    assert after.headers["Last-Modified"] == before.headers["Last-Modified"]
    assert replay.days["sars2003"] == 15
    assert replay.days["flu1918"] == 16

    replay.held.clear()
    assert "sars2003" in replay.advance()


@pytest.mark.parametrize("path", ["", "flu1918", "nothing.csv", "../rt.csv", "reference.csv"])
def test_serves_nothing_else(replay: Any, path: str) -> None:
    assert requests.get(f"{replay.url}/{path}", timeout=10).status_code == 404


def test_refuses_to_start_before_the_first_day(module: ModuleType) -> None:
    with pytest.raises(ValueError, match="at least 1 day, not 0"):
        module.Replay(start=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tick", "0"], "0 is not between 0 and 86400 seconds"),
        (["--start", "0"], "0 is not a number of days from 1 on"),
        (["--port", "70000"], "70000 is not between 0 and 65535"),
        (["--port", "x"], "invalid port value: 'x'"),
        (["--hold", "plague"], "invalid choice: 'plague'"),
    ],
)
def test_refuses_bad_arguments(
    module: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit):
        module.main(arguments)
    assert message in capsys.readouterr().err


def test_says_when_the_port_is_taken(module: ModuleType, replay: Any, capsys: pytest.CaptureFixture[str]) -> None:
    port = replay.url.rpartition(":")[2]

    with pytest.raises(SystemExit):
        module.main(["--port", port])

    assert f"port {port} is not to be had" in capsys.readouterr().err


def test_as_a_program() -> None:
    command = [sys.executable, str(EXAMPLE / "replay.py"), "--port", "0", "--tick", "0.05"]
    with subprocess.Popen(
        [*command, "--start", "10", "--hold", "flu1918"],
        cwd=EXAMPLE.parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background job ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as program:
        assert program.stdout is not None
        serving, watch, tick = (program.stdout.readline() for _ in range(3))
        program.send_signal(signal.SIGINT)
        rest, errors = program.communicate(timeout=20)

    match = re.search(r"http://127\.0\.0\.1:\d+", serving)
    assert match is not None
    flows = "docs/examples/outbreaks/flows.py"
    assert watch.endswith(f"OUTBREAKS_URL={match[0]} aero up {flows}\n")
    assert "flu1918 10, flu2009 11, measles1861 11, sars2003 11" in tick
    assert rest.endswith("Stopped.\n")
    assert errors == ""
    assert program.returncode == 0
