"""Blocking work of the engine, away from the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class WorkerThreads:
    """A bounded number of threads, which write to the log with the caller's fields.

    A call that has begun runs to its end, also when nobody waits for it any more.
    """

    def __init__(self, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="embedded-engine")

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._executor.submit(copy_context().run, partial(function, *args, **kwargs)))

    async def run_to_end(self, function: Callable[[], T], *, stop: Callable[[], None] | None = None) -> T:
        """As `run`, but when the waiting task is cancelled it waits for the end, which `stop` is to bring near, and is cancelled then."""
        future = asyncio.ensure_future(self.run(function))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            await asyncio.wait([future])
            future.exception()
            raise

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
