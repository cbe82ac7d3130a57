"""Looks at each configured component, and says in one line what is wrong with it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from autoloader.application import credential, engine_settings, spark_engine
from autoloader.orchestration import prefect_connection
from autoloader.settings import CredentialSettings, OidcSettings, Settings
from autoloader.stack import database_as_it_is
from domain.errors import DomainError
from domain.ingestions.entities import Destination
from integrations.engines.embedded import EmbeddedEngine
from integrations.identity.oidc import open_http
from integrations.identity.provider import Provider
from integrations.identity.signing_keys import SigningKeys
from integrations.object_store.s3_account import S3Account
from integrations.object_store.stores import ConfiguredObjectStores
from persistence.database import open_database
from persistence.migrations.revisions import newest_is_present

_PATIENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Finding:
    component: str
    good: bool
    says: str


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Findings one by one, bounded in time. An embedded database that is not up is started and migrated as `autoloader up` would."""
    async with AsyncExitStack() as stack:
        try:
            if settings.database_url is None:
                settings.landing.mkdir(parents=True, exist_ok=True)
            url = await stack.enter_async_context(database_as_it_is(settings))
        except Exception as error:
            yield Finding("database", False, _line(error))
        else:
            opened = open_database(url)
            stack.push_async_callback(opened.dispose)
            database = await _look("database", partial(_database, opened, url))
            yield database
            if database.good:
                yield await _look("migrations", partial(_migrations, opened))
                yield await _look("catalog", partial(_catalog, settings, url))
                if settings.spark_connect_url is not None:
                    yield await _look("spark", partial(_spark, settings, url))
        yield await _look("warehouse", partial(_warehouse, settings))
        if settings.prefect_api_url is not None:
            yield await _look("Prefect", partial(_prefect, settings))
        if settings.oidc is not None:
            yield await _look("identity provider", partial(_identity, settings.oidc))
        for root in settings.roots:
            yield await _look("local root", partial(_root, root))
        for name, given in settings.credentials.items():
            yield await _look(f"credential {name}", partial(_credential, name, given))


async def _look(component: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return Finding(component, True, await look())
    except TimeoutError:
        return Finding(component, False, f"no answer within {_PATIENCE_SECONDS:.0f} seconds")
    except Exception as error:
        return Finding(component, False, _line(error))


def _line(error: Exception) -> str:
    """The first line of what went wrong, without a URL's password: drivers do not print it, and neither do we."""
    cause = error.__cause__ if isinstance(error, DomainError) and error.__cause__ else error
    words = str(getattr(cause, "orig", None) or cause).strip()
    return words.splitlines()[0] if words else type(error).__name__


async def _database(database: AsyncEngine, url: str) -> str:
    async with database.connect() as connection:
        version = await connection.scalar(text("SHOW server_version"))
    return f"PostgreSQL {version} at {make_url(url).host}:{make_url(url).port}"


async def _migrations(database: AsyncEngine) -> str:
    return f"at the newest revision, {await newest_is_present(database)}"


async def _catalog(settings: Settings, url: str) -> str:
    engine = EmbeddedEngine(engine_settings(settings, url, settings.home), ConfiguredObjectStores({}))
    try:
        await engine.table_state(Destination("autoloader", "doctor", "nothing"))
    finally:
        await engine.close()
    return "Iceberg's SQL catalog answers"


async def _spark(settings: Settings, url: str) -> str:
    stores = ConfiguredObjectStores({})
    embedded = EmbeddedEngine(engine_settings(settings, url, settings.home), stores)
    spark = spark_engine(settings, url, settings.home, embedded, stores)
    try:
        return f"{await spark.version()} at {settings.spark_connect_url}"
    finally:
        await spark.close()
        await embedded.close()
        stores.close()


async def _warehouse(settings: Settings) -> str:
    parts = urlsplit(settings.warehouse_uri)
    if parts.scheme != "file":
        return f"{settings.warehouse_uri} (looked at by the first load)"
    folder = _there(Path(parts.path))
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} cannot be written to")
    return f"{settings.warehouse_uri}, {shutil.disk_usage(folder).free // 2**20} MiB free"


async def _prefect(settings: Settings) -> str:
    from integrations.prefect.connection import errors_named

    made = prefect_connection(settings)
    with errors_named(made.host):
        async with made.client() as client:
            version = await client.api_version()
            pools = {pool.name for pool in await client.read_work_pools()}
            if settings.prefect_work_pool not in pools:
                return f"{version} at {made.host}; the work pool {settings.prefect_work_pool} is made when the server starts"
            workers = await client.read_workers_for_work_pool(settings.prefect_work_pool)
    online = sum(worker.status == "ONLINE" for worker in workers)
    return f"{version} at {made.host}; {online} workers of the pool {settings.prefect_work_pool} are online"


async def _identity(given: OidcSettings) -> str:
    provider = Provider(**dict(given))
    async with open_http() as http:
        keys = await SigningKeys(provider, http).matching(lambda key: True)
    return f"{len(keys)} keys of {provider.issuer}"


def _there(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return folder if folder.exists() else _there(folder.parent)


async def _root(root: str) -> str:
    if not os.access(root, os.R_OK | os.X_OK):
        raise FileNotFoundError(f"{root} is not there or cannot be read")
    return root


async def _credential(name: str, given: CredentialSettings) -> str:
    account = S3Account(name, credential(given))
    return await asyncio.to_thread(_answers, account)


def _answers(account: S3Account) -> str:
    """By the request that every credential may send, though not each is answered with a list: it need not be allowed to have one."""
    where = account.endpoint or "AWS"
    try:
        account.client(quick=True).list_buckets(MaxBuckets=1)
    except ClientError as error:
        # The same code is the answer when a role may not be assumed.
        if (error.operation_name, error.response.get("Error", {}).get("Code")) != ("ListBuckets", "AccessDenied"):
            raise
        return f"known at {where}; it may not list buckets, and need not"
    return f"answers at {where}"
