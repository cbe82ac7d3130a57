"""The matrix: which fault befalls which step. The test-suite does the `SHORT` cells, `make chaos` all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from domain.steps import Step
from tests.chaos import crashes, database_faults, disk_faults, store_faults
from tests.chaos.bench import Bench, Cell
from tests.chaos.s3_proxy import Badness
from tests.chaos.world import Outcome

_BEFORE_AND_AFTER_THE_COMMIT = (Step.GUARDED, Step.COMMITTED)


def _in_a_world(fault: str, do: Callable[..., Awaitable[Outcome]], step: Step, *more: Any) -> Cell:
    async def in_one(bench: Bench) -> Outcome:
        async with bench.world(f"{fault} {step}") as world:
            return await do(world, step, *more)

    return Cell(fault, step, in_one)


def _crashes() -> Iterator[Cell]:
    for step in Step:
        yield _in_a_world("SIGKILL", crashes.killed, step)
    for step in Step:
        yield _in_a_world("SIGSTOP past the lease", crashes.stopped, step)
    for step, driver in _TRANSACTIONS:
        yield _in_a_world(f"SIGSTOP in the {driver} transaction after", crashes.stopped_in_a_transaction, step, driver)


_TRANSACTIONS = (
    (Step.STARTED, "asyncpg"),
    (Step.DISCOVERED, "asyncpg"),
    (Step.STAGED, "psycopg2"),
    (Step.GUARDED, "psycopg2"),
    (Step.COMMITTED, "asyncpg"),
    (Step.PROCESSED, "asyncpg"),
)
_RUN = (Step.STARTED, Step.LISTED, Step.CLAIMED, Step.WRITTEN, Step.GUARDED, Step.COMMITTED, Step.MARKED, Step.PROCESSED)
_OUTAGES = {
    "PostgreSQL killed and restarted": database_faults.killed,
    "PostgreSQL shut down at once": database_faults.shut_down_at_once,
    "PostgreSQL away for 1.5 leases": database_faults.away_for_longer_than_a_lease,
    "connections cut": database_faults.connections_cut,
}


def _database_faults() -> Iterator[Cell]:
    for fault, befall in _OUTAGES.items():
        yield Cell(fault, "while runs stand at several steps", database_faults.under_workers(befall, _RUN))
    for step in (Step.DISCOVERED, Step.CLAIMED, Step.COMMITTED, Step.PROCESSED):
        yield Cell("answer to COMMIT lost after", step, database_faults.answer_to_commit_lost(step, of_the_catalog=False))
    yield Cell(
        "answer to the catalog's COMMIT lost after",
        Step.GUARDED,
        database_faults.answer_to_commit_lost(Step.GUARDED, of_the_catalog=True),
    )


_REQUESTS = {
    "listing": store_faults.LISTING,
    "reading files": store_faults.READING,
    "writing data files": store_faults.WRITING_DATA,
    "writing metadata": store_faults.WRITING_METADATA,
    "reading metadata": store_faults.READING_METADATA,
}


def _store_faults() -> Iterator[Cell]:
    for badness in Badness:
        for step, pattern in _REQUESTS.items():
            if badness is Badness.ANSWER_LOST and not step.startswith("writing"):
                continue
            for often, which in (("once", {"times": 1}), ("always", {})):
                yield Cell(f"store: {badness}, {often}", step, store_faults.failing_store(badness, pattern, **which))


def _disk_faults() -> Iterator[Cell]:
    yield Cell("no file may be that large", "writing data files", disk_faults.no_room_for_a_data_file)
    for pages in range(0, 24, 2):
        yield Cell("disk full", f"{4 * pages} KiB left", disk_faults.no_space_left(pages))


CRASHES = tuple(_crashes())
DATABASE = tuple(_database_faults())
STORE = tuple(_store_faults())
DISK = tuple(_disk_faults())

SHORT_STEPS = {
    "SIGKILL": (
        *(Step.STARTED, Step.LISTED, Step.CLAIMED, Step.TABLE_CREATED, Step.WRITTEN, Step.GUARDED, Step.COMMITTED, Step.MARKED),
        *(Step.PROCESSED, Step.FENCED, Step.TABLE_DROPPED, Step.REMOVAL_WRITTEN),
    ),
    "SIGSTOP past the lease": (Step.CLAIMED, *_BEFORE_AND_AFTER_THE_COMMIT),
    "SIGSTOP in the psycopg2 transaction after": (Step.GUARDED,),
    "PostgreSQL killed and restarted": ("while runs stand at several steps",),
    "answer to the catalog's COMMIT lost after": (Step.GUARDED,),
    "store: 503 SlowDown, always": ("listing", "reading files"),
    "store: body cut short, once": ("listing", "reading files"),
    "store: 500, always": ("writing data files",),
    "store: done, and the answer lost, always": ("writing metadata",),
    "no file may be that large": ("writing data files",),
    "disk full": ("0 KiB left", "16 KiB left"),
}


def is_short(cell: Cell) -> bool:
    return cell.step in SHORT_STEPS.get(cell.fault, ())
