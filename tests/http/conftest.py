from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aero_core.models import Context
from aero_core.testing.fetching import Fetcher
from aero_core.testing.servers import WebServer
from aero_http import HttpPlugin, Settings


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def fetcher(tmp_path: Path) -> Iterator[Callable[..., Fetcher]]:
    """Makes a fetcher with settings of one's own."""
    made: list[Fetcher] = []

    def make(**settings: Any) -> Fetcher:
        plugin = HttpPlugin()
        settings = {"backoff": 0.0, **settings}
        plugin.aero_configure(Settings(**settings), Context("run"))
        folder = tmp_path / f"fetched-{len(made)}"
        folder.mkdir()
        made.append(Fetcher(plugin, folder))
        return made[-1]

    yield make
    for one in made:
        one.hook.aero_shutdown()


@pytest.fixture
def fetch(fetcher: Callable[..., Fetcher]) -> Fetcher:
    """A fetcher that tries again at once, up to three times."""
    return fetcher()
