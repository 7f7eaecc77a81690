from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aero_core.converter import structure_strict
from aero_core.errors import ConfigError, ExecutorError, InvalidValue
from aero_core.models import Attempt, Context, Family, Location
from aero_core.testing.storing import hooks_of
from aero_local import LocalPlugin, Settings, machine
from aero_local.paths import path_to_url, url_to_path
from tests.local.unprivileged import as_nobody


@pytest.fixture
def plugin() -> LocalPlugin:
    return LocalPlugin()


def test_provides_what_one_machine_has(plugin: LocalPlugin) -> None:
    found = {(one.family, one.name): one.machine_local for one in plugin.aero_provides()}
    assert found == {
        (Family.FETCH, "file"): True,
        (Family.STORE, "file"): True,
        (Family.FINGERPRINT, "bytes"): False,
        (Family.FINGERPRINT, "json"): False,
        (Family.FINGERPRINT, "csv"): False,
        (Family.FINGERPRINT, "text"): False,
        (Family.EXECUTOR, "local"): True,
        (Family.AUTHENTICATOR, "local"): False,
    }


def test_import_loads_no_more_than_the_core() -> None:
    code = """
        import sys, aero_core.hookspecs, aero_core.models, aero_core.errors
        before = set(sys.modules)
        import aero_local
        aero_local.LocalPlugin()
        print(*sorted(name for name in set(sys.modules) - before if name != "aero_local"))
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(map(str.strip, code.splitlines()))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


def test_settings_are_checked(plugin: LocalPlugin) -> None:
    settings = structure_strict({"workers": 3, "memory": "2GB"}, Settings, "[plugins.local]", ConfigError)
    plugin.aero_configure(settings, Context("engine"))
    pool = plugin._workers()
    assert (pool.settings.workers, pool.settings.memory) == (3, 2 * 10**9)
    with pytest.raises(ConfigError, match="wokers"):
        structure_strict({"wokers": 3}, Settings, "[plugins.local]", ConfigError)


def test_defaults_follow_the_machine(plugin: LocalPlugin) -> None:
    plugin.aero_configure(None, Context("run"))
    settings = plugin._workers().settings
    assert settings.workers == machine.cores() >= 1
    memory = machine.memory()
    assert memory is not None
    assert settings.memory == memory // 2 > 10**6


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(workers=0), "workers is 0"),
        (Settings(worker_runs=-1), "worker_runs is -1"),
        (Settings(idle_seconds=0), "idle_seconds is 0"),
        (Settings(memory="much"), "memory is 'much'"),
    ],
)
def test_settings_that_cannot_work_are_named(plugin: LocalPlugin, settings: Settings, words: str) -> None:
    with pytest.raises((ConfigError, InvalidValue), match=words):
        plugin.aero_configure(settings, Context("engine"))


def test_runs_a_task_and_shuts_down(plugin: LocalPlugin) -> None:
    hooks = hooks_of(plugin)
    launched = hooks.aero_launch(attempt=Attempt("a", {}, endpoint="local"))
    assert launched.handle is None
    # The core's own `execute` is there and refuses what is no task.
    with pytest.raises(ExecutorError, match="Task: run_id is missing"):
        launched.future.result(60)
    assert hooks.aero_cancel(handle="a") is True
    hooks.aero_shutdown()
    hooks.aero_shutdown()


def test_nothing_survives_to_attach_to(plugin: LocalPlugin) -> None:
    assert hooks_of(plugin).aero_attach(handle="a") is None
    assert hooks_of(plugin).aero_cancel(handle="a") is True


def test_endpoints(plugin: LocalPlugin) -> None:
    assert plugin.aero_check_endpoint("local").ok
    check = plugin.aero_check_endpoint("cluster")
    assert not check.ok
    assert "'cluster'" in check.message
    with pytest.raises(ExecutorError, match="'cluster'") as caught:
        plugin.aero_launch(Attempt("a", {}, endpoint="cluster"))
    assert not caught.value.retryable


def test_stores_of_others_are_left_alone(plugin: LocalPlugin, tmp_path: Path) -> None:
    hooks, elsewhere = hooks_of(plugin), Location("s3://bucket/x")
    nothing: Any = lambda *_: None  # noqa: E731
    assert hooks.aero_store(artifact=None, location=elsewhere, progress=nothing) is None
    assert hooks.aero_retrieve(location=elsewhere, target=tmp_path, progress=nothing) is None
    assert hooks.aero_delete(location=elsewhere) is None
    assert hooks.aero_list(prefix=elsewhere) is None


def test_whoami_names_user_and_host(plugin: LocalPlugin) -> None:
    identity = plugin.aero_whoami()
    assert identity.issuer == socket.gethostname()
    assert identity.subject


def test_whoami_without_a_passwd_entry(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may become a user who does not exist")
    printed = as_nobody(
        """
        from aero_local import machine
        pwd.getpwuid = lambda number: {}[number]
        print(machine.identity().subject)
        """,
        tmp_path,
    )
    assert printed == "65534\n"


@pytest.mark.parametrize(
    ("groups", "files", "limits"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "900"}, [900]),
        ("0::/host/only\n", {"memory.max": "700"}, [700, 700]),
        (
            "5:cpu,memory:/c\n4:cpu:/c\n",
            {"memory/c/memory.limit_in_bytes": "500", "memory/memory.limit_in_bytes": "600"},
            [500, 600, 600],
        ),
        ("", {}, []),
    ],
)
def test_limits_of_a_container(tmp_path: Path, groups: str, files: dict[str, str], limits: list[int]) -> None:
    (tmp_path / "own").write_text(groups)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    found = machine._container_limits(tmp_path / "own", tmp_path / "root")
    assert set(found) == set(limits)


@pytest.mark.parametrize("name", ["a b", "ü", "100%", "a?b#c", "x\ny", "%41"])
def test_paths_and_urls_both_ways(name: str) -> None:
    path = Path("/folder") / name
    assert url_to_path(path_to_url(path), InvalidValue) == path
    assert url_to_path(path.as_uri(), InvalidValue) == path
