"""Calls through the door: errors name plugin and hook, wrappers fit anywhere, one failure stops no other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import click
import pytest

from aero_core.config import Selection
from aero_core.errors import FetchError, PluginError
from aero_core.models import AlertEvent, Artifact, Context, Data, Location, Rule, SourceMember, Target
from aero_core.plugins import Plugins, scheme_of

HEAD = """
from aero_core.errors import FetchError
from aero_core.hookspecs import hookimpl
from aero_core.models import Check, Family, Provides, Verdict

"""


def _load(folder: Path, **modules: str) -> Plugins:
    """The plugins of a profile with some adapters, all of which must be right."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(HEAD + dedent(text), encoding="utf-8")
    selection = Selection(modules=tuple(f"{name}.py" for name in modules), root=str(folder))
    plugins = Plugins(selection, Context(side="engine"))
    assert {info.name: info.reason for info in plugins.infos() if info.status != "ok"} == {}
    return plugins


def _fetch(plugins: Plugins, url: str = "gopher://x") -> object:
    return plugins.fetch(SourceMember(url), Path("target"), None, None, lambda done, total: None)


GOPHER = """
@hookimpl
def aero_provides():
    return [Provides(Family.FETCH, "gopher")]

@hookimpl
def aero_fetch(member):
    {body}
"""


@pytest.mark.parametrize("error", [KeyError("menu"), SystemExit("no menu")])
def test_a_plugin_that_raises_is_named_with_its_hook(tmp_path: Path, error: BaseException) -> None:
    plugins = _load(tmp_path, gopher=GOPHER.format(body=f"raise {error!r}"))
    told = f"plugin 'gopher' failed in aero_fetch: {type(error).__name__}: {error}"
    with pytest.raises(PluginError, match=f"^{told}$") as caught:
        _fetch(plugins)
    assert type(caught.value.__cause__) is type(error)


def test_an_error_of_aeros_own_kind_passes_through(tmp_path: Path) -> None:
    plugins = _load(tmp_path, gopher=GOPHER.format(body="raise FetchError('the menu is closed: come back later')"))
    with pytest.raises(FetchError, match="the menu is closed") as caught:
        _fetch(plugins)
    assert caught.value.retryable


def test_a_plugin_that_breaks_its_word_is_named(tmp_path: Path) -> None:
    plugins = _load(tmp_path, gopher=GOPHER.format(body="return None"))
    with pytest.raises(PluginError, match="plugin 'gopher' declares fetch 'gopher', but aero_fetch answered nothing"):
        _fetch(plugins)


def test_a_plugin_that_lacks_the_hook_of_what_it_declares_is_named(tmp_path: Path) -> None:
    plugins = _load(tmp_path, lazy='@hookimpl\ndef aero_provides(): return [Provides(Family.ALERT, "bell")]')
    with pytest.raises(PluginError, match="plugin 'lazy' declares alert 'bell', but aero_alert answered nothing"):
        plugins.alert(AlertEvent("failed", "flow", "run", datetime.now(UTC), "it failed"), Target("t", "bell"))


def test_only_the_plugin_concerned_is_asked(tmp_path: Path) -> None:
    asked = GOPHER.replace("gopher", "other").format(body="raise AssertionError('asked')")
    plugins = _load(tmp_path, gopher=GOPHER.format(body="return member.url"), other=asked)
    assert _fetch(plugins) == "gopher://x"


NEW_WRAPPER = """
@hookimpl(wrapper=True)
def aero_fetch(member):
    answer = yield
    return f"wrapped {answer}"
"""
OLD_WRAPPER = """
@hookimpl(hookwrapper=True)
def aero_fetch(member):
    outcome = yield
    outcome.force_result(f"wrapped {outcome.get_result()}")
"""


