"""Connections: kept open, one pool a thread, trusting what the system trusts."""

from __future__ import annotations

import logging
import os
import ssl
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import truststore
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from aero_http.lateness import watch
from aero_http.settings import Settings

_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep urllib3 from logging in this context: it writes whole URLs, whose query may be a secret."""
    for name in ("connection", "connectionpool"):
        # Added once: a logger knows its filters.
        logging.getLogger(f"urllib3.{name}").addFilter(_is_heard)
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def _is_heard(_record: logging.LogRecord) -> bool:
    return not _silent.get()


class Sessions:
    """One `requests.Session` for each thread of each process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()
        # Weak: the sessions of threads that have ended close by themselves.
        self._all: weakref.WeakSet[requests.Session] = weakref.WeakSet()
        self._lock = threading.Lock()

    def mine(self) -> requests.Session:
        """The calling thread's session."""
        # A forked child must not speak on its parent's connections.
        process = os.getpid()
        if getattr(self._local, "process", None) != process:
            self._local.session = make_session(self._settings)
            self._local.process = process
            with self._lock:
                self._all.add(self._local.session)
        session: requests.Session = self._local.session
        return session

    def close(self) -> None:
        """Close every thread's connections."""
        with self._lock:
            for session in list(self._all):
                session.close()


def make_session(settings: Settings) -> requests.Session:
    """A session that verifies TLS, takes proxies from the environment and keeps no cookies."""
    session = requests.Session()
    session.headers.clear()
    session.headers["User-Agent"] = settings.user_agent
    session.headers["Accept"] = "*/*"
    session.headers["Accept-Encoding"] = "identity"
    # A cookie of one fetch would tell its source of the next, and change what it answers.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _Adapter(HTTPAdapter):
    """Trusts the system's certificates; leaves retries to the caller, who can resume."""

    def __init__(self) -> None:
        self._context = _system_trust()
        super().__init__(max_retries=Retry(0, read=False))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Give every pool the context."""
        super().init_poolmanager(*args, **self._with_context(kwargs))
        watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Give every proxy's pool the context."""
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **self._with_context(kwargs))
        if not known:
            watch(manager)
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Keep requests from adding its own bundle: the context knows whom to trust."""
        if self._context is None or verify is not True:
            # REQUESTS_CA_BUNDLE names a file, or there is no system store to be had.
            super().cert_verify(conn, url, verify or True, cert)  # type: ignore[no-untyped-call]
        elif url.lower().startswith("https"):
            conn.cert_reqs = "CERT_REQUIRED"

    def _with_context(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return kwargs if self._context is None else {**kwargs, "ssl_context": self._context}


def _system_trust() -> ssl.SSLContext | None:
    """A context on the system's trust store, or None where truststore cannot read one."""
    try:
        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except (ImportError, NotImplementedError, OSError):
        return None
