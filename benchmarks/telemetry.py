"""What measuring costs: the dashboard's document with nobody looking, with metrics, and with metrics and traces."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
from sqlalchemy import make_url

from autoloader.application import open_application
from autoloader.local_key import ensure_local_key
from autoloader.settings import Settings
from autoloader.stack import database
from benchmarks.bench_stack import settings_in
from benchmarks.dashboard import DOCUMENT, fill
from benchmarks.report import Report
from benchmarks.timing import COLUMNS, in_turn
from domain.ports.telemetry import NO_TELEMETRY
from graphql_api.app import create_app

ROUNDS = 15
REQUESTS_A_ROUND = 10
NOBODY, METRICS, TRACES = "nobody looks", "metrics", "metrics and traces"


async def measure(report: Report, place: Path) -> None:
    # Without bounds, which would refuse this many documents.
    settings = settings_in(place).model_copy(update={"cost_per_second": 1e9, "cost_burst": 1e9})
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(database(settings))
        traced = settings.model_copy(update={"otlp_endpoint": stack.enter_context(_collector())})
        clients = {
            NOBODY: await stack.enter_async_context(_client(settings, url, observed=False)),
            METRICS: await stack.enter_async_context(_client(settings, url)),
            TRACES: await stack.enter_async_context(_client(traced, url)),
        }
        await fill(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False), clients[NOBODY], place)
        timings = await in_turn({name: _asking(client) for name, client in clients.items()}, ROUNDS)
    title = f"{REQUESTS_A_ROUND} times the dashboard document, in process"
    report.table(title, COLUMNS, [timings.row(name, NOBODY) for name in clients])
    report.target("the dashboard document with metrics, to nobody looking", timings.ratio(METRICS, NOBODY), 1.05, "x")
    report.target("the dashboard document with metrics and traces, to nobody looking", timings.ratio(TRACES, NOBODY), 1.1, "x")


@contextlib.asynccontextmanager
async def _client(settings: Settings, url: str, *, observed: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    async with open_application(settings, url) as application:
        key = await ensure_local_key(application)
        services = application.services if observed else dataclasses.replace(application.services, telemetry=NO_TELEMETRY)
        transport = httpx.ASGITransport(create_app(services, ready=application.ready))
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://api.bench", headers=headers) as client:
            yield client


def _asking(client: httpx.AsyncClient) -> Callable[[], Awaitable[None]]:
    async def ask() -> None:
        for _ in range(REQUESTS_A_ROUND):
            answer = await client.post("/graphql", json={"query": DOCUMENT})
            assert answer.content.startswith(b'{"data"'), answer.text[:500]

    return ask


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    """Takes spans, and makes nothing of them."""
    with HTTPServer(("127.0.0.1", 0), _Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
