"""The whole stack on one machine: database, application, background work, HTTP server."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import uvicorn
from pydantic import SecretStr

from autoloader.application import Application, background_work, open_application
from autoloader.embedded.postgres import EmbeddedPostgres
from autoloader.local_key import ensure_local_key
from autoloader.local_prefect import LocalPrefect
from autoloader.orchestration import prefect_worker
from autoloader.settings import Settings
from graphql_api.app import create_app
from graphql_api.probes import MetricsPage
from graphql_api.streams.web_sockets import MAX_MESSAGE_BYTES
from integrations.telemetry.metrics import CONTENT_TYPE
from persistence.migrations import upgrade


@contextlib.asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[str]:
    """The URL of a migrated database: the configured one, or the embedded one, up as long as the block runs."""
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
        else:
            facts = await stack.enter_async_context(EmbeddedPostgres(settings.home / "postgres"))
            url = facts.url()
        await asyncio.to_thread(upgrade, url)
        yield url


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command line's business."""
        yield


@dataclass(frozen=True, slots=True)
class Stack:
    """`url` is where the API listens, `key` the local tenant's. `local`: only this machine reaches it."""

    application: Application
    url: str
    key: str
    local: bool


@contextlib.asynccontextmanager
async def running_stack(settings: Settings, *, prefect: bool = False) -> AsyncIterator[Stack]:
    """Everything up and serving while the block runs. Stops in the order in which nothing is lost: server, runs, database.

    With `prefect` runs are executed here for Prefect: the configured one, or a server of our own.
    """
    async with contextlib.AsyncExitStack() as stack:
        if prefect and settings.prefect_api_url is None:
            server = await stack.enter_async_context(LocalPrefect(settings.home / "prefect", settings.prefect_port))
            settings = settings.model_copy(update={"prefect_api_url": server.api_url, "prefect_auth_string": SecretStr(server.auth_string)})
        url = await stack.enter_async_context(database(settings))
        application = await stack.enter_async_context(open_application(settings, url))
        key = await ensure_local_key(application)
        await stack.enter_async_context(background_work(application))
        if prefect:
            await stack.enter_async_context(prefect_worker(settings, application.flow_services))
        listening = socket.create_server((settings.host, settings.port))
        stack.callback(listening.close)
        local = ipaddress.ip_address(listening.getsockname()[0]).is_loopback
        token = settings.metrics_token
        metrics = MetricsPage(application.metrics_page, CONTENT_TYPE, token.get_secret_value() if token else None, local)
        app = create_app(application.services, ready=application.ready, ide=settings.ide, local_key=key if local else None, metrics=metrics)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            # Compression would keep a window of each connection in memory.
            ws_per_message_deflate=False,
        )
        http = _Server(config)
        serving = asyncio.create_task(http.serve(sockets=[listening]), name="http server")
        stack.push_async_callback(_stopped, http, serving)
        stack.callback(application.services.streams.close)
        host, port = listening.getsockname()[:2]
        yield Stack(application, f"http://{host}:{port}", key, local)


async def _stopped(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    server.should_exit = True
    await serving
