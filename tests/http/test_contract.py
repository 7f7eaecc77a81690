from __future__ import annotations

from typing import Any, ClassVar

import pytest

from aero_core.testing.fetching import FetchContract
from aero_core.testing.servers import LONG_AGO, WebServer
from aero_http import HttpPlugin


class Site:
    """Publishes with the validators of a kind of server; each change brings new ones."""

    def __init__(self, server: WebServer, how: dict[str, Any]) -> None:
        self.server = server
        self.how = how
        self.changes = 0

    def publish(self, name: str, body: bytes, /) -> str:
        self.changes += 1
        how = dict(self.how)
        if "etag" in how:
            how["etag"] = how["etag"] % self.changes
        if "last_modified" in how:
            how["last_modified"] = LONG_AGO.replace("10:00:00", f"10:00:{self.changes:02}")
        return self.server.publish(name, body, **how)

    def remove(self, name: str, /) -> None:
        self.server.remove(name)


class Contract(FetchContract):
    how: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def plugin(self) -> object:
        return HttpPlugin()

    @pytest.fixture
    def source(self, server: WebServer) -> Site:
        return Site(server, self.how)


class TestETag(Contract):
    how: ClassVar = {"etag": '"%d"'}
    decided_by = ("etag",)


class TestWeakETag(Contract):
    how: ClassVar = {"etag": 'W/"%d"'}
    decided_by = ("etag",)


class TestLastModified(Contract):
    how: ClassVar = {"last_modified": True}
    decided_by = ("last-modified",)


class TestBoth(Contract):
    how: ClassVar = {"etag": '"%d"', "last_modified": True}
    decided_by = ("etag",)


class TestNoValidators(Contract):
    decided_by = ("bytes",)


class TestChunked(Contract):
    how: ClassVar = {"chunked": True}
    decided_by = ("bytes",)
