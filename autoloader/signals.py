"""Running until the end, or until somebody asks this process to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_STOP = (signal.SIGINT, signal.SIGTERM)
_ENDED = b"\0"


def run_stoppable(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns. SIGINT and SIGTERM cancel it, and cancel what it does about that when they come again.

    The event loop has a thread of its own: in the main thread Prefect's engine takes SIGTERM over while a flow runs, and raises
    in the middle of whatever is being done.
    """
    ended: Future[T] = Future()
    begun = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def stoppable() -> T:
        task = asyncio.current_task()
        assert task is not None
        running.append((asyncio.get_running_loop(), task))
        begun.set()
        return await main

    def run(tell: socket.socket) -> None:
        try:
            ended.set_result(asyncio.run(stoppable()))
        except BaseException as error:
            ended.set_exception(error)
        finally:
            begun.set()
            tell.send(_ENDED)

    told, tell = socket.socketpair()
    with told, tell:
        tell.setblocking(False)
        thread = threading.Thread(target=run, args=(tell,), name="event loop")
        thread.start()
        begun.wait()
        with _signals_told_to(tell):
            while _ENDED not in (numbers := told.recv(64)):
                if set(numbers) & set(_STOP):
                    for loop, task in running:
                        with contextlib.suppress(RuntimeError):  # The loop has been closed.
                            loop.call_soon_threadsafe(task.cancel)
        thread.join()
    return ended.result()


@contextlib.contextmanager
def _signals_told_to(tell: socket.socket) -> Iterator[None]:
    """The numbers of signals are written there.

    For a thread that waits for another is not always woken by one: where a library has put a handler of its own before Python's,
    as polars does for SIGINT, the system goes on with the wait.
    """
    before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in _STOP}
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
