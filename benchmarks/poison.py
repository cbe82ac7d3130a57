"""2,000 JSON files of which 100 are poison, and the same files without any: a bad file is to cost by itself, not by its batch."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.bench_stack import bench_stack, settings_in
from benchmarks.report import Report
from benchmarks.timing import COLUMNS, in_turn
from domain.runs.entities import Run, RunStatus

FILES = 2_000
POISON = 100
ROWS_PER_FILE = 100
ROUNDS = 5
TARGET = 2.0
_CLEAN, _POISONED = "2,000 clean files", "the same with 100 poison files"


async def measure(report: Report, place: Path) -> None:
    for name in ("clean", "poisoned"):
        await asyncio.to_thread(_write, place / name, POISON if name == "poisoned" else 0)
    async with bench_stack(settings_in(place)) as stack:
        waiting: dict[str, list[Run]] = {"clean": [], "poisoned": []}
        done: list[tuple[str, Run]] = []
        for _ in range(ROUNDS + 1):
            for name, runs in waiting.items():
                runs.append(await stack.queue(await stack.create({"type": "LOCAL", "path": str(place / name)}, {"type": "JSON"})))

        async def load(name: str) -> None:
            run = waiting[name].pop()
            await stack.execute(run)
            done.append((name, run))

        timings = await in_turn({_CLEAN: lambda: load("clean"), _POISONED: lambda: load("poisoned")}, ROUNDS)
        for name, run in done:
            poison = POISON if name == "poisoned" else 0
            ended = await stack.ended(run, RunStatus.PARTIAL if poison else RunStatus.SUCCESS)
            found = (ended.files_processed, ended.files_failed, ended.rows_written)
            assert found == (FILES - poison, poison, (FILES - poison) * ROWS_PER_FILE), found
    rows = [timings.row(name, _CLEAN) for name in timings.seconds]
    report.table(f"{FILES:,} JSON files of {ROWS_PER_FILE} rows", COLUMNS, rows)
    report.target("100 poison files of 2,000, to none", timings.ratio(_POISONED, _CLEAN), TARGET, "x")


def _write(folder: Path, poison: int) -> None:
    """Every so many files one is poison, in one of the ways in which files go bad."""
    folder.mkdir()
    every = FILES // poison if poison else 0
    for file in range(FILES):
        lines = [f'{{"id":{file * ROWS_PER_FILE + row},"name":"row {row}","amount":{row / 4}}}\n' for row in range(ROWS_PER_FILE)]
        content = "".join(lines).encode()
        if every and file % every == 0:
            content = _POISONS[file // every % len(_POISONS)](content)
        (folder / f"{file:05}.json").write_bytes(content)


_POISONS = (
    lambda content: content[: -len(content) // 3],
    lambda content: b"<html><body>502 Bad Gateway</body></html>\n",
    lambda content: content.replace(b"}", b"", 1),
    lambda content: content.replace(b"row 7", b"row \xff", 1),
    lambda content: content.replace(b'{"id"', b'["id"', 1),
)
