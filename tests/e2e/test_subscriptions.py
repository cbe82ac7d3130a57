"""Subscriptions over real sockets, through the server that `autoloader up` is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from autoloader.embedded.cluster import ClusterFolder
from tests.e2e.test_up import CREATE, Served, up

RUN = "mutation ($input: RunIngestionInput!) { runIngestion(input: $input) { ... on Run { id } ... on Error { message } } }"
RUN_UPDATED = "subscription ($run: ID!) { runUpdated(runId: $run) { status rowsWritten } }"
ACTIVITY = "subscription { activity { kind runId cursor } }"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    ClusterFolder(home / "postgres").remove()


@contextlib.asynccontextmanager
async def connected(served: Served, payload: dict[str, Any]) -> AsyncIterator[ClientConnection]:
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(served.url.replace("http", "ws"), subprotocols=protocols) as client:
        await client.send(json.dumps({"type": "connection_init", "payload": payload}))
        yield client


async def receive(client: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return dict(json.loads(await client.recv()))


async def test_a_run_is_followed_over_both_protocols_and_the_server_stops_promptly(home: Path) -> None:
    log = home.parent / "up.log"
    async with up(home, log) as served, httpx.AsyncClient(timeout=30) as http:
        (home / "landing" / "a.json").write_text(json.dumps({"id": 1}) + "\n")
        input = {
            "name": "events",
            "source": {"type": "LOCAL", "path": str(home / "landing")},
            "format": {"type": "JSON"},
            "destination": {"database": "lake", "table": "events"},
        }
        ingestion = (await served.data(CREATE, {"input": input}))["createIngestion"]["id"]
        run = (await served.data(RUN, {"input": {"ingestionId": ingestion}}))["runIngestion"]["id"]

        async with connected(served, {"authorization": f"Bearer {served.key}"}) as client:
            assert await receive(client) == {"type": "connection_ack"}
            subscribe = {"query": RUN_UPDATED, "variables": {"run": run}}
            await client.send(json.dumps({"type": "subscribe", "id": "1", "payload": subscribe}))
            states = []
            while (message := await receive(client))["type"] == "next":
                states.append(message["payload"]["data"]["runUpdated"])
            assert message == {"type": "complete", "id": "1"}
            assert states[-1] == {"status": "SUCCESS", "rowsWritten": 1}
            await client.send(json.dumps({"type": "connection_init"}))
            with pytest.raises(ConnectionClosed):
                await receive(client)
            assert client.close_code == 4429

        headers = {"authorization": f"Bearer {served.key}", "accept": "text/event-stream"}
        async with http.stream("POST", served.url, json={"query": RUN_UPDATED, "variables": {"run": run}}, headers=headers) as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            lines = [line async for line in stream.aiter_lines() if line]
        assert lines == ["event: next", 'data: {"data":{"runUpdated":{"status":"SUCCESS","rowsWritten":1}}}', "event: complete", "data: "]

        async with connected(served, {"authorization": "Bearer nonsense"}) as client:
            with pytest.raises(ConnectionClosed):
                await receive(client)
            assert (client.close_code, client.close_reason) == (4403, "Forbidden")

        async with (
            connected(served, {"Authorization": f"Bearer {served.key}"}) as client,
            http.stream("POST", served.url, json={"query": ACTIVITY}, headers=headers) as stream,
        ):
            assert await receive(client) == {"type": "connection_ack"}
            await client.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": ACTIVITY}}))
            served.process.send_signal(signal.SIGINT)
            with pytest.raises(ConnectionClosed):
                await receive(client)
            assert client.close_code == 1012
            # Cut, and not complete: the client comes back, and goes on.
            assert [line async for line in stream.aiter_lines() if line] == []
            async with asyncio.timeout(20):
                assert await served.process.wait() == 0
    # It has not waited for its streams until its patience was at its end.
    told = log.read_text()
    assert "Shutting down" in told
    assert "timeout graceful shutdown exceeded" not in told
    assert "Traceback" not in told
