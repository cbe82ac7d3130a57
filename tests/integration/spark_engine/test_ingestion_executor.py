"""The executor against a real server: from files to rows, epochs and what is told of them."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ValidationError
from domain.ingestions.entities import BadRowPolicy, ColumnHint, FormatSpec, FormatType, Policies, SchemaEvolution
from domain.ports.engine import TableUnavailableError
from domain.ports.streaming import StreamMetrics, StreamOrder
from integrations.engines.spark.engine import SparkEngine
from integrations.engines.spark.ingestion_executor import IngestionExecutor
from integrations.engines.spark.session_pool import SessionPool
from tests.contracts.engine_contract import lines
from tests.fixtures.engine_bench import EngineBench


@dataclass
class Streams:
    """One ingestion's stream, and what its executor has told."""

    bench: EngineBench
    checkpoint: str
    commits: list[int] = field(default_factory=list)
    """How many epochs the table had, each time it was said that some were committed."""

    @property
    def engine(self) -> SparkEngine:
        assert isinstance(self.bench.engine, SparkEngine)
        return self.bench.engine

    @property
    def executor(self) -> IngestionExecutor:
        return self.engine.streams

    @property
    def pool(self) -> SessionPool[Any]:
        return self.engine._sessions.pool

    async def order(self, **fields: Any) -> StreamOrder:
        """`layout`, `hints`, `glob` and `evolution` as an ingestion has them; the rest as the order has it."""
        source = replace(self.bench.source, glob=fields.pop("glob", None))
        format = FormatSpec(FormatType.JSON, {"layout": fields.pop("layout", "LINES")}, fields.pop("hints", ()))
        evolution = fields.pop("evolution", SchemaEvolution.ADD_NEW_COLUMNS)
        given = {
            "run_id": uuid4(),
            "source": source,
            "grants": self.bench.grants,
            "format": format,
            "destination": self.bench.destination,
            "policies": Policies(bad_rows=BadRowPolicy.RESCUE, schema_evolution=evolution),
            "checkpoint": self.checkpoint,
            "samples": await self.bench.objects(),
            "max_files": 100,
        }
        return StreamOrder(**given | fields)

    async def execute(self, **fields: Any) -> StreamMetrics:
        return await self.executor.execute(await self.order(**fields), self.committed)

    async def committed(self) -> None:
        self.commits.append(len(await self.epochs()))

    async def epochs(self) -> Sequence[dict[str, tuple[int, int]]]:
        """What each epoch in the table has brought, by file name: rows, and those of them that were rescued."""
        history = await self.executor.history(self.bench.destination, table_uuid=None, checkpoint=self.checkpoint)
        assert [commit.epoch for commit in history.commits] == list(range(len(history.commits)))
        told = []
        for commit in history.commits:
            files = await self.executor.files_of(self.bench.destination, table_uuid=history.table_uuid, commit=commit)
            told.append({str(Path(file.path).relative_to(self.bench.folder)): (file.rows, file.rows_rescued) for file in files})
        return told


@pytest.fixture
def streams(bench: EngineBench, tmp_path: Path) -> Streams:
    return Streams(bench, f"file://{tmp_path}/checkpoints/1")


@pytest.mark.scenario(92)
async def test_files_become_rows_once_by_epochs(streams: Streams) -> None:
    bench = streams.bench
    bench.land("a.json", lines({"id": 1}, {"id": 2}))
    bench.land("deep/er/b.json", lines({"id": 3}))
    bench.land("empty.json", "")
    run_id = uuid4()

    metrics = await streams.execute(run_id=run_id, max_files=2)

    assert bench.rows("id", "_source_file", "_batch_id", "_rescued_data") == [
        (1, str(bench.folder / "a.json"), str(run_id), None),
        (2, str(bench.folder / "a.json"), str(run_id), None),
        (3, str(bench.folder / "deep/er/b.json"), str(run_id), None),
    ]
    epochs = await streams.epochs()
    assert {name: rows for epoch in epochs for name, rows in epoch.items()} == {"a.json": (2, 0), "deep/er/b.json": (1, 0)}
    assert (metrics.rows, metrics.files, metrics.epochs, len(epochs)) == (3, 2, 2, 2)
    # Whoever fills the ledger was told after each commit, or once after several.
    assert streams.commits
    assert streams.commits[-1] == 2

    # An old date is no reason to pass a file over that lands now.
    os.utime(bench.land("late.json", lines({"id": 4})), (1_000_000_000, 1_000_000_000))
    bench.land("a.json", lines({"id": 9}))
    again = await streams.execute()

    assert (again.rows, again.files, again.epochs) == (1, 1, 1)
    assert bench.rows("id") == [1, 2, 3, 4]
    assert (await streams.execute()) == StreamMetrics()


@pytest.mark.scenario(93)
async def test_the_metrics_are_the_querys_own(streams: Streams) -> None:
    streams.bench.land("a.json", lines({"id": 1}, {"id": 2}) + "no JSON\n")
    streams.bench.land("b.json", lines({"id": 3}))

    metrics = await streams.execute()

    assert (metrics.rows, metrics.rows_rescued, metrics.files, metrics.epochs) == (4, 1, 2, 1)
    assert metrics.seconds > 0


