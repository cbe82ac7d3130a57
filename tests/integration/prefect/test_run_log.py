"""What a run tells of itself, in Prefect: with its flow run, within bounds, and without secrets."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log

from autoloader.logs import MessageFormatter, Redaction
from domain.errors import UnavailableError
from domain.ledger.entities import FileStatus
from domain.ports.engine import LoadBatch
from domain.ports.unit_of_work import Subject
from integrations.prefect import run_log as module
from integrations.prefect.connection import PrefectConnection
from integrations.prefect.run_log import lines_of, run_log
from integrations.prefect.service import PrefectService
from integrations.prefect.worker import WarmWorker
from tests.fakes.scripted_engine import ROWS
from tests.fixtures.prefect_server import Prefect
from tests.integration.prefect.test_worker import ended, triggered
from tests.workbench import Workbench

Working = Callable[..., AbstractAsyncContextManager[WarmWorker]]

FORMATTER = MessageFormatter(Redaction(["hunter2"]))


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def lines_in(prefect: Prefect, flow_run_id: UUID) -> list[Log]:
    """The oldest first."""
    of_it = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id]))
    return await prefect.client.read_logs(of_it)


async def executed(prefect: Prefect, bench: Workbench, service: PrefectService, working: Working) -> tuple[Subject, list[Log]]:
    run = await triggered(bench, service)
    async with run_log(prefect.connection, FORMATTER), working():
        flow_run = await ended(prefect, bench, run)
    return run, await lines_in(prefect, flow_run.id)


async def test_each_stage_tells_what_it_has_done(prefect: Prefect, bench: Workbench, service: PrefectService, working: Working) -> None:
    bench.land("another")
    run, lines = await executed(prefect, bench, service, working)
    stored = await bench.run(run)
    async with bench.unit_of_work(run.tenant_id) as tx:
        file, _ = await tx.files.get_processed_files(stored.ingestion_id, status=[FileStatus.SUCCESS], limit=10)
    assert [(line.message, line.level) for line in lines] == [
        (f"run {run.id} of ingestion {stored.ingestion_id} began", logging.INFO),
        (f"run {run.id}: 2 files were found, 2 of them new, 0 changed", logging.INFO),
        (f"run {run.id}: 2 files wait", logging.INFO),
        (f"batch {file.batch_id}: 2 files loaded, 0 failed; {2 * ROWS} rows", logging.INFO),
        (f"run {run.id} ended SUCCESS", logging.INFO),
    ]
    assert {line.name for line in lines} == {"domain.runs.pipeline", "domain.ledger.batch_processor"}
    # Each stands with its task.
    assert all(line.task_run_id is not None for line in lines)


async def test_why_it_failed_is_told_without_secrets(prefect: Prefect, bench: Workbench, service: PrefectService, working: Working) -> None:
    async def fail(_: LoadBatch) -> None:
        raise UnavailableError("user:hunter2 is refused\nby http://a:other@host")

    bench.engine.at_start = fail
    run, lines = await executed(prefect, bench, service, working)
    said = r"user:[redacted] is refused\nby http://a:[redacted]@host"
    assert lines[-1].message == f"run {run.id} ended FAILED: {said}"


async def test_no_more_than_so_many_lines_of_a_flow_run_are_sent(prefect: Prefect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINES_OF_A_FLOW_RUN", 3)
    log, long, short = logging.getLogger("domain.test"), uuid4(), uuid4()
    async with run_log(prefect.connection, FORMATTER):
        log.info("of no flow run")
        with lines_of(long):
            for number in range(5):
                log.info("%d", number)
            logging.getLogger("another.library").info("not ours")
        with lines_of(short):
            log.debug("in detail")
            log.warning("0")
    log.info("afterwards")
    assert [line.message for line in await lines_in(prefect, long)] == ["0", "1", "there is more in the worker's log"]
    assert [(line.message, line.level) for line in await lines_in(prefect, short)] == [("0", logging.WARNING)]


async def test_nobody_waits_for_a_prefect_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("domain.test")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = PrefectConnection(f"http://127.0.0.1:{taken.getsockname()[1]}/api")
        async with run_log(away, FORMATTER):
            for flow_run_id in (uuid4(), uuid4()):
                with lines_of(flow_run_id):
                    for number in range(module.LINES_OF_A_FLOW_RUN):
                        log.info("%d", number)
    told = [record.getMessage() for record in caplog.records if record.name == "integrations.prefect.run_log"]
    assert len(told) == 1
    assert told[0].startswith("lines of flow runs cannot be sent to Prefect, and are only here: ConnectError(")
