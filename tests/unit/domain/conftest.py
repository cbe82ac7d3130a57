from __future__ import annotations

import pytest

from tests.fakes.database import FakeDatabase
from tests.workbench import Workbench, make_fake_workbench


@pytest.fixture
def fake_database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
async def bench(fake_database: FakeDatabase) -> Workbench:
    return await make_fake_workbench(fake_database)
