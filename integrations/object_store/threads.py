"""Blocking calls and iterators as asynchronous ones, in an executor of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_threads(executor: Executor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.wrap_future(executor.submit(copy_context().run, partial(function, *args, **kwargs)))


async def iterate_in_threads(executor: Executor, items: Generator[T, None, None]) -> AsyncGenerator[T, None]:
    """Advance a blocking generator in the executor's threads, one item ahead of the reader.

    At most two items are alive at a time. The generator is closed when the reader stops, also in the middle of a step.
    """
    step: Future[list[T]] = executor.submit(copy_context().run, _advance, items)
    try:
        while item := await asyncio.wrap_future(step):
            step = executor.submit(copy_context().run, _advance, items)
            yield item[0]
    finally:
        step.cancel()
        step.add_done_callback(lambda _: items.close())


def _advance(items: Generator[T, None, None]) -> list[T]:
    """The next item alone in a list; an empty list at the end (a future cannot carry `StopIteration`)."""
    try:
        return [next(items)]
    except StopIteration:
        return []
