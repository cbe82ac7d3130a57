from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.flow_services import flow_services
from autoloader.flows import run_ingestion_flow
from autoloader.settings import Settings
from domain.runs.entities import RunLimits
from integrations.prefect.service import PrefectService
from integrations.prefect.worker import WarmWorker
from tests.fixtures.application import Running, open_running
from tests.fixtures.prefect_server import Prefect, flow_services_of, prefect, prefect_server
from tests.integration.domain.conftest import bench
from tests.workbench import Workbench

__all__ = ["bench", "prefect", "prefect_server"]


@pytest.fixture
async def service(prefect: Prefect, bench: Workbench) -> AsyncIterator[PrefectService]:
    service = prefect.service(bench)
    yield service
    await service.close()


@pytest.fixture
def prefect_settings(prefect: Prefect, database_url: str, landing: Path, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        database_url=SecretStr(database_url),
        local_roots=(landing,),
        prefect_api_url=prefect.connection.api_url,
        prefect_auth_string=SecretStr(prefect.connection.auth_string or ""),
        prefect_work_pool=prefect.work_pool,
        drain_seconds=0,
    )


@pytest.fixture
async def orchestrated(prefect_settings: Settings, database: AsyncEngine, landing: Path) -> AsyncIterator[Running]:
    """The application with its background work; nothing executes flow runs."""
    async with open_running(prefect_settings, database, landing) as running:
        yield running


@pytest.fixture
def working(prefect: Prefect, bench: Workbench) -> Callable[..., AbstractAsyncContextManager[WarmWorker]]:
    """Flow runs of the test's work pool are executed, over the bench, while the block runs."""

    @contextlib.asynccontextmanager
    async def working(limits: RunLimits | None = None) -> AsyncIterator[WarmWorker]:
        worker = WarmWorker(run_ingestion_flow, work_pool=prefect.work_pool, at_once=2, drain_seconds=0)
        with prefect.connection.settings(), flow_services(flow_services_of(bench, limits)):
            serving = asyncio.create_task(worker.serve())
        try:
            yield worker
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            assert serving.cancelled()

    return working
