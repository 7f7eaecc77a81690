"""Fetch `http:` and `https:` sources: streamed, conditional, resuming."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aero_core.hookspecs import hookimpl
from aero_core.models import (
    Context,
    Family,
    Fetched,
    NotModified,
    Previous,
    Progress,
    Provides,
    SourceMember,
    Validators,
)
from aero_http.settings import Settings

if TYPE_CHECKING:
    from aero_http.session import Sessions

__all__ = ["HttpPlugin", "Settings"]

SCHEMES = ("http", "https")


class HttpPlugin:
    """The plugin: holds its settings and the connections that are kept open."""

    def __init__(self) -> None:
        self.settings = Settings()
        self._sessions: Sessions | None = None

    @hookimpl
    def aero_provides(self) -> Sequence[Provides]:
        """Fetching by both schemes."""
        return [Provides(Family.FETCH, scheme) for scheme in SCHEMES]

    @hookimpl
    def aero_settings(self) -> type:
        """The class behind `[plugins.http]`."""
        return Settings

    @hookimpl
    def aero_configure(self, settings: object, context: Context) -> None:
        """Take the settings; without any the defaults hold."""
        if isinstance(settings, Settings):
            self.settings = settings
            self.aero_shutdown()

    @hookimpl
    def aero_fetch(
        self,
        member: SourceMember,
        target: Path,
        previous: Previous | None,
        expected: Validators | None,
        progress: Progress,
    ) -> Fetched | NotModified | None:
        """Stream one object into `target`, or say that it is as before.

        Args:
            member: The object. `options["headers"]` are sent to the URL's own origin alone: no
                redirect carries them elsewhere.
            target: File to write.
            previous: Its `etag` or `last-modified` makes the request conditional.
            expected: The `etag` or `last-modified` that the content must still have.
            progress: Called as bytes arrive and while waiting to try again.

        Raises:
            FetchError: In one line, why there is no content.
            ContentGone: The content is no longer what `expected` names.
        """
        # requests takes 0.1 s to load: only who fetches pays for it.
        from aero_http.download import Download
        from aero_http.session import Sessions

        if member.url.partition(":")[0].lower() not in SCHEMES:
            return None
        # Two threads may both make one here; the loser's is dropped unused.
        sessions = self._sessions = self._sessions or Sessions(self.settings)
        return Download(
            settings=self.settings,
            session=sessions.mine(),
            member=member,
            target=target,
            previous=previous or Previous(),
            expected=expected,
            progress=progress,
        ).run()

    @hookimpl
    def aero_shutdown(self) -> None:
        """Close the connections that are kept open."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            sessions.close()
