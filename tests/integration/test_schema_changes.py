"""Schema changes from the API to the table: tracked, and waiting for a person where that is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fixtures.application import Running
from tests.integration.test_begin_anew import do, explained

CHANGES = """
query ($id: ID!, $decided: Boolean) {
  ingestion(id: $id) {
    stats { filesHeld }
    schemaChanges(decided: $decided) {
      totalCount
      nodes {
        id decision decidedBy decisionReason examplePath
        diff { added { name type } changed { column before after } removed { name } }
        heldFiles { totalCount nodes { path schemaChange { id } } }
      }
    }
  }
}
"""
DECIDE = """
mutation ($input: DecideSchemaChangeInput!) {
  decideSchemaChange(input: $input) {
    __typename
    ... on SchemaChange { id decision decidedBy decisionReason }
    ... on ConflictError { reason message }
    ... on Error { message }
  }
}
"""
AUDIT = "query ($id: ID!) { auditIngestion(id: $id) { ... on Completeness { consistent counts { kind count } } } }"
ASK = {"policies": {"schemaEvolution": "REQUIRE_APPROVAL"}}


async def changes(running: Running, ingestion: str, *, decided: bool | None = None) -> dict[str, Any]:
    found = await running.client.data(CHANGES, {"id": ingestion, "decided": decided})
    return dict(found["ingestion"])


def land(running: Running, **files: list[dict[str, Any]]) -> None:
    for name, rows in files.items():
        (running.landing / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


async def test_a_new_column_waits_is_approved_and_comes_with_its_rows(running: Running) -> None:
    land(running, a=[{"id": 1}])
    ingestion = await running.create("events", **ASK)
    assert (await running.run(ingestion))["status"] == "SUCCESS"
    land(running, b=[{"id": 2, "at": {"x": 1}}], c=[{"id": 3, "at": {"x": 2}}], d=[{"id": 4}])

    run = await running.run(ingestion)

    assert (run["status"], run["filesProcessed"], run["errorMessage"]) == (
        "PARTIAL",
        1,
        "2 of 3 files wait for schema changes to be approved",
    )
    found = await changes(running, ingestion, decided=False)
    assert (found["stats"], found["schemaChanges"]["totalCount"]) == ({"filesHeld": 2}, 1)
    (change,) = found["schemaChanges"]["nodes"]
    assert change["diff"] == {"added": [{"name": "at", "type": "struct<x: long>"}], "changed": [], "removed": []}
    assert change["examplePath"] == str(running.landing / "b.json")
    assert change["heldFiles"] == {
        "totalCount": 2,
        "nodes": [{"path": str(running.landing / name), "schemaChange": {"id": change["id"]}} for name in ("b.json", "c.json")],
    }
    said = await explained(running, ingestion, "b.json")
    assert said["state"] == "WAITING_FOR_APPROVAL"
    assert said["explanation"].startswith('it waits for a schema change to be approved: new column "at" (struct<x: long>); proposed at ')
    audit = (await running.client.data(AUDIT, {"id": ingestion}))["auditIngestion"]
    assert audit == {"consistent": True, "counts": [{"kind": "WAITING_FOR_APPROVAL", "count": 2}]}

    decided = await do(running, DECIDE, id=change["id"], decision="APPROVE", reason="as agreed")

    assert decided == {
        "__typename": "SchemaChange",
        "id": change["id"],
        "decision": "APPROVED",
        "decidedBy": "local",
        "decisionReason": "as agreed",
    }
    assert (await running.run(ingestion))["filesProcessed"] == 2
    table = await running.table("events")
    assert sorted(zip(table["id"].to_pylist(), map(str, table["at"].to_pylist()), strict=True)) == [
        (1, "None"),
        (2, "{'x': 1}"),
        (3, "{'x': 2}"),
        (4, "None"),
    ]
    # The column and the first rows that bring it are one commit.
    snapshots = await running.iceberg("events", lambda table: [snapshot.schema_id for snapshot in table.metadata.snapshots])
    assert snapshots == [0, 0, 1]
    after = await changes(running, ingestion)
    assert (after["stats"], after["schemaChanges"]["nodes"][0]["heldFiles"]["totalCount"]) == ({"filesHeld": 0}, 0)


async def test_a_rejected_column_is_rescued_and_a_decision_is_for_good(running: Running) -> None:
    land(running, a=[{"id": 1}])
    ingestion = await running.create("events", **ASK)
    await running.run(ingestion)
    land(running, b=[{"id": 2, "extra": "x"}])
    await running.run(ingestion)
    (change,) = (await changes(running, ingestion))["schemaChanges"]["nodes"]

    rejected = await do(running, DECIDE, id=change["id"], decision="REJECT")
    assert (rejected["decision"], await do(running, DECIDE, id=change["id"], decision="REJECT")) == ("REJECTED", rejected)
    opposite = await do(running, DECIDE, id=change["id"], decision="APPROVE")
    assert opposite == {"__typename": "ConflictError", "reason": "WRONG_STATE", "message": "it was REJECTED by local before"}

    land(running, c=[{"id": 3, "extra": "y"}])
    run = await running.run(ingestion)

    assert (run["status"], run["filesProcessed"], run["rowsRescued"]) == ("SUCCESS", 2, 2)
    table = await running.table("events")
    assert dict(zip(table["id"].to_pylist(), table["_rescued_data"].to_pylist(), strict=True)) == {
        1: None,
        2: '{"id": 2, "extra": "x"}',
        3: '{"id": 3, "extra": "y"}',
    }
    assert (await changes(running, ingestion, decided=False))["schemaChanges"]["nodes"] == []
    trail = await running.client.data('{ auditEvents(filter: { operation: ["decideSchemaChange"] }) { nodes { actor subjectId } } }')
    assert trail["auditEvents"]["nodes"] == [{"actor": "local", "subjectId": change["id"]}]


VERSIONS = """
query ($id: ID!) {
  ingestion(id: $id) {
    schemaVersions {
      nodes { version columns { name type } diff { added { name type } changed { column before after } removed { name } } run { id } }
    }
  }
}
"""


@pytest.mark.scenario(123)
async def test_new_columns_are_found_and_tracked_across_runs(running: Running) -> None:
    land(running, a=[{"id": 1}])
    ingestion = await running.create("events")
    first = await running.run(ingestion)
    land(running, b=[{"id": 2}])
    await running.run(ingestion)
    land(running, c=[{"id": 3, "at": {"x": 1}, "note": "n"}])
    third = await running.run(ingestion)
    land(running, d=[{"id": 4, "at": {"x": 1, "y": 0.5}}])
    fourth = await running.run(ingestion)

    found = await running.client.data(VERSIONS, {"id": ingestion})

    versions = found["ingestion"]["schemaVersions"]["nodes"]
    assert [(version["version"], version["run"]["id"]) for version in versions] == [(3, fourth["id"]), (2, third["id"]), (1, first["id"])]
    assert [version["diff"] for version in versions] == [
        {
            "added": [],
            "changed": [{"column": "at", "before": "struct<x: long>", "after": "struct<x: long, y: double>"}],
            "removed": [],
        },
        {"added": [{"name": "at", "type": "struct<x: long>"}, {"name": "note", "type": "string"}], "changed": [], "removed": []},
        {"added": [{"name": "id", "type": "long"}], "changed": [], "removed": []},
    ]
    assert versions[0]["columns"] == [
        {"name": "id", "type": "long"},
        {"name": "at", "type": "struct<x: long, y: double>"},
        {"name": "note", "type": "string"},
    ]
    table = await running.table("events")
    assert sorted(zip(table["id"].to_pylist(), map(str, table["at"].to_pylist()), strict=True)) == [
        (1, "None"),
        (2, "None"),
        (3, "{'x': 1, 'y': None}"),
        (4, "{'x': 1, 'y': 0.5}"),
    ]