@pytest.mark.scenario(94)
async def test_a_session_is_given_back_and_after_a_failure_it_is_not_used_again(streams: Streams) -> None:
    bench, pool = streams.bench, streams.pool
    bench.land("a.json", lines({"id": 1}))
    await streams.execute()
    assert pool.idle == 1
    used = pool.get_client(bench.grants)
    pool.return_client(used, bench.grants)

    bench.land("broken.json.gz", gzip.compress(lines({"id": 2}).encode())[:-4])
    with pytest.raises(TableUnavailableError, match=r"^Spark failed \(\w+\); the server's log tells more$"):
        await streams.execute(samples=())

    assert pool.idle == 0
    assert not used.is_alive()
    # What cannot be read holds the stream up until it is whole, or gone; then nothing of it is lost or twice.
    bench.land("broken.json.gz", gzip.compress(lines({"id": 2}).encode()))
    await streams.execute()
    assert bench.rows("id") == [1, 2]
    assert pool.idle == 1


@pytest.mark.scenario(95)
async def test_a_preview_shows_columns_and_rows_and_writes_nothing(streams: Streams) -> None:
    bench = streams.bench
    bench.land("a.json", lines({"id": 1, "at": {"x": 1.5}}, {"id": 2}))

    preview = await streams.executor.preview(
        bench.source, bench.grants, FormatSpec(FormatType.JSON, {}, (ColumnHint("id", "string"),)), await bench.objects(), limit=1
    )

    assert [(column.name, column.type) for column in preview.schema.columns] == [("id", "string"), ("at", "struct<x: double>")]
    assert list(preview.rows) == [{"id": "1", "at": {"x": 1.5}}]
    assert await bench.engine.table_state(bench.destination) is None


async def test_what_has_no_place_is_kept_raw(streams: Streams) -> None:
    """The columns are those of the samples: of what comes later, nobody has seen the fields before it is loaded."""
    bench = streams.bench
    bench.land("a.json", lines({"id": 1, "at": {"x": 1}, "tags": ["a"], "deep": [{"k": 1}]}))
    samples = await bench.objects()
    strange = [
        {"id": "one"},
        {"id": 2, "new": 1},
        {"id": 3, "at": {"x": 1, "y": 2}},
        {"id": 4, "deep": [{"k": 1}, {"l": 2}]},
        {"ID": 5},
        {"id": 2**70},
        {"id": 6, "at": 7},
    ]
    fine = [{"id": 7, "new": None, "at": {"y": None}}, {"tags": []}, {"id": 8.0}]
    bench.land("b.json", lines(*strange, *fine) + '[1]\n{"id": 9}{"id": 10}\n{"id": 11,"id": 12}\n\n  \n{"id": 1')
    bench.land("c.json", b'{"id": 13, "tags": ["\xff"]}\n')

    metrics = await streams.execute(samples=samples)

    kept = [row for row in bench.rows() if row["_rescued_data"] is not None]
    raw = [json.dumps(row) for row in strange] + ["[1]", '{"id": 9}{"id": 10}', '{"id": 11,"id": 12}', '{"id": 1']
    raw.append('{"id": 13, "tags": ["\N{REPLACEMENT CHARACTER}"]}')
    assert sorted(row["_rescued_data"] for row in kept) == sorted(raw)
    # What of such a row fits is in its columns.
    assert sorted(row["id"] for row in kept if row["id"] is not None) == [2, 3, 4, 6]
    assert [row["id"] for row in bench.rows() if row["_rescued_data"] is None] == [1, 7, 8, None]
    assert metrics.rows == len(bench.rows()) == 1 + len(strange) + len(fine) + 5
    assert (metrics.rows_rescued, metrics.files) == (len(kept), 3)


async def test_a_kept_rows_text_is_what_a_batch_keeps_of_it(streams: Streams) -> None:
    """Without what is around it, be it blanks or the other half of a line's end."""
    bench, hints = streams.bench, (ColumnHint("id", "long"),)
    bench.land("a.json", ' {"id": 1}\r\n\t{"id": "one"} \r\n  no JSON\t\r\n')
    await streams.execute(hints=hints)
    streamed = bench.rows("id", "_rescued_data")

    bench.destination = replace(bench.destination, table="by_batch")
    await bench.load(hints={"id": "long"}, bad_rows=BadRowPolicy.RESCUE)

    assert streamed == bench.rows("id", "_rescued_data")
    assert streamed == [(1, None), (None, "no JSON"), (None, '{"id": "one"}')]


