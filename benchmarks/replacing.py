"""One changed file replaced in a table of many data files, against one new file added to it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks.bench_stack import BenchStack, bench_stack, settings_in
from benchmarks.report import Report
from benchmarks.timing import COLUMNS, in_turn
from domain.ingestions.entities import Ingestion
from domain.runs.entities import Run, RunStatus

BATCHES = 60
FILES_PER_BATCH = 20
ROWS_PER_FILE = 500
ROUNDS = 5
TARGET = 2.0
_ADDED, _REPLACED = "a new file", "a changed file"


async def measure(report: Report, place: Path) -> None:
    landing = place / "landing"
    landing.mkdir()
    async with bench_stack(settings_in(place)) as stack:
        ingestion = await stack.create({"type": "LOCAL", "path": str(landing)}, {"type": "JSON"}, policies={"changed_files": "REPLACE"})
        for batch in range(BATCHES):
            for file in range(FILES_PER_BATCH):
                # Names that say nothing of when a file came, so that each data file's paths reach over all the others'.
                _write(landing / f"{file:02}-{batch:03}.json", file)
            await _load(stack, ingestion, FILES_PER_BATCH)
        names = itertools.count(BATCHES)
        waiting: list[Run] = []

        async def land_new() -> None:
            _write(landing / f"00-{next(names):03}.json", 0)
            waiting.append(await stack.queue(ingestion))

        changing = itertools.cycle(range(0, BATCHES, 7))

        async def change_one() -> None:
            _write(landing / f"07-{next(changing):03}.json", 7, more=next(names))
            waiting.append(await stack.queue(ingestion))

        async def execute() -> None:
            await stack.execute(waiting[-1])

        subjects: dict[str, Callable[[], Awaitable[None]]] = {_ADDED: execute, _REPLACED: execute}
        timings = await in_turn(subjects, ROUNDS, before={_ADDED: land_new, _REPLACED: change_one})
        for run in waiting:
            assert (await stack.ended(run, RunStatus.SUCCESS)).files_processed == 1
    rows = [timings.row(name, _ADDED) for name in timings.seconds]
    shape = f"{BATCHES} data files of {FILES_PER_BATCH * ROWS_PER_FILE:,} rows from {FILES_PER_BATCH} files each"
    report.table(f"a run of one file into a table of {shape}", COLUMNS, rows)
    report.target("one changed file, to one new file", timings.ratio(_REPLACED, _ADDED), TARGET, "x")


async def _load(stack: BenchStack, ingestion: Ingestion, files: int) -> None:
    run = await stack.queue(ingestion)
    await stack.execute(run)
    assert (await stack.ended(run, RunStatus.SUCCESS)).files_processed == files


def _write(path: Path, seed: int, *, more: int = 0) -> None:
    path.write_text(
        "".join(f'{{"id": {seed * ROWS_PER_FILE + row}, "name": "row {row} of {seed}", "more": {more}}}\n' for row in range(ROWS_PER_FILE))
    )
