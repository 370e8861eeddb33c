"""Servers on this machine, which downloads are tried with."""

from collections.abc import Iterator

import pytest

from storage.images import download
from tests.http_faults import FaultyServer


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FaultyServer]]:
    """Two mirrors; nobody waits long for them."""
    monkeypatch.setattr(download, "BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(download, "SILENCE_SECONDS", 0.3)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = [FaultyServer(), FaultyServer()]
    yield started
    for server in started:
        server.close()


@pytest.fixture
def server(servers: list[FaultyServer]) -> FaultyServer:
    return servers[0]
