"""One plugin that implements every hook, through a whole run and beyond."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from attrs import frozen

from aero_core import api, hookspecs
from aero_core.models import AlertEvent, Artifact, Identity, Location, OutboxRecord, Rule, Source, Target
from aero_core.plugins import Plugins
from tests.unit import site_every

CONFIG = """
[profiles.default]
catalog = "every://catalog"
executor = "every"
endpoint = "there"
store = "mine"
authenticators = ["every"]

[stores.mine]
url = "every://bytes/store"

[plugins]
modules = ["{module}"]

[plugins.site_every]
folder = "{folder}"
"""
FLOWS = """
from pathlib import Path
from aero_core import AeroOutput, analysis, ingest

raw = ingest("raw", url="every://source/raw.txt", rule="every", every="1d")

@analysis(inputs=[raw], rule="every")
def lines(raw):
    Path("lines.txt").write_text(str(len(Path(raw).read_text())))
    return AeroOutput("lines", "lines.txt")
"""


@frozen
class Site:
    """A project whose every part is served by the adapter."""

    folder: Path

    def calls(self) -> list[str]:
        """What was called since the last time."""
        file = self.folder / "calls.txt"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "aero.toml").write_text(CONFIG.format(module=site_every.__file__, folder=tmp_path))
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "raw.txt").write_text("some text")
    return Site(tmp_path)


LOADED = ["aero_provides", "aero_settings", "aero_configure engine"]
ELSEWHERE = ["aero_provides", "aero_settings", "aero_configure run"]


def test_the_order_of_a_whole_run(site: Site) -> None:
    with api.open(site.folder / "flows.py") as aero:
        assert site.calls() == LOADED

        aero.apply(site.folder / "flows.py")
        checked = ["aero_check_endpoint there", "aero_check_rule every"] * 2
        assert site.calls() == [
            # Planned first, before any state is made.
            *checked,
            "aero_whoami",
            "aero_open_catalog",
            "aero_open_catalog",
            "aero_register_function lines",
            *checked,
            "aero_whoami",
            "aero_schedule raw",
        ]

        ended = aero.run()
        assert [run.flow for run in ended] == ["raw", "lines"]
        assert {run.agent for run in ended} == {"Ada"}
        store = ["aero_fingerprint", "aero_check", "aero_store"]
        assert site.calls() == [
            "aero_whoami",
            "aero_check_endpoint there",
            "aero_launch raw",
            *ELSEWHERE,
            "aero_fetch",
            *store,
            "aero_check_endpoint there",
            "aero_launch lines",
            "aero_retrieve",
            *store,
        ]

        aero.get("lines@first", site.folder / "out.txt")
        assert site.calls() == ["aero_resolve_version first", "aero_retrieve"]

        aero.pause("raw")
        (site.folder / "flows.py").write_text(FLOWS.replace(', every="1d"', ""))
        aero.apply(site.folder / "flows.py")
        assert "aero_unschedule raw" in site.calls()
    assert site.calls() == ["aero_shutdown"]


def test_what_a_run_does_not_call(site: Site) -> None:
    """Every further hook by its method of the facade, or by the way that those take."""
    with api.open(site.folder / "flows.py") as aero:
        site.calls()
        plugins: Plugins = aero.plugins
        place = Location("every://bytes/store/x")
        now = datetime.now(UTC)
        target = Target("there", "every")

        found = plugins.credentials("https://data.example")
        assert found is not None
        assert "secret" not in repr(found)
        assert plugins.identify("bob") is not None
        group = click.Group()
        plugins.extend_commands(group)
        assert list(group.commands) == ["every"]
        assert [member.url for member in plugins.members(Source(("every://source/a",), 1))] == ["every://source/a"]
        assert plugins.delete(place)
        assert [stored.url for stored in plugins.stored(place)] == [place.url]
        assert plugins.link(place, 5) == f"{place.url}?for=5"
        assert plugins.commit([OutboxRecord(1, "committed", now, {})], target) == 1
        assert plugins.alert(AlertEvent("failed", "a", "r", now, "it failed"), target)
        hits = plugins.search("cases")
        assert hits is not None
        assert hits[0].name == "cases"
        assert plugins.attach("every", "job") is None
        assert plugins.cancel("every", "job")
        ask = plugins._ask
        assert ask(hookspecs.aero_login, "site_every")(None) == Identity("every", "ada")
        ask(hookspecs.aero_logout, "site_every")()
        assert ask(hookspecs.aero_login_start, "site_every")("back") == "https://login.example/?back"
        assert ask(hookspecs.aero_login_finish, "site_every")({"code": "eve"}) is not None
        assert site.calls() == [
            *("aero_credentials", "aero_identify", "aero_commands", "aero_members", "aero_delete", "aero_list"),
            *("aero_link", "aero_commit", "aero_alert", "aero_search", "aero_attach", "aero_cancel"),
            *("aero_login", "aero_logout", "aero_login_start", "aero_login_finish"),
        ]
        assert (
            plugins.fingerprint(Artifact("f", "sha256:0", 1), Rule("every"), lambda done, total: None)
            == "every:sha256:0"
        )


def test_the_adapter_implements_every_hook() -> None:
    specified = {name for name in vars(hookspecs) if name.startswith("aero_")}
    assert {name for name in vars(site_every) if name.startswith("aero_")} == specified
