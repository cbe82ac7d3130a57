"""Blocking generators as asynchronous ones: one item ahead, and closed when nobody reads on."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from integrations.object_store.threads import iterate_in_threads


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


class Numbers:
    """Counts what was asked of it."""

    def __init__(self) -> None:
        self.given = 0
        self.closed = threading.Event()
        self.items = self._items()

    def _items(self) -> Generator[int, None, None]:
        try:
            for number in range(100):
                self.given += 1
                yield number
        finally:
            self.closed.set()


async def test_hands_out_everything_in_order(executor: ThreadPoolExecutor) -> None:
    assert [number async for number in iterate_in_threads(executor, Numbers().items)] == list(range(100))


async def test_is_one_item_ahead_and_no_more(executor: ThreadPoolExecutor) -> None:
    numbers = Numbers()
    ahead = iterate_in_threads(executor, numbers.items)
    assert [await anext(ahead), await anext(ahead)] == [0, 1]
    executor.submit(lambda: None).result()
    assert numbers.given == 3
    await ahead.aclose()


async def test_is_closed_when_nobody_reads_on(executor: ThreadPoolExecutor) -> None:
    numbers = Numbers()
    ahead = iterate_in_threads(executor, numbers.items)
    await anext(ahead)
    await ahead.aclose()
    assert numbers.closed.wait(10)
    assert numbers.given <= 2


async def test_an_error_arrives_where_it_happened(executor: ThreadPoolExecutor) -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise OSError("broken")

    ahead = iterate_in_threads(executor, failing())
    assert await anext(ahead) == 1
    with pytest.raises(OSError, match="broken"):
        await anext(ahead)
