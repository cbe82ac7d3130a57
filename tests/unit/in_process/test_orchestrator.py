from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from integrations.in_process.orchestrator import InProcessOrchestrator
from tests.contracts.orchestrator import Orchestration, OrchestratorContract
from tests.workbench import make_fake_workbench


@contextlib.asynccontextmanager
async def _always() -> AsyncIterator[None]:
    yield


@pytest.fixture
async def orchestration() -> AsyncIterator[Orchestration]:
    bench = await make_fake_workbench()
    orchestrator = InProcessOrchestrator(bench.pipeline, bench.unit_of_work, max_concurrent_runs=2)
    yield Orchestration(bench, orchestrator, _always)
    await orchestrator.close()


class TestInProcess(OrchestratorContract):
    pass
