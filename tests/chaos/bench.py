"""What the cells of the matrix are made with, and how they run: several at once, for most of a cell is waiting for a lease to expire."""

from __future__ import annotations

import asyncio
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.workers import Workers
from tests.chaos.world import Outcome, World, world
from tests.fixtures.s3_server import S3Bucket

_AT_ONCE = 4


@dataclass(frozen=True)
class Row:
    """A cell, done."""

    fault: str
    step: str
    outcome: Outcome


@dataclass(frozen=True)
class Bench:
    workers: Workers
    place: Path
    new_database: Callable[[], AbstractAsyncContextManager[str]]
    """A migrated database on the session's server, for as long as the block runs; its URL."""
    new_bucket: Callable[[], AbstractContextManager[S3Bucket]]
    own_postgres: Callable[[], Any]
    """A server that may be killed: an asynchronous context manager of `OwnPostgres`."""
    lease_seconds: float
    """Of the workers. The longer, the less it counts how long processes take to start."""

    @asynccontextmanager
    async def world(self, name: str, *, database_url: str | None = None, **options: Any) -> AsyncIterator[World]:
        place = self.place / re.sub(r"\W+", "-", name)
        if database_url is not None:
            async with world(self.workers, place, database_url, lease_seconds=self.lease_seconds, **options) as made:
                yield made
            return
        async with self.new_database() as url, world(self.workers, place, url, lease_seconds=self.lease_seconds, **options) as made:
            yield made


@dataclass(frozen=True)
class Cell:
    """`do` may be several rows, of what one fault does to several runs at once."""

    fault: str
    step: str
    do: Callable[[Bench], Awaitable[Outcome | dict[str, Outcome]]]

    async def rows(self, bench: Bench) -> list[Row]:
        """A cell that raises is a row that says so, so that the others are told too."""
        try:
            found = await self.do(bench)
        except Exception as error:
            traceback.print_exc()
            found = Outcome(lost=0, doubled=0, problems=[f"{type(error).__name__}: {error}"])
        return [Row(self.fault, step, outcome) for step, outcome in (found if isinstance(found, dict) else {self.step: found}).items()]


async def fill(bench: Bench, cells: Iterable[Cell]) -> list[Row]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(cell: Cell) -> list[Row]:
        async with slots:
            return await cell.rows(bench)

    return [row for rows in await asyncio.gather(*(one(cell) for cell in cells)) for row in rows]
