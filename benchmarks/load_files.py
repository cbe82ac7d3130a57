"""2,000 JSON files of 63 KB into an Iceberg table, and DuckDB reading the same files into one Parquet file."""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

import duckdb

from benchmarks.bench_stack import bench_stack, settings_in
from benchmarks.report import Report
from benchmarks.timing import COLUMNS, in_turn
from domain.runs.entities import Run, RunStatus

FILES = 2_000
ROWS_PER_FILE = 300
ROUNDS = 5
TARGET = 1.5
_COLUMNS = {
    "id": "BIGINT",
    "ts": "TIMESTAMPTZ",
    "user_id": "BIGINT",
    "session": "VARCHAR",
    "page": "VARCHAR",
    "country": "VARCHAR",
    "amount": "DOUBLE",
    "latency_ms": "BIGINT",
    "new_user": "BOOLEAN",
    "agent": "VARCHAR",
}


async def measure(report: Report, place: Path) -> None:
    landing = place / "landing"
    size = await asyncio.to_thread(write_files, landing)
    async with bench_stack(settings_in(place)) as stack:
        waiting: list[Run] = []
        done: list[Run] = []
        for _ in range(ROUNDS + 1):
            source = {"type": "LOCAL", "path": str(landing), "glob": "*.json"}
            waiting.append(await stack.queue(await stack.create(source, {"type": "JSON"})))

        async def autoloader() -> None:
            done.append(waiting.pop())
            await stack.execute(done[-1])

        outputs = (place / f"{number}.parquet" for number in itertools.count())

        async def bound() -> None:
            await asyncio.to_thread(_duckdb, landing, next(outputs))

        timings = await in_turn({"DuckDB to one Parquet file": bound, "Autoloader to Iceberg": autoloader}, ROUNDS)
        for run in done:
            ended = await stack.ended(run, RunStatus.SUCCESS)
            assert (ended.files_processed, ended.rows_written) == (FILES, FILES * ROWS_PER_FILE)
    rows = [timings.row(name, "DuckDB to one Parquet file") for name in timings.seconds]
    report.table(f"{FILES:,} JSON files, {size / FILES / 1024:.0f} KB each, {FILES * ROWS_PER_FILE:,} rows", COLUMNS, rows)
    report.target("2,000 JSON files, to DuckDB's time", timings.ratio("Autoloader to Iceberg", "DuckDB to one Parquet file"), TARGET, "x")


def write_files(landing: Path) -> int:
    """The files; their size in bytes."""
    landing.mkdir()
    chance = random.Random(20130101)
    agents = [f"Mozilla/5.0 Firefox/{version}.0" for version in range(90, 140)]
    countries = ("DE", "FR", "US", "JP", "BR", "IN", "KE", "NZ")
    size = 0
    for file in range(FILES):
        day = f"2026-0{1 + file % 9}-{1 + file % 28:02}"
        lines = [
            f'{{"id":{file * ROWS_PER_FILE + row},"ts":"{day}T{row % 24:02}:{row % 60:02}:{file % 60:02}Z",'
            f'"user_id":{chance.randrange(10**6)},"session":"{chance.getrandbits(64):016x}","page":"/catalog/{chance.randrange(5_000)}",'
            f'"country":"{countries[row % 8]}","amount":{chance.randrange(10**6) / 100},"latency_ms":{chance.randrange(2_000)},'
            f'"new_user":{"true" if row % 3 else "false"},"agent":"{agents[row % 50]}"}}\n'
            for row in range(ROWS_PER_FILE)
        ]
        size += (landing / f"{file:05}.json").write_text("".join(lines))
    return size


def _duckdb(landing: Path, output: Path) -> None:
    """With the types given and two threads, as much of the machine as the engine may have."""
    with duckdb.connect(config={"threads": 2, "autoinstall_known_extensions": "false"}) as connection:
        columns = ", ".join(f"{name}: '{type}'" for name, type in _COLUMNS.items())
        read = f"read_json('{landing}/*.json', format = 'newline_delimited', columns = {{{columns}}})"
        connection.execute(f"COPY (SELECT * FROM {read}) TO '{output}' (FORMAT parquet)")
        [rows] = connection.execute(f"SELECT count(*) FROM '{output}'").fetchone() or (0,)
    assert rows == FILES * ROWS_PER_FILE
