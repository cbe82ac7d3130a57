"""The main job: real files become rows of a real Iceberg table through the GraphQL API, once."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from domain.ledger import table_care
from tests.fixtures.application import Running


def lay_json(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def test_files_become_rows_once(running: Running) -> None:
    for day in range(3):
        lay_json(running.landing, f"2026/day={day}.json", [{"id": day * 10 + i, "name": f"row {i}"} for i in range(10)])
    ingestion = await running.create("events")
    first = await running.run(ingestion)
    assert (first["status"], first["filesDiscovered"], first["filesProcessed"], first["rowsWritten"]) == ("SUCCESS", 3, 3, 30)
    assert (first["progress"], first["errorMessage"], first["filesFailed"]) == (1.0, None, 0)
    assert first["bytesProcessed"] == sum(path.stat().st_size for path in running.landing.rglob("*.json"))
    table = await running.table("events")
    assert sorted(table["id"].to_pylist()) == list(range(30))
    assert set(table["_source_file"].to_pylist()) == {str(path) for path in running.landing.rglob("*.json")}
    assert len(set(table["_batch_id"].to_pylist())) == 1

    second = await running.run(ingestion)
    assert (second["status"], second["filesDiscovered"], second["filesProcessed"]) == ("NO_NEW_FILES", 0, 0)
    lay_json(running.landing, "2026/day=3.json", [{"id": 30, "name": "late"}])
    third = await running.run(ingestion)
    assert (third["status"], third["filesProcessed"], third["rowsWritten"]) == ("SUCCESS", 1, 1)
    assert sorted((await running.table("events"))["id"].to_pylist()) == list(range(31))


async def test_bad_files_say_why_and_the_rest_is_loaded(running: Running) -> None:
    lay_json(running.landing, "good.json", [{"id": 1}, {"id": 2}])
    (running.landing / "truncated.json").write_text('{"id": 3}\n{"id": 4, "na')
    (running.landing / "page.json").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (running.landing / "empty.json").write_bytes(b"")
    (running.landing / "broken.json.gz").write_bytes(gzip.compress(b'{"id": 5}\n' * 1000)[:-9])
    (running.landing / "latin.json").write_bytes('{"id": 6, "name": "ü"}\n'.encode("latin-1"))
    run = await running.run(await running.create("events"))
    assert (run["status"], run["filesProcessed"], run["filesFailed"], run["filesSkipped"]) == ("PARTIAL", 1, 4, 1)
    assert run["errorMessage"] == "4 of 6 files failed; each file says why"
    said = {Path(edge["node"]["path"]).name: edge for edge in run["files"]["edges"]}
    assert {name: edge["node"]["status"] for name, edge in said.items()} == {
        "good.json": "SUCCESS",
        "truncated.json": "FAILED",
        "page.json": "FAILED",
        "empty.json": "SKIPPED",
        "broken.json.gz": "FAILED",
        "latin.json": "FAILED",
    }
    for name, edge in said.items():
        assert bool(edge["node"]["errorMessage"]) == (name != "good.json")
        assert edge["attempt"]["errorMessage"] == edge["node"]["errorMessage"]
        assert (edge["node"]["nextRetryAt"] is not None) == (edge["node"]["status"] == "FAILED")
    assert sorted((await running.table("events"))["id"].to_pylist()) == [1, 2]


async def test_a_repaired_file_is_loaded_by_the_next_run(running: Running) -> None:
    path = lay_json(running.landing, "a.json", [{"id": 1}])
    path.write_text('{"id": ')
    ingestion = await running.create("events")
    failed = await running.run(ingestion)
    assert (failed["status"], failed["errorMessage"]) == ("FAILED", "1 of 1 files failed; each file says why")
    lay_json(running.landing, "a.json", [{"id": 1}, {"id": 2}])
    repaired = await running.run(ingestion)
    assert (repaired["status"], repaired["rowsWritten"]) == ("SUCCESS", 2)
    assert sorted((await running.table("events"))["id"].to_pylist()) == [1, 2]
    history = await running.client.data(
        "query ($id: ID!) { ingestion(id: $id) { files { nodes { status attempts { nodes { outcome } } } } } }", {"id": ingestion}
    )
    assert history["ingestion"]["files"]["nodes"] == [
        {"status": "SUCCESS", "attempts": {"nodes": [{"outcome": "SUCCESS"}, {"outcome": "FAILED"}]}}
    ]


async def test_a_new_column_is_added_and_the_change_is_remembered(running: Running) -> None:
    lay_json(running.landing, "1.json", [{"id": 1}])
    ingestion = await running.create("events")
    await running.run(ingestion)
    lay_json(running.landing, "2.json", [{"id": 2, "name": "two"}])
    assert (await running.run(ingestion))["status"] == "SUCCESS"
    table = await running.table("events")
    assert sorted(table.select(["id", "name"]).to_pylist(), key=lambda row: row["id"]) == [
        {"id": 1, "name": None},
        {"id": 2, "name": "two"},
    ]
    versions = await running.client.data(
        """query ($id: ID!) { ingestion(id: $id) { schemaVersions { nodes {
             version columns { name type } diff { added { name type } removed { name } changed { column } } run { status } } } } }""",
        {"id": ingestion},
    )
    assert versions["ingestion"]["schemaVersions"]["nodes"] == [
        {
            "version": 2,
            "columns": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
            "diff": {"added": [{"name": "name", "type": "string"}], "removed": [], "changed": []},
            "run": {"status": "SUCCESS"},
        },
        {
            "version": 1,
            "columns": [{"name": "id", "type": "long"}],
            "diff": {"added": [{"name": "id", "type": "long"}], "removed": [], "changed": []},
            "run": {"status": "SUCCESS"},
        },
    ]


@pytest.mark.parametrize("format", ["CSV", "PARQUET", "AVRO", "ORC"])
async def test_every_format_is_loaded(running: Running, format: str) -> None:
    import polars
    import pyarrow as pa
    import pyarrow.orc

    frame = polars.DataFrame({"id": [1, 2, 3], "name": ["a", "b", None]})
    path = running.landing / f"data.{format.lower()}"
    match format:
        case "CSV":
            frame.write_csv(path)
        case "PARQUET":
            frame.write_parquet(path)
        case "AVRO":
            frame.write_avro(path)
        case _:
            pyarrow.orc.write_table(pa.table(frame.to_dict(as_series=False)), path)
    run = await running.run(await running.create("events", format={"type": format}))
    assert (run["status"], run["rowsWritten"]) == ("SUCCESS", 3), run
    assert (await running.table("events")).select(["id", "name"]).sort_by("id").to_pylist() == frame.to_dicts()


async def test_a_schedule_makes_runs_by_itself(running: Running) -> None:
    lay_json(running.landing, "1.json", [{"id": 1}])
    ingestion = await running.create("events", activate=True, schedule={"cron": "0 0 1 1 *"})
    # The year's turn is put into the past; the scheduler finds it due.
    from sqlalchemy import text

    async with running.database.begin() as connection:
        await connection.execute(text("UPDATE ingestions SET next_due_at = now() - interval '1 minute'"))
    document = "query ($id: ID!) { ingestion(id: $id) { nextDueAt runs { nodes { id trigger dueAt } } } }"
    runs: list[dict[str, Any]] = []
    while not runs:
        runs = (await running.client.data(document, {"id": ingestion}))["ingestion"]["runs"]["nodes"]
    # A document's levels are read one after the other: asked in the same breath, this could be the moment before.
    assert (await running.client.data(document, {"id": ingestion}))["ingestion"]["nextDueAt"].endswith("-01-01T00:00:00Z")
    assert [run["trigger"] for run in runs] == ["SCHEDULED"]
    assert (await running.ended(runs[0]["id"]))["status"] == "SUCCESS"
    assert (await running.table("events"))["id"].to_pylist() == [1]


async def test_the_components_say_how_they_are(running: Running) -> None:
    document = "{ system { components { name status version latencySeconds message } } }"
    components = (await running.client.data(document))["system"]["components"]
    assert [(component["name"], component["status"], component["message"]) for component in components] == [
        ("database", "UP", None),
        ("engine", "UP", None),
        ("orchestrator", "UP", None),
    ]
    assert components[0]["version"].startswith("PostgreSQL 1")
    assert components[1]["version"].startswith("DuckDB ")
    assert all(component["latencySeconds"] < 5 for component in components)


async def test_a_table_of_many_small_files_is_tended_by_itself(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_care, "TENDED_EVERY_SNAPSHOTS", 4)
    ingestion = await running.create("events")
    for number in range(4):
        lay_json(running.landing, f"{number}.json", [{"id": number}])
        await running.run(ingestion)
    async with asyncio.timeout(60):
        while await running.iceberg("events", lambda table: len(list(table.scan().plan_files()))) > 1:
            # The background work does it beside the others; this looks at a bounded rate.
            await asyncio.sleep(0.05)
    assert sorted((await running.table("events"))["id"].to_pylist()) == [0, 1, 2, 3]
    assert (await running.run(ingestion))["status"] == "NO_NEW_FILES"
