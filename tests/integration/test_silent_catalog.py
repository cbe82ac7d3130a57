"""A database that takes connections and never answers does not keep the engine's threads for ever."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from autoloader import application
from autoloader.application import engine_settings
from autoloader.settings import Settings
from domain.ingestions.entities import Destination
from domain.ports.engine import TableUnavailableError
from integrations.engines.embedded import EmbeddedEngine
from integrations.object_store.stores import ConfiguredObjectStores


async def test_a_catalog_that_says_nothing_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The shortest that libpq waits.
    monkeypatch.setitem(application._SILENT_SERVERS, "connect_timeout", "2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+asyncpg://somebody@127.0.0.1:{silent.getsockname()[1]}/nothing"
        settings = Settings(home=tmp_path, database_url=url, warehouse=tmp_path.as_uri())
        engine = EmbeddedEngine(engine_settings(settings, url, tmp_path), ConfiguredObjectStores({}))
        try:
            with pytest.raises(TableUnavailableError):
                await engine.table_state(Destination("autoloader", "lake", "events"))
        finally:
            await engine.close()
