"""The embedded engine over a folder, with a SQLite catalog and a warehouse on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

from domain.ingestions.entities import Destination
from integrations.engines.embedded import EmbeddedEngine, EmbeddedEngineSettings
from integrations.object_store.stores import ConfiguredObjectStores
from tests.fixtures.engine_bench import EngineBench


@pytest.fixture
def settings(tmp_path: Path) -> EmbeddedEngineSettings:
    staging = tmp_path / "staging"
    staging.mkdir()
    return EmbeddedEngineSettings(f"sqlite:///{tmp_path}/catalog.db", f"file://{tmp_path}/warehouse", staging, threads=2)


@pytest.fixture
def catalog(settings: EmbeddedEngineSettings) -> Iterator[SqlCatalog]:
    """A second client of the same catalog: another process, as far as the engine can tell."""
    catalog = SqlCatalog("autoloader", uri=settings.catalog_uri, warehouse=settings.warehouse)
    yield catalog
    catalog.engine.dispose()


@pytest.fixture
async def bench(tmp_path: Path, settings: EmbeddedEngineSettings, catalog: SqlCatalog) -> AsyncIterator[EngineBench]:
    folder = tmp_path / "landing"
    folder.mkdir()
    stores = ConfiguredObjectStores({})
    engine = EmbeddedEngine(settings, stores)

    def read_rows(destination: Destination) -> Sequence[Mapping[str, Any]]:
        return catalog.load_table((destination.database, destination.table)).scan().to_arrow().to_pylist()

    yield EngineBench(engine, stores, folder, read_rows)
    await engine.close()
    stores.close()
    assert list(settings.staging_dir.iterdir()) == [], "the engine left scratch files behind"
