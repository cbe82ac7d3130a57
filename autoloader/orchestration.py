"""Which orchestrator there is, and the worker that serves it. Prefect is loaded for those who use it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from autoloader.flow_services import FlowServices, flow_services
from autoloader.logs import MessageFormatter, Redaction, secrets_of
from autoloader.settings import Settings
from domain.clock import SystemClock
from domain.ingestions.entities import EngineType
from domain.ports.orchestrator import Orchestrator
from domain.ports.unit_of_work import Directory
from domain.runs.entities import RunLimits
from domain.runs.queue import RunQueue
from integrations.in_process.orchestrator import InProcessOrchestrator

if TYPE_CHECKING:
    from integrations.prefect.connection import PrefectConnection

log = logging.getLogger(__name__)

_RESTART_SECONDS = 5.0


def run_queue(settings: Settings, directory: Directory) -> RunQueue:
    on_spark = settings.spark_max_concurrent_runs
    limits = RunLimits(settings.tenant_max_concurrent_runs, {} if on_spark is None else {EngineType.SPARK: on_spark})
    return RunQueue(directory, limits, lease_seconds=settings.lease_seconds)


@contextlib.asynccontextmanager
async def open_orchestrator(settings: Settings, directory: Directory, services: FlowServices) -> AsyncIterator[Orchestrator]:
    """Prefect where its API's URL is set, else runs as tasks of the processes that work on the database."""
    if settings.prefect_api_url is None:
        yield InProcessOrchestrator(services.pipeline, services.queue, max_concurrent_runs=settings.max_concurrent_runs)
        return
    from integrations.prefect.service import PrefectService

    prefect = PrefectService(
        prefect_connection(settings),
        directory,
        services.unit_of_work,
        services.runs,
        work_pool=settings.prefect_work_pool,
        entrypoint=_entrypoint(),
        clock=SystemClock(),
    )
    try:
        await prefect.initialize()
        yield prefect
    finally:
        await prefect.close()


@contextlib.asynccontextmanager
async def prefect_worker(settings: Settings, services: FlowServices) -> AsyncIterator[None]:
    """Flow runs are executed in this process while the block runs. At its end those in hand may go on for a while."""
    connection = prefect_connection(settings)
    from integrations.prefect.run_log import run_log

    async with run_log(connection, MessageFormatter(Redaction(secrets_of(settings)))):
        with connection.settings(), flow_services(services):
            serving = asyncio.create_task(_serve(settings), name="prefect worker")
        try:
            yield
        finally:
            serving.cancel()
            try:
                await asyncio.wait([serving])
            except asyncio.CancelledError:
                # Asked a second time: what is in hand does not go on.
                serving.cancel()
                await asyncio.wait([serving])
                raise


async def _serve(settings: Settings) -> None:
    from autoloader.flows import run_ingestion_flow
    from integrations.prefect.worker import WarmWorker

    while True:
        worker = WarmWorker(
            run_ingestion_flow,
            work_pool=settings.prefect_work_pool,
            at_once=settings.max_concurrent_runs,
            drain_seconds=settings.drain_seconds,
        )
        try:
            await worker.serve()
        except Exception:
            log.exception("the Prefect worker ended, and is started again")
            await asyncio.sleep(_RESTART_SECONDS)


def prefect_connection(settings: Settings) -> PrefectConnection:
    from integrations.prefect.connection import PrefectConnection

    if settings.prefect_api_url is None:
        raise ValueError("no Prefect API is configured")
    key, auth = settings.prefect_api_key, settings.prefect_auth_string
    return PrefectConnection(
        settings.prefect_api_url,
        api_key=key.get_secret_value() if key else None,
        auth_string=auth.get_secret_value() if auth else None,
    )


def _entrypoint() -> str:
    from autoloader.flows import ENTRYPOINT

    return ENTRYPOINT
