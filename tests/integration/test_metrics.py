"""The metrics' page: who gets it, and what it tells of runs, files and background work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from starlette.applications import Starlette

from autoloader.application import open_application
from autoloader.settings import Settings
from graphql_api.app import create_app
from graphql_api.probes import MetricsPage
from integrations.telemetry.metrics import CONTENT_TYPE
from tests.fixtures.api import Api
from tests.fixtures.application import Running
from tests.fixtures.statements import Statements
from tests.integration.test_main_job import lay_json

TOKEN = "scrapers-token-0123"


async def told(running: Running) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus writes them."""
    page = (await running.application.metrics_page()).decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {_name(sample.name, sample.labels): sample.value for sample in samples}


def _name(name: str, labels: dict[str, str]) -> str:
    return f"{name}{{{','.join(f'{label}={value}' for label, value in sorted(labels.items()))}}}" if labels else name


async def test_a_run_is_counted_with_its_files_rows_and_bytes(running: Running) -> None:
    lay_json(running.landing, "good.json", [{"id": 1}, {"id": 2}])
    (running.landing / "empty.json").write_bytes(b"")
    (running.landing / "bad.json").write_text("<html>")
    run = await running.run(await running.create("events"))
    found = await told(running)
    assert found["autoloader_runs_total{status=PARTIAL,trigger=MANUAL}"] == 1
    assert found["autoloader_run_seconds_count{status=PARTIAL,trigger=MANUAL}"] == 1
    assert {name: value for name, value in found.items() if name.startswith(("autoloader_files_total", "autoloader_rows_total"))} == {
        "autoloader_files_total{outcome=loaded}": 1,
        "autoloader_files_total{outcome=failed}": 1,
        "autoloader_files_total{outcome=skipped}": 1,
        "autoloader_files_total{outcome=held}": 0,
        "autoloader_rows_total{outcome=written}": 2,
        "autoloader_rows_total{outcome=skipped}": 0,
        "autoloader_rows_total{outcome=rescued}": 0,
    }
    assert found["autoloader_bytes_total"] == run["bytesProcessed"] > 0
    assert found["autoloader_batch_seconds_count{outcome=ok}"] == 1
    for stage in ("start", "prepare", "discover", "process", "complete"):
        assert found[f"autoloader_run_stage_seconds_count{{outcome=ok,stage={stage}}}"] == 1
    assert found["autoloader_service_call_seconds_count{call=IngestionService.create_ingestion,outcome=ok}"] == 1
    assert found["autoloader_service_call_seconds_count{call=RunService.run_ingestion,outcome=ok}"] == 1
    assert found["autoloader_operation_seconds_count{kind=mutation,outcome=ok}"] == 2
    assert found["autoloader_database_up"] == found["autoloader_background_owner"] == found["autoloader_background_owned"] == 1
    assert found["autoloader_backlog_files{state=pending}"] == 0
    assert found["autoloader_pool_connections_in_use{pool=tenants}"] >= 0


async def test_a_typed_refusal_is_counted_where_it_was_said(running: Running) -> None:
    ingestion = await running.create("events")
    paused = await running.client.data("mutation ($id: ID!) { pauseIngestion(id: $id) { __typename } }", {"id": ingestion})
    assert paused == {"pauseIngestion": {"__typename": "ConflictError"}}
    found = await told(running)
    assert found["autoloader_service_call_seconds_count{call=IngestionService.pause,outcome=refused}"] == 1
    assert found["autoloader_operation_seconds_count{kind=mutation,outcome=ok}"] == 2


async def test_what_a_lost_worker_left_is_counted(running: Running) -> None:
    lay_json(running.landing, "a.json", [{"id": 1}])
    await running.create("events")
    async with running.database.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO runs (id, tenant_id, ingestion_id, status, trigger, lease_expires_at)"
                " SELECT gen_random_uuid(), tenant_id, id, 'RUNNING', 'MANUAL', now() - interval '1 minute' FROM ingestions"
            )
        )
    async with asyncio.timeout(30):
        # It is retried by itself.
        while "autoloader_runs_total{status=SUCCESS,trigger=RETRY}" not in (found := await told(running)):
            await asyncio.sleep(0.02)
    assert found["autoloader_recovered_total{what=run}"] == 1
    assert found["autoloader_runs_total{status=FAILED,trigger=MANUAL}"] == 1


