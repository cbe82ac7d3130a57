"""What the commands run: the whole stack on one machine, or a worker of an installation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.applications import Starlette

from autoloader.application import Application, background_work, open_application
from autoloader.embedded.errors import EmbeddedPostgresInUseError
from autoloader.embedded.postgres import EmbeddedPostgres
from autoloader.local_key import ensure_local_key
from autoloader.local_prefect import LocalPrefect
from autoloader.orchestration import prefect_worker
from autoloader.serving import listening, metrics_of, serving
from autoloader.settings import Settings
from graphql_api.app import create_app
from graphql_api.probes import probe_routes
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


@contextlib.asynccontextmanager
async def database_as_it_is(settings: Settings) -> AsyncIterator[str]:
    """The URL of the database for those who only look: the configured one, whatever its schema, or the embedded one, beside whoever has it
    up. Where nobody has, it is up and migrated as long as the block runs.
    """
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url is not None:
            url = settings.database_url.get_secret_value()
        else:
            try:
                url = await stack.enter_async_context(database(settings))
            except EmbeddedPostgresInUseError:
                url = (await asyncio.to_thread(EmbeddedPostgres(settings.home / "postgres").found)).url()
        yield url


@contextlib.asynccontextmanager
async def _working(settings: Settings, *, prefect: bool) -> AsyncIterator[Application]:
    """The application over its database, doing background work and executing runs; with `prefect`, Prefect's too."""
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(database(settings))
        application = await stack.enter_async_context(open_application(settings, url))
        await stack.enter_async_context(background_work(application))
        if prefect:
            await stack.enter_async_context(prefect_worker(settings, application.flow_services))
        yield application


@dataclass(frozen=True, slots=True)
class Stack:
    """`url` is where the API listens, `key` this home's, if it has one. `local`: only this machine reaches it."""

    application: Application
    url: str
    key: str | None
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
        application = await stack.enter_async_context(_working(settings, prefect=prefect))
        key = await ensure_local_key(application)
        on = stack.enter_context(listening(settings.host, settings.port))
        app = create_app(
            application.services,
            ready=application.ready,
            ide=settings.ide,
            metrics=metrics_of(application, on),
        )
        await stack.enter_async_context(serving(app, on))
        stack.callback(application.services.streams.close)
        yield Stack(application, on.url, key, on.is_local)


@contextlib.asynccontextmanager
async def running_worker(settings: Settings) -> AsyncIterator[str | None]:
    """Runs are executed and the background work is done while the block runs; where its probes are, if they are served."""
    async with contextlib.AsyncExitStack() as stack:
        application = await stack.enter_async_context(_working(settings, prefect=settings.prefect_api_url is not None))
        if settings.worker_port is None:
            yield None
            return
        on = stack.enter_context(listening(settings.host, settings.worker_port))
        await stack.enter_async_context(serving(Starlette(routes=probe_routes(application.ready, metrics_of(application, on))), on))
        yield on.url
