"""The way to the database: one pool, with what every connection of it is set to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import exc, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

from domain.errors import UnavailableError
from persistence.row_security import TENANT_SETTING

_DOWN = (
    OSError,
    exc.OperationalError,
    exc.InterfaceError,
    exc.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)
"""How it shows, in the drivers' words, that there is no database to talk to."""


_NOT_AVAILABLE = "the database is not available"


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


_UNKNOWN = UUID(int=0)
"""No tenant has this id."""


class _Connection(asyncpg.Connection):
    """Says on behalf of which tenant it works: in a transaction with its BEGIN, so that this costs no trip of its own."""

    transaction_tenant: UUID | None = None
    reading_tenant: UUID | None = None

    async def execute(self, query: str, *args: object, **options: Any) -> str:
        if query.startswith("BEGIN") and self.transaction_tenant != self.reading_tenant:
            query += f" SET LOCAL {_setting(self.transaction_tenant)};"
        return await super().execute(query, *args, **options)

    async def read_for(self, tenant_id: UUID | None) -> None:
        """Outside transactions the setting stays as it is, so that the next statement for the same tenant need not say it again."""
        if self.reading_tenant != tenant_id:
            # If this is interrupted, nobody knows which of the two it is.
            self.reading_tenant = _UNKNOWN
            await self.execute(f"SET {_setting(tenant_id)}")
            self.reading_tenant = tenant_id


def _setting(tenant_id: UUID | None) -> str:
    return f"{TENANT_SETTING} = '{tenant_id or ''}'"


class _Pool(AsyncAdaptedQueuePool):
    """Knows how many wait for a connection, be it one that is in use or one that is being made."""

    # Pools log under their module's name: what this one says is the library's, and as quiet as the library is kept.
    __module__ = AsyncAdaptedQueuePool.__module__
    waiting = 0

    def _do_get(self) -> ConnectionPoolEntry:
        self.waiting += 1
        try:
            return super()._do_get()
        finally:
            self.waiting -= 1


def connections_in_use(database: AsyncEngine) -> int:
    return _pool(database).checkedout()


def waiting_for_connections(database: AsyncEngine) -> int:
    return _pool(database).waiting


def _pool(database: AsyncEngine) -> _Pool:
    pool = database.pool
    assert isinstance(pool, _Pool)
    return pool


def open_database(
    url: str,
    *,
    role: str | None = None,
    pool_size: int = 10,
    statement_timeout_seconds: float = 30.0,
    idle_transaction_seconds: float = 60.0,
    read_only: bool = False,
    application: str = "autoloader",
) -> AsyncEngine:
    """`url` is a PostgreSQL URL of any driver. Connections are opened when first needed, and checked before each use.

    They act as `role` (see `persistence.row_security`), or as the user whom the URL names. A transaction whose client says nothing
    for `idle_transaction_seconds` is rolled back: a process that was stopped must not hold rows locked that others wait for.
    """
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        poolclass=_Pool,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        pool_pre_ping=True,
        # Errors and logs tell the statement; what was in it is the tenants'.
        hide_parameters=True,
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        connect_args={
            "timeout": 10,
            "connection_class": _Connection,
            "server_settings": ({} if role is None else {"role": role})
            | {
                "application_name": application,
                "timezone": "UTC",
                "statement_timeout": str(int(statement_timeout_seconds * 1000)),
                "default_transaction_read_only": "on" if read_only else "off",
                "idle_in_transaction_session_timeout": str(int(idle_transaction_seconds * 1000)),
                "jit": "off",
            },
        },
    )


@asynccontextmanager
async def transaction(database: AsyncEngine, tenant_id: UUID | None = None) -> AsyncIterator[AsyncConnection]:
    """Commits at the end of the block, rolls back when an exception leaves it. Raises `UnavailableError` without a database.

    On behalf of the tenant alone, or of nobody.
    """
    with _told():
        async with database.connect() as opened, _on_behalf_of(tenant_id, opened), opened.begin():
            yield opened


@asynccontextmanager
async def connection(database: AsyncEngine, tenant_id: UUID | None = None) -> AsyncIterator[AsyncConnection]:
    """For reading; on behalf of the tenant, or of nobody. Raises `UnavailableError` without a database."""
    with _told():
        async with database.connect() as opened, _on_behalf_of(tenant_id, opened) as driver:
            await driver.read_for(tenant_id)
            yield opened


@asynccontextmanager
async def _on_behalf_of(tenant_id: UUID | None, opened: AsyncConnection) -> AsyncIterator[_Connection]:
    driver = (await opened.get_raw_connection()).driver_connection
    assert isinstance(driver, _Connection)
    driver.transaction_tenant = tenant_id
    try:
        yield driver
    finally:
        driver.transaction_tenant = None


@contextmanager
def _told() -> Iterator[None]:
    before = _cancellations()
    try:
        yield
    except (*_DOWN, exc.DBAPIError) as error:
        if _cancellations() > before:
            # The rollback of a statement that was cancelled may fail with a complaint of the driver's, which took the cancellation's
            # place; who catches errors and goes on would never end.
            raise asyncio.CancelledError from error
        _tell(error)
        raise


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _tell(error: BaseException) -> None:
    """Raises `UnavailableError` when the error says that there is no database to talk to."""
    if isinstance(error, _DOWN):
        # The cause goes to logs; its words name hosts and users.
        raise UnavailableError(_NOT_AVAILABLE) from error
    # A wrong password, say, comes as no more than this, around what the driver said.
    if isinstance(error, exc.DBAPIError) and isinstance(error.orig, BaseException) and isinstance(error.orig.__cause__, _DOWN):
        raise UnavailableError(_NOT_AVAILABLE) from error