async def test_the_database_is_asked_once_in_a_while(running: Running, statements: Statements) -> None:
    statements.watch(running.database)
    for _ in range(5):
        await running.application.metrics_page()
    assert len([sent for sent in statements.sent if "background_owned" in sent]) == 1


async def test_two_applications_count_for_themselves(running: Running, database_url: str, tmp_path: Path) -> None:
    async with open_application(Settings(home=tmp_path / "other", database_url=database_url), database_url) as other:
        assert b"autoloader_background_owner 0.0" in await other.metrics_page()
        assert b"autoloader_background_owned 1.0" in await other.metrics_page()


def app_with(api: Api, page: MetricsPage | None) -> Starlette:
    async def ready() -> None: ...

    return create_app(api.services, ready=ready, metrics=page)


async def get(app: Starlette, *, client: str = "127.0.0.1", url: str = "http://127.0.0.1:8000", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(client, 1)), base_url=url) as http:
        return await http.get("/metrics", headers=headers)


async def page() -> bytes:
    return b"autoloader_up 1\n"


OPEN = MetricsPage(page, CONTENT_TYPE, None, True)
KEPT = MetricsPage(page, CONTENT_TYPE, TOKEN, True)
CLOSED = MetricsPage(page, CONTENT_TYPE, None, False)


async def test_on_loopback_the_page_is_for_this_machine(api: Api) -> None:
    answer = await get(app_with(api, OPEN))
    assert (answer.status_code, answer.text) == (200, "autoloader_up 1\n")
    assert answer.headers["content-type"] == CONTENT_TYPE
    for refused in (
        await get(app_with(api, OPEN), client="10.0.0.7"),
        await get(app_with(api, OPEN), url="http://evil.example"),
        await get(app_with(api, OPEN), **{"x-forwarded-for": "10.0.0.7"}),
    ):
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "autoloader_up" not in refused.text


async def test_elsewhere_it_is_for_nobody_without_a_token(api: Api) -> None:
    for headers in ({}, {"authorization": f"Bearer {TOKEN}"}, {"authorization": "Bearer "}):
        assert (await get(app_with(api, CLOSED), **headers)).status_code == 401


async def test_with_a_token_it_is_for_whoever_sends_it(api: Api) -> None:
    sent = {"authorization": f"Bearer {TOKEN}"}
    assert (await get(app_with(api, KEPT), client="10.0.0.7", url="http://api.test", **sent)).status_code == 200
    for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}, {"authorization": TOKEN}):
        assert (await get(app_with(api, KEPT), **wrong)).status_code == 401


async def test_an_api_key_is_no_scrapers_token(api: Api) -> None:
    client = await api.client()
    assert (await get(app_with(api, CLOSED), authorization=f"Bearer {client.key}")).status_code == 401


async def test_there_is_no_page_unless_it_is_given(api: Api) -> None:
    assert (await get(app_with(api, None))).status_code == 404


@pytest.fixture
async def served(running: Running) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(running.application.services, ready=running.application.ready)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as http:
        yield http


async def test_it_is_ready_with_the_newest_schema_and_no_other(running: Running, served: httpx.AsyncClient) -> None:
    async with running.database.begin() as connection:
        newest = (await connection.execute(text("UPDATE alembic_version SET version_num = 'older' RETURNING version_num"))).scalar()
    assert newest == "older"
    answer = await served.get("/readyz")
    assert answer.status_code == 503
    assert answer.text.startswith("the schema is at older, the newest is ")
    assert len(answer.text.splitlines()) == 1
    assert (await served.get("/healthz")).text == "alive\n"


async def test_it_is_ready_when_all_is_well(served: httpx.AsyncClient) -> None:
    answer = await served.get("/readyz")
    assert (answer.status_code, answer.text) == (200, "ready\n")


async def test_it_is_not_ready_without_its_database(tmp_path: Path, api: Api) -> None:
    nowhere = "postgresql+asyncpg://somebody:secret@127.0.0.1:1/nothing"
    async with open_application(Settings(home=tmp_path / "home", database_url=nowhere), nowhere) as application:
        app = create_app(application.services, ready=application.ready)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as http:
            answer = await http.get("/readyz")
            assert (answer.status_code, answer.text) == (503, "the database is not available\n")
            assert (await http.get("/healthz")).status_code == 200
