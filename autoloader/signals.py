"""Running until the end, or until somebody asks this process to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def run_stoppable(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns. SIGINT and SIGTERM cancel it, and cancel what it does about that when they come again.

    The event loop has a thread of its own: in the main thread Prefect's engine takes SIGTERM over while a flow runs, and raises
    in the middle of whatever is being done.
    """
    ended: Future[T] = Future()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []
    begun = threading.Event()

    async def stoppable() -> T:
        task = asyncio.current_task()
        assert task is not None
        stop.append((asyncio.get_running_loop(), task))
        begun.set()
        return await main

    def run() -> None:
        try:
            ended.set_result(asyncio.run(stoppable()))
        except BaseException as error:
            ended.set_exception(error)
        finally:
            begun.set()

    def ask(*_: object) -> None:
        # The loop may be closed already.
        with contextlib.suppress(RuntimeError):
            for loop, task in stop:
                loop.call_soon_threadsafe(task.cancel)

    thread = threading.Thread(target=run, name="event loop")
    thread.start()
    begun.wait()
    earlier = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        thread.join()
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
    return ended.result()
