from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from integrations.prefect.service import PrefectService
from integrations.prefect.worker import WarmWorker
from tests.contracts.orchestrator import Orchestration, OrchestratorContract
from tests.workbench import Workbench


@pytest.fixture
def orchestration(
    bench: Workbench, service: PrefectService, working: Callable[[], AbstractAsyncContextManager[WarmWorker]]
) -> Orchestration:
    return Orchestration(bench, service, working)


class TestPrefect(OrchestratorContract):
    pass
