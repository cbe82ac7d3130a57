"""From a file put into a bucket to rows of a table, with nobody asking: over moto's S3 and SQS and the whole application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.fixtures.application import CREATE, Running, running_with
from tests.fixtures.moto_server import MotoServer, NotifiedBucket, create_queue
from tests.notifications import a_notification

INGESTION = """
query ($id: ID!) { ingestion(id: $id) {
  status version lastListedAt source { discovery queue listEverySeconds credential }
  eventQueue { waiting hidden deadLetters problem lookedAt }
  runs(first: 100) { nodes { trigger status filesDiscovered filesProcessed } totalCount }
  files(first: 100) { nodes { path status rows } }
} }
"""
UPDATE = """
mutation ($input: UpdateIngestionInput!) { updateIngestion(input: $input) {
  ... on Ingestion { lastListedAt source { discovery queue listEverySeconds } }
  ... on ConflictError { reason } ... on ValidationError { fields { path message } }
} }
"""


@pytest.fixture
async def running(database_url: str, database: AsyncEngine, tmp_path: Path, moto_server: MotoServer) -> AsyncIterator[Running]:
    given = {name: value for name, value in asdict(moto_server.credential).items() if value is not None}
    credentials = {"moto": given, "elsewhere": given | {"endpoint_url": "http://127.0.0.1:9"}}
    async with running_with(database_url, database, tmp_path, credentials=credentials, queue_seconds=0.2) as opened:
        yield opened


def a_source(bucket: NotifiedBucket, **fields: Any) -> dict[str, Any]:
    return {"path": bucket.path, "credential": "moto", "discovery": "EVENTS", "queue": bucket.queue} | fields


async def create(running: Running, bucket: NotifiedBucket, name: str = "events", **source: Any) -> str:
    return await running.create(name, source=a_source(bucket, **source), activate=True)


async def seen(running: Running, id: str) -> dict[str, Any]:
    return dict((await running.client.data(INGESTION, {"id": id}))["ingestion"])


async def when(running: Running, id: str, condition: Any) -> dict[str, Any]:
    """The ingestion, once it is as the condition says and no run of it is active."""
    async with asyncio.timeout(120):
        while True:
            found = await seen(running, id)
            if condition(found) and all(run["status"] not in ("QUEUED", "RUNNING") for run in found["runs"]["nodes"]):
                return found
            # The background work tells nobody; this asks at a bounded rate.
            await asyncio.sleep(0.05)


def loaded(*keys: str) -> Any:
    return lambda found: {node["path"].partition("/in/")[2] for node in found["files"]["nodes"] if node["status"] == "SUCCESS"} >= set(keys)


async def put(bucket: NotifiedBucket, key: str, *ids: int) -> None:
    await asyncio.to_thread(bucket.put, key, "".join(f'{{"id": {id}}}\n' for id in ids).encode())


async def test_files_become_rows_once_with_nobody_asking(running: Running, notified_bucket: NotifiedBucket) -> None:
    bucket = notified_bucket
    await put(bucket, "in/before.json", 1)
    await asyncio.to_thread(bucket.send, "<html>")
    ingestion = await create(running, bucket, glob="**/*.json")
    # The first run lists, for what came before anybody listened.
    await when(running, ingestion, loaded("before.json"))
    for number, key in enumerate(["in/a b+c.json", "in/ünï-日本-😀.json", "in/100%25.json", "in/day=1/x.json"], start=2):
        await put(bucket, key, number)
    await put(bucket, "in/a.csv", 90)
    await put(bucket, "out/a.json", 91)
    await put(bucket, "in/gone.json", 92)
    await asyncio.to_thread(bucket.delete, "in/gone.json")
    line = b'{"id": 6}\n'
    await asyncio.to_thread(bucket.put_in_parts, "in/parts.json", [line * (5 * 2**20 // len(line) + 1), line])
    again = a_notification(f"{bucket.path}parts.json", f"{bucket.path}a b+c.json", event="ObjectCreated:CompleteMultipartUpload")
    for _ in range(3):
        await asyncio.to_thread(bucket.send, again)
    names = ("a b+c.json", "ünï-日本-😀.json", "100%25.json", "day=1/x.json", "parts.json")
    found = await when(running, ingestion, loaded("before.json", *names))
    found = await when(running, ingestion, lambda found: found["eventQueue"]["waiting"] == 0)
    assert {node["path"]: node["status"] for node in found["files"]["nodes"] if node["status"] != "SUCCESS"} in (
        {},
        {bucket.path + "gone.json": "FAILED"},
    )
    assert {run["trigger"] for run in found["runs"]["nodes"]} == {"EVENT"}
    assert sum(run["filesProcessed"] for run in found["runs"]["nodes"]) == 6
    ids = (await running.table("events"))["id"].to_pylist()
    assert (sorted(set(ids)), len(ids) - ids.count(6)) == ([1, 2, 3, 4, 5, 6], 5)
    assert ids.count(6) == 5 * 2**20 // len(line) + 2
    assert found["source"] == {"discovery": "EVENTS", "queue": bucket.queue, "listEverySeconds": 21_600, "credential": "moto"}
    # Of what was not understood a message is left, hidden for two minutes.
    assert await asyncio.to_thread(bucket.count) == (0, 1)


async def test_dead_letters_are_seen(running: Running, notified_bucket: NotifiedBucket, caplog: pytest.LogCaptureFixture) -> None:
    bucket = notified_bucket
    ingestion = await create(running, bucket)
    await when(running, ingestion, lambda found: found["lastListedAt"] is not None)
    for _ in range(2):
        await asyncio.to_thread(bucket.send, "{", to=bucket.dead_letter_queue)
    found = await when(running, ingestion, lambda found: found["eventQueue"]["deadLetters"] == 2)
    assert (found["eventQueue"]["problem"], found["version"]) == (None, 1)
    assert sum("2 notifications are dead letters, of which nobody could make anything" in message for message in caplog.messages) == 1
    async with asyncio.timeout(30):
        # The page's answer is kept for five seconds.
        while "autoloader_event_queue_dead_letters 2.0" not in (page := (await running.application.metrics_page()).decode()):
            await asyncio.sleep(0.2)
    assert "autoloader_event_queues_unavailable 0.0" in page
    assert 'autoloader_source_events_total{outcome="test"} 1.0' in page


async def test_a_queue_belongs_to_one_ingestion(running: Running, notified_bucket: NotifiedBucket) -> None:
    bucket = notified_bucket
    await create(running, bucket)
    input = {
        "name": "second",
        "source": a_source(bucket),
        "format": {"type": "JSON"},
        "destination": {"database": "lake", "table": "second"},
    }
    create_document = CREATE.replace("message }", "message ... on ConflictError { reason } }")
    answer = (await running.client.data(create_document, {"input": input}))["createIngestion"]
    assert answer == {"message": "the queue belongs to an ingestion", "reason": "QUEUE_TAKEN"}


@pytest.mark.parametrize(
    ("source", "field", "message"),
    [
        ({"queue": "nothing-there"}, "queue", "there is no queue nothing-there at "),
        ({"queue": "https://sqs.eu-west-1.amazonaws.com/1/q"}, "queue", "must be a queue's name, of 1 to 80 letters"),
        ({"queue": "http://169.254.169.254/latest"}, "queue", "must be a queue's name, of 1 to 80 letters"),
        ({"queue": "arn:aws:sqs:us-east-1:1:q"}, "queue", "must be a queue's name, of 1 to 80 letters"),
        ({"queue": "q.fifo"}, "queue", "S3 sends its notifications to no FIFO queue"),
        ({"queue": None}, "queue", "EVENTS discovery needs the name of the queue"),
        ({"discovery": "LISTING"}, "queue", "goes with EVENTS discovery"),
        ({"listEverySeconds": 5}, "listEverySeconds", "Input should be greater than or equal to 60"),
    ],
)
async def test_bad_input_names_the_field_and_stores_nothing(
    running: Running, notified_bucket: NotifiedBucket, source: dict[str, Any], field: str, message: str
) -> None:
    input = {
        "name": "events",
        "source": a_source(notified_bucket, **source),
        "format": {"type": "JSON"},
        "destination": {"database": "lake", "table": "events"},
    }
    create_document = CREATE.replace("message }", "message ... on ValidationError { fields { path message } } }")
    answer = (await running.client.data(create_document, {"input": input}))["createIngestion"]
    [wrong] = answer["fields"]
    assert wrong["path"] == ["source", field]
    assert wrong["message"].startswith(message)
    assert (await running.client.data("{ ingestions(first: 1) { totalCount } }"))["ingestions"]["totalCount"] == 0


async def test_an_ingestion_that_lists_may_come_to_listen_and_back(running: Running, notified_bucket: NotifiedBucket) -> None:
    bucket = notified_bucket
    source = {"path": bucket.path, "credential": "moto"}
    ingestion = await running.create("events", source=source, activate=True)
    await put(bucket, "in/a.json", 1)
    assert (await running.run(ingestion))["filesProcessed"] == 1
    given = {"id": ingestion, "discovery": "EVENTS", "queue": bucket.queue, "listEverySeconds": 600}
    changed = (await running.client.data(UPDATE, {"input": given}))["updateIngestion"]
    assert changed == {"lastListedAt": None, "source": {"discovery": "EVENTS", "queue": bucket.queue, "listEverySeconds": 600}}
    await when(running, ingestion, lambda found: found["lastListedAt"] is not None)
    await put(bucket, "in/b.json", 2)
    await when(running, ingestion, loaded("a.json", "b.json"))
    back = (await running.client.data(UPDATE, {"input": {"id": ingestion, "discovery": "LISTING"}}))["updateIngestion"]
    assert back["source"] == {"discovery": "LISTING", "queue": None, "listEverySeconds": None}
    await put(bucket, "in/c.json", 3)
    assert (await running.run(ingestion))["filesProcessed"] == 1
    assert sorted((await running.table("events"))["id"].to_pylist()) == [1, 2, 3]
    other = await running.create("other", source=a_source(bucket), destination={"database": "lake", "table": "other"})
    assert other, "the queue is free again"


async def test_explain_file_says_that_no_notification_has_come(running: Running, notified_bucket: NotifiedBucket) -> None:
    bucket = notified_bucket
    ingestion = await create(running, bucket)
    await when(running, ingestion, lambda found: found["lastListedAt"] is not None)
    queue = create_queue(bucket.server, f"{bucket.name}-deaf")
    silent = {"QueueConfigurations": [{"QueueArn": queue, "Events": ["s3:ObjectCreated:*"]}]}
    bucket.server.s3.put_bucket_notification_configuration(Bucket=bucket.name, NotificationConfiguration=silent)
    await put(bucket, "in/missed.json", 1)
    document = """query ($id: ID!, $path: String!) { explainFile(ingestionId: $id, path: $path) {
      ... on FileExplanation { state explanation } } }"""
    said = (await running.client.data(document, {"id": ingestion, "path": f"{bucket.path}missed.json"}))["explainFile"]
    assert said["state"] == "NOT_LISTED_YET"
    assert said["explanation"].startswith(
        "no notification of it has been received since the last listing; its notification brings it, or else"
    )
    assert said["explanation"].endswith("the next run loads it, which begins by itself")
    # A run that somebody asks for lists.
    assert json.dumps((await running.run(ingestion))["filesProcessed"]) == "1"
