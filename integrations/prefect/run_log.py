"""What is logged within a flow run, told to Prefect too, whose interface shows it with the flow run.

A copy for whoever looks there: it is bounded, waits for nobody, and is lost while Prefect is away. The worker's own log has it all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import LogCreate
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException

from integrations.prefect.connection import PrefectConnection

log = logging.getLogger(__name__)

LINES_OF_A_FLOW_RUN = 500
_OURS = ("autoloader", "domain", "integrations", "persistence")
_KEPT = 2_000
_AT_ONCE = 200
_EVERY_SECONDS = 1.0
_LAST_SECONDS = 3.0


@dataclass(slots=True)
class _Told:
    flow_run_id: UUID
    lines: int = 0


_CURRENT: ContextVar[_Told | None] = ContextVar("told flow run", default=None)


@contextlib.contextmanager
def lines_of(flow_run_id: UUID) -> Iterator[None]:
    """What our code logs within the block, and in tasks and threads that inherit its context, is about this flow run."""
    token = _CURRENT.set(_Told(flow_run_id))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.asynccontextmanager
async def run_log(connection: PrefectConnection, formatter: logging.Formatter) -> AsyncIterator[None]:
    """Lines of flow runs are sent while the block runs, as the formatter writes them; it is to leave secrets out."""
    lines = _Lines(formatter)
    async with connection.client() as client:
        ending = asyncio.Event()
        sending = asyncio.create_task(lines.send_until(ending, client), name="lines for Prefect")
        for name in _OURS:
            logging.getLogger(name).addHandler(lines)
        try:
            yield
        finally:
            for name in _OURS:
                logging.getLogger(name).removeHandler(lines)
            ending.set()
            try:
                await asyncio.wait([sending], timeout=_LAST_SECONDS)
            finally:
                sending.cancel()
                await asyncio.wait([sending])


class _Lines(logging.Handler):
    """Those that have not been sent yet, the newest of them."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__(logging.INFO)
        self.setFormatter(formatter)
        self._waiting: deque[LogCreate] = deque(maxlen=_KEPT)
        self._sent = True

    def emit(self, record: logging.LogRecord) -> None:
        told = _CURRENT.get()
        if told is None or told.lines >= LINES_OF_A_FLOW_RUN:
            return
        told.lines += 1
        try:
            last = told.lines == LINES_OF_A_FLOW_RUN
            message = "there is more in the worker's log" if last else self.format(record)
            task = TaskRunContext.get()
            self._waiting.append(
                LogCreate(
                    name=record.name,
                    level=record.levelno,
                    message=message,
                    timestamp=datetime.fromtimestamp(record.created, UTC),
                    flow_run_id=told.flow_run_id,
                    task_run_id=task.task_run.id if task else None,
                )
            )
        except Exception:
            self.handleError(record)

    async def send_until(self, ending: asyncio.Event, client: PrefectClient) -> None:
        ended = False
        while not ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    await ending.wait()
            ended = ending.is_set()
            await self._send(client)

    async def _send(self, client: PrefectClient) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
            try:
                await client.create_logs(batch)
                self._sent = True
            except (httpx.HTTPError, PrefectException) as error:
                if self._sent:
                    log.warning("lines of flow runs cannot be sent to Prefect, and are only here: %r", error)
                self._sent = False
