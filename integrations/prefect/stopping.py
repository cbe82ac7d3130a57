"""How a worker stops the work of a flow run, and leaves it to the flow to end as it should.

Cancelling the engine itself would make the flow run pass through Crashed, and would leave no time to settle what is in hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class Stopping:
    """Asked once, for one of two reasons: the flow run is to be cancelled, or the worker goes."""

    def __init__(self) -> None:
        self.to_be_cancelled = False
        self._asked = asyncio.Event()

    def ask(self, *, to_be_cancelled: bool) -> None:
        if not self._asked.is_set():
            self.to_be_cancelled = to_be_cancelled
            self._asked.set()

    async def wait(self) -> None:
        await self._asked.wait()


CURRENT: ContextVar[Stopping | None] = ContextVar("stopping", default=None)
"""Set by a worker around each flow run; there is none where somebody calls the flow by hand."""


async def stoppable(work: Coroutine[Any, Any, T], when_cancelled: Callable[[], Awaitable[object]]) -> T | None:
    """What the work gives, or None when it was stopped; `when_cancelled` comes before that when the flow run is to be cancelled."""
    stopping = CURRENT.get()
    if stopping is None:
        return await work
    task = asyncio.create_task(work)
    asked = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            if stopping.to_be_cancelled:
                await when_cancelled()
            task.cancel()
            await asyncio.wait({task})
        return None if task.cancelled() else task.result()
    finally:
        asked.cancel()
        task.cancel()
        await asyncio.wait({asked, task})