@pytest.mark.parametrize("wrapper", [NEW_WRAPPER, OLD_WRAPPER], ids=["new", "old"])
def test_a_wrapper_goes_around_whoever_is_asked(tmp_path: Path, wrapper: str) -> None:
    plugins = _load(tmp_path, audit=wrapper, gopher=GOPHER.format(body="return member.url"))
    assert _fetch(plugins) == "wrapped gopher://x"


@pytest.mark.parametrize("style", ["wrapper", "hookwrapper"])
def test_a_plugin_that_only_wraps_is_not_asked_itself(tmp_path: Path, style: str) -> None:
    text = f"@hookimpl({style}=True)\ndef aero_resolve_version(data, wanted):\n    return (yield)\n"
    plugins = _load(tmp_path, audit=text)
    assert plugins._having("aero_resolve_version") == []
    assert plugins.resolve_version(Data("id", "cases"), "release-1") is None


def test_a_wrapper_that_raises_is_the_plugins_failure(tmp_path: Path) -> None:
    text = "@hookimpl(wrapper=True)\ndef aero_fetch(member):\n    yield\n    raise OSError('the audit log is full')\n"
    plugins = _load(tmp_path, audit=text, gopher=GOPHER.format(body="return member.url"))
    with pytest.raises(PluginError, match="failed in aero_fetch: OSError: the audit log is full"):
        _fetch(plugins)


def test_commands_of_one_module_fail_alone(tmp_path: Path) -> None:
    good = "@hookimpl\ndef aero_commands(group):\n    import click\n    group.add_command(click.Command('hello'))\n"
    bad = "@hookimpl\ndef aero_commands(group):\n    raise OSError('no')\n"
    plugins = _load(tmp_path, bad=bad, good=good)
    group = click.Group()
    plugins.extend_commands(group)
    assert list(group.commands) == ["hello"]
    reasons = {info.name: info.reason for info in plugins.infos()}
    assert reasons["bad"] == "plugin 'bad' failed in aero_commands: OSError: no"


@pytest.mark.parametrize("error", ["OSError", "SystemExit", "GeneratorExit"])
def test_a_shutdown_that_fails_stops_no_other(tmp_path: Path, error: str) -> None:
    bad = f"@hookimpl\ndef aero_shutdown():\n    raise {error}('no')\n"
    good = "@hookimpl\ndef aero_shutdown():\n    open('down', 'w').close()\n"
    plugins = _load(tmp_path, a_bad=bad, b_good=good)
    plugins.close()
    assert Path("down").exists()
    reasons = {info.name: info.reason for info in plugins.infos()}
    assert reasons["a_bad"] == f"failed at shutdown: plugin 'a_bad' failed in aero_shutdown: {error}: no"


def test_every_gate_is_heard(tmp_path: Path) -> None:
    gate = "@hookimpl\ndef aero_check(artifact):\n    return Check('{0}', Verdict.WARN)\n"
    plugins = _load(tmp_path, a=gate.format("a"), b=gate.format("b"), c="@hookimpl\ndef aero_check(artifact): pass\n")
    checks = plugins.checks(Artifact("f", "sha256:0", 1), None, Rule())
    assert [check.name for check in checks] == ["a", "b"]


def test_an_executor_without_words_on_endpoints_takes_all(tmp_path: Path) -> None:
    text = '@hookimpl\ndef aero_provides(): return [Provides(Family.EXECUTOR, "plain")]'
    plugins = _load(tmp_path, plain=text)
    assert plugins.check_endpoint("plain", "anywhere").ok
    assert not plugins.cancel("plain", "x")
    assert plugins.attach("plain", "x") is None
    assert plugins.link(Location("file:///x"), 1) is None


@pytest.mark.parametrize(
    ("url", "scheme"), [("HTTPS://X/y", "https"), ("sqlite+driver:///x", "sqlite"), ("file:/x", "file"), ("x", "")]
)
def test_the_scheme_of_a_url(url: str, scheme: str) -> None:
    assert scheme_of(url) == scheme
