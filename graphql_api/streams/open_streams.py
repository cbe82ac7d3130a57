"""The open streams of this process: how many there may be, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from domain.errors import LimitExceededError, UnavailableError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How many at once; and how long a client may take before it says who it is and over one message that it is sent, and a
    credential is believed without asking again."""

    connections: int = 1_000
    connections_of_tenant: int = 200
    subscriptions: int = 2_000
    subscriptions_of_tenant: int = 500
    subscriptions_of_connection: int = 50
    init_seconds: float = 10.0
    send_seconds: float = 30.0
    believed_seconds: float = 30.0


class Ending(Enum):
    """Why the server ends a connection: the code of the WebSocket's close, and its reason."""

    CREDENTIAL = (4403, "Forbidden")
    SERVER = (1012, "The server is stopping.")
    TOO_SLOW = (1008, "The client takes too long over what it is sent.")
    UNEXPECTED = (1011, "Internal error. The server's log tells more.")


class OpenConnection:
    """One connection, from before anybody knows whose it is."""

    def __init__(self, streams: OpenStreams) -> None:
        self._streams = streams
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._tenant: contextlib.ExitStack = contextlib.ExitStack()
        self._checking: asyncio.Task[None] | None = None

    @property
    def limits(self) -> StreamLimits:
        return self._streams.limits

    def admit(self, tenant_id: UUID, still_good: Callable[[], Awaitable[bool]]) -> None:
        """It is the tenant's, as long as the credential is good. Raises `LimitExceededError`."""
        self._tenant.enter_context(self._streams.connection_of(tenant_id))
        self._checking = asyncio.create_task(self._check(still_good), name="credential of a stream")

    def end(self, ending: Ending) -> None:
        if not self._ended.done():
            self._ended.set_result(ending)

    async def ended(self) -> Ending:
        """Return when the server wants it ended."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        self._tenant.close()
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.wait([self._checking])

    async def _check(self, still_good: Callable[[], Awaitable[bool]]) -> None:
        while True:
            await asyncio.sleep(self.limits.believed_seconds)
            try:
                if not await still_good():
                    self.end(Ending.CREDENTIAL)
                    return
            except UnavailableError:
                continue
            except Exception:
                log.exception("a stream's credential could not be checked")


class OpenStreams:
    def __init__(self, limits: StreamLimits | None = None) -> None:
        self.limits = limits or StreamLimits()
        self._connections: set[OpenConnection] = set()
        self._connections_of: Counter[UUID] = Counter()
        self._subscriptions_of: Counter[UUID] = Counter()
        self._closing = False

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[OpenConnection]:
        """A connection, counted while the block runs. Raises `LimitExceededError`, and `UnavailableError` when the server stops."""
        if self._closing:
            raise UnavailableError("the server is stopping")
        if len(self._connections) >= self.limits.connections:
            raise LimitExceededError(f"the server has {self.limits.connections} open streams, and takes no more")
        connection = OpenConnection(self)
        self._connections.add(connection)
        try:
            yield connection
        finally:
            self._connections.discard(connection)
            await connection.close()

    def connection_of(self, tenant_id: UUID) -> contextlib.AbstractContextManager[None]:
        """Count the connection as the tenant's, too."""
        return _counted(self._connections_of, tenant_id, self.limits.connections_of_tenant, "open streams")

    @contextlib.contextmanager
    def subscription(self, tenant_id: UUID) -> Iterator[None]:
        """A subscription, counted while the block runs. Raises `LimitExceededError`."""
        if self._subscriptions_of.total() >= self.limits.subscriptions:
            raise LimitExceededError(f"the server has {self.limits.subscriptions} subscriptions, and takes no more")
        with _counted(self._subscriptions_of, tenant_id, self.limits.subscriptions_of_tenant, "subscriptions"):
            yield

    def close(self) -> None:
        """End every connection, and take no more: clients that connect again find another process, or this one's successor."""
        self._closing = True
        for connection in self._connections:
            connection.end(Ending.SERVER)


@contextlib.contextmanager
def _counted(counter: Counter[UUID], tenant_id: UUID, limit: int, what: str) -> Iterator[None]:
    if counter[tenant_id] >= limit:
        raise LimitExceededError(f"your tenant has {limit} {what}, and may have no more")
    counter[tenant_id] += 1
    try:
        yield
    finally:
        counter[tenant_id] -= 1
        if not counter[tenant_id]:
            del counter[tenant_id]
