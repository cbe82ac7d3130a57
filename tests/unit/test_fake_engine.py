"""The fake engine does what every engine does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from domain.ingestions.entities import Destination
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.engine_approval_contract import EngineApprovalContract
from tests.contracts.engine_contract import EngineContract
from tests.contracts.replacing import ReplacingContract
from tests.fakes.engine import FakeEngine
from tests.fixtures.engine_bench import EngineBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[EngineBench]:
    stores = ConfiguredObjectStores({})
    engine = FakeEngine(stores)

    def read_rows(destination: Destination) -> Sequence[Mapping[str, Any]]:
        return engine.tables[destination.key].rows

    yield EngineBench(engine, stores, tmp_path, read_rows)
    stores.close()


class TestFakeEngine(EngineContract, EngineApprovalContract):
    pass


class TestReplacing(ReplacingContract):
    pass
