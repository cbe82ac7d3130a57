"""2,000 JSON files of 63 KB by the Spark engine, and by Spark's structured streaming as it comes, on the same local Spark.

Beside them the least that Spark can do: the same files named to it in one batch, their schema given, nothing checked and nothing counted;
and what the embedded engine does on the same machine, which is the engine to take for as little as this.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from autoloader.application import engine_settings
from autoloader.spark.jars import fetch_jars, jar_folder
from autoloader.spark.server import LocalSparkServer
from benchmarks.bench_stack import bench_stack, settings_in
from benchmarks.load_files import FILES, ROWS_PER_FILE, write_files
from benchmarks.report import Report
from benchmarks.timing import COLUMNS, in_turn
from domain.runs.entities import Run, RunStatus
from integrations.engines.spark.catalog import catalog_settings
from integrations.engines.spark.client import SparkConnectClient
from integrations.engines.spark.settings import SESSION_SETTINGS, SparkServer

ROUNDS = 3
TARGET = 0.2
_EMBEDDED = "Autoloader with its embedded engine"
_ENGINE, _STREAM = "Autoloader with Spark", "structured streaming, availableNow"
_BARE = "a bare batch: schema given, nothing checked"
_SCHEMA = (
    "id BIGINT, ts TIMESTAMP, user_id BIGINT, session STRING, page STRING, country STRING, amount DOUBLE, latency_ms BIGINT,"
    " new_user BOOLEAN, agent STRING"
)


async def measure(report: Report, place: Path) -> None:
    landing = place / "landing"
    size = await asyncio.to_thread(write_files, landing)
    token = secrets.token_urlsafe(16)
    server = LocalSparkServer(place / "spark", await asyncio.to_thread(fetch_jars, jar_folder()), token=token, memory="2g", cores=2)
    facts = await asyncio.to_thread(server.start)
    try:
        settings = settings_in(place).model_copy(update={"spark_connect_url": facts.url, "spark_token": SecretStr(token)})
        async with bench_stack(settings) as stack:
            waiting: dict[str, list[Run]] = {"SPARK": [], "EMBEDDED": []}
            done: list[Run] = []
            for engine, runs in waiting.items():
                for _ in range(ROUNDS + 1):
                    source = {"type": "LOCAL", "path": str(landing), "glob": "*.json"}
                    runs.append(await stack.queue(await stack.create(source, {"type": "JSON"}, execution={"engine": engine})))

            async def load(engine: str) -> None:
                done.append(waiting[engine].pop())
                await stack.execute(done[-1])

            catalog = catalog_settings(engine_settings(settings, stack.database_url, place))
            streams = _Streams(SparkServer(facts.url, token, catalog), landing, place)

            async def stream() -> None:
                await asyncio.to_thread(streams.load)

            async def bare() -> None:
                await asyncio.to_thread(streams.load_bare)

            engines = {_ENGINE: partial(load, "SPARK"), _EMBEDDED: partial(load, "EMBEDDED")}
            timings = await in_turn({_STREAM: stream, _BARE: bare, **engines}, ROUNDS)
            for run in done:
                ended = await stack.ended(run, RunStatus.SUCCESS)
                assert (ended.files_processed, ended.rows_written) == (FILES, FILES * ROWS_PER_FILE)
            await asyncio.to_thread(streams.close)
    finally:
        await asyncio.to_thread(server.stop)
    rows = [timings.row(name, _STREAM) for name in timings.seconds]
    report.table(f"{FILES:,} JSON files, {size / FILES / 1024:.0f} KB each, {FILES * ROWS_PER_FILE:,} rows, on local Spark", COLUMNS, rows)
    report.target("2,000 JSON files on Spark, to structured streaming's time", timings.ratio(_ENGINE, _STREAM), TARGET, "x")


class _Streams:
    """Loads the folder into a new table each time, the schema given: as a stream with Spark's own settings, or as a batch with ours."""

    def __init__(self, server: SparkServer, landing: Path, place: Path) -> None:
        self._client = SparkConnectClient(server)
        self._landing = landing
        self._place = place
        self._numbers = itertools.count()

    def load(self) -> None:
        session, table = self._client.connect(), self._new_table()
        for name in SESSION_SETTINGS:
            session.conf.unset(name)
        files = session.readStream.schema(_SCHEMA).json(str(self._landing))
        writer = files.writeStream.option("checkpointLocation", str(self._place / table)).trigger(availableNow=True)
        query = writer.format("iceberg").outputMode("append").toTable(table)
        query.awaitTermination()
        assert session.table(table).count() == FILES * ROWS_PER_FILE

    def load_bare(self) -> None:
        session, table = self._client.connect(), self._new_table()
        for name, value in SESSION_SETTINGS.items():
            session.conf.set(name, value)
        session.read.schema(_SCHEMA).json([path.as_uri() for path in sorted(self._landing.iterdir())]).writeTo(table).create()
        assert session.table(table).count() == FILES * ROWS_PER_FILE

    def _new_table(self) -> str:
        self._client.connect().sql("CREATE NAMESPACE IF NOT EXISTS autoloader.bench").collect()
        return f"autoloader.bench.loaded_{next(self._numbers)}"

    def close(self) -> None:
        self._client.close()
