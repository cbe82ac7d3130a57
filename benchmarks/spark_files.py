"""2,000 JSON files of 63 KB by the Spark engine, and by Spark's structured streaming as it comes, on the same local Spark."""

from __future__ import annotations

import asyncio
import itertools
import secrets
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

ROUNDS = 1
TARGET = 0.2
_ENGINE, _STREAM = "Autoloader with Spark", "structured streaming, availableNow"
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
            waiting: list[Run] = []
            done: list[Run] = []
            for _ in range(ROUNDS + 1):
                source = {"type": "LOCAL", "path": str(landing), "glob": "*.json"}
                waiting.append(await stack.queue(await stack.create(source, {"type": "JSON"}, execution={"engine": "SPARK"})))

            async def engine() -> None:
                done.append(waiting.pop())
                await stack.execute(done[-1])

            catalog = catalog_settings(engine_settings(settings, stack.database_url, place))
            streams = _Streams(SparkServer(facts.url, token, catalog), landing, place)

            async def stream() -> None:
                await asyncio.to_thread(streams.load)

            timings = await in_turn({_STREAM: stream, _ENGINE: engine}, ROUNDS)
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
    """Loads the folder into a new table each time, in a session with Spark's own settings, the schema given."""

    def __init__(self, server: SparkServer, landing: Path, place: Path) -> None:
        self._client = SparkConnectClient(server)
        self._landing = landing
        self._place = place
        self._numbers = itertools.count()

    def load(self) -> None:
        session = self._client.connect()
        for name in SESSION_SETTINGS:
            session.conf.unset(name)
        table = f"autoloader.bench.streamed_{next(self._numbers)}"
        session.sql("CREATE NAMESPACE IF NOT EXISTS autoloader.bench").collect()
        files = session.readStream.schema(_SCHEMA).json(str(self._landing))
        writer = files.writeStream.option("checkpointLocation", str(self._place / table)).trigger(availableNow=True)
        query = writer.format("iceberg").outputMode("append").toTable(table)
        query.awaitTermination()
        assert session.table(table).count() == FILES * ROWS_PER_FILE

    def close(self) -> None:
        self._client.close()