async def test_new_columns_and_hints_come_from_files_that_wait(streams: Streams) -> None:
    bench = streams.bench
    hints = (ColumnHint("at", "timestamptz"), ColumnHint("price", "decimal(10, 2)"))
    bench.destination = replace(bench.destination, partition_by=("day(at)", "bucket(4, id)"), sort_by=("id",))
    bench.land("a.json", lines({"id": 1, "at": "2026-01-01T00:00:00Z"}, {"id": 2, "at": "2026-01-02T00:00:00Z"}))
    await streams.execute(hints=hints)

    bench.land("b.json", lines({"id": 3, "at": "2026-01-02T00:00:00Z", "price": 1.25, "new": {"x": [1]}}))
    await streams.execute(hints=hints)

    state = await bench.engine.table_state(bench.destination)
    assert state is not None
    assert [(column.name, column.type) for column in state.schema.columns] == [
        ("id", "long"),
        ("at", "timestamptz"),
        ("price", "decimal(10, 2)"),
        ("new", "struct<x: list<long>>"),
    ]
    assert [row["_rescued_data"] for row in bench.rows()] == [None, None, None]
    assert str(bench.rows("price")[0]) == "1.25"


@pytest.mark.parametrize(("evolution", "rescued"), [(SchemaEvolution.RESCUE, ['{"id": 2, "new": 1}']), (SchemaEvolution.IGNORE, [])])
async def test_a_table_may_keep_its_columns(streams: Streams, evolution: SchemaEvolution, rescued: list[str]) -> None:
    streams.bench.land("a.json", lines({"id": 1}))
    await streams.execute(evolution=evolution)

    streams.bench.land("b.json", lines({"id": 2, "new": 1}))
    await streams.execute(evolution=evolution)

    assert streams.bench.rows("id") == [1, 2]
    assert [text for text in streams.bench.rows("_rescued_data") if text is not None] == rescued
    state = await streams.bench.engine.table_state(streams.bench.destination)
    assert state is not None
    assert [column.name for column in state.schema.columns] == ["id"]


async def test_arrays_are_read_whole(streams: Streams) -> None:
    streams.bench.land("a.json", json.dumps([{"id": 1}, {"id": 2}], indent=2))
    samples = await streams.bench.objects()
    streams.bench.land("b.json", " [{}, 3, {\r\n")
    streams.bench.land("c.json", '[{"id": 4}, 5]')

    await streams.execute(layout="ARRAY", samples=samples)

    assert streams.bench.rows("id", "_rescued_data") == [(1, None), (2, None), (4, None), (None, "5"), (None, "[{}, 3, {")]


@pytest.mark.parametrize(
    ("glob", "loaded"),
    [
        (None, {"a.json", "a%41 +.json", "x/b.json", "x/y/c.json", "x[1]/e.json", "d.txt"}),
        ("*.json", {"a.json", "a%41 +.json"}),
        ("**/*.json", {"a.json", "a%41 +.json", "x/b.json", "x/y/c.json", "x[1]/e.json"}),
        ("*/{b,c}.json", {"x/b.json"}),
        ("**/[!a-b]*.json", {"x/y/c.json", "x[1]/e.json"}),
    ],
)
async def test_globs_mean_what_they_mean_elsewhere(streams: Streams, glob: str | None, loaded: set[str]) -> None:
    for name in ("a.json", "a%41 +.json", "x/b.json", "x/y/c.json", "x[1]/e.json", "d.txt"):
        streams.bench.land(name, lines({"id": 1}))

    await streams.execute(glob=glob)

    assert {str(Path(path).relative_to(streams.bench.folder)) for path in streams.bench.rows("_source_file")} == loaded


async def test_without_a_readable_file_there_is_no_table(streams: Streams) -> None:
    streams.bench.land("empty.json", "")
    assert await streams.execute() == StreamMetrics()

    streams.bench.land("bad.json", "<html>\n")
    with pytest.raises(ValidationError, match="no JSON object"):
        await streams.execute()

    assert await streams.bench.engine.table_state(streams.bench.destination) is None


async def standing_after_its_first_epoch(streams: Streams) -> asyncio.Task[StreamMetrics]:
    """A stream over twenty files, one in each epoch, whose worker does nothing more."""
    for number in range(20):
        streams.bench.land(f"{number:02}.json", lines({"id": number}))
    first = asyncio.Event()

    async def stand_still() -> None:
        first.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(streams.executor.execute(await streams.order(max_files=1), stand_still))
    async with asyncio.timeout(120):
        await first.wait()
    return task


async def test_a_cancelled_stream_commits_nothing_more(streams: Streams) -> None:
    task = await standing_after_its_first_epoch(streams)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    stopped = sum(len(epoch) for epoch in await streams.epochs())
    assert 0 < stopped < 20
    assert len(streams.bench.rows("id")) == stopped
    assert (await streams.execute(max_files=100)).rows >= 20 - stopped
    assert streams.bench.rows("id") == sorted(range(20), key=repr)


async def test_a_stream_that_a_lost_worker_has_left_is_stopped_by_the_next(streams: Streams) -> None:
    worker = await standing_after_its_first_epoch(streams)

    await streams.execute(max_files=100)

    assert streams.bench.rows("id") == sorted(range(20), key=repr)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    assert streams.bench.rows("id") == sorted(range(20), key=repr)
    assert sorted(name for epoch in await streams.epochs() for name in epoch) == [f"{number:02}.json" for number in range(20)]
