"""Queues of SQS, as moto's server has them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from domain.errors import ValidationError
from domain.ingestions.entities import DiscoveryMode, Source, SourceType
from domain.ports.event_queue import EventQueue
from domain.ports.object_store import SourceUnavailableError
from domain.tenants import Grants
from integrations.object_store.credentials import S3Credential
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.event_queue_contract import EventQueueContract
from tests.fixtures.moto_server import MotoServer, NotifiedBucket, create_queue

EVERYTHING = Grants(credentials=("*",))


def a_source_with(queue: str, **fields: str) -> Source:
    return replace(Source(SourceType.S3, "s3://landing/", credential="moto", discovery=DiscoveryMode.EVENTS, queue=queue), **fields)


@pytest.fixture
async def stores(moto_server: MotoServer) -> AsyncIterator[ConfiguredObjectStores]:
    """`nowhere` leads to a port at which nobody listens, and `keyless` has no keys."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    good = moto_server.credential
    opened = ConfiguredObjectStores(
        {
            "moto": good,
            "apart": replace(good, endpoint_url="http://store.example", sqs_endpoint_url=moto_server.endpoint),
            "nowhere": replace(good, endpoint_url=f"http://127.0.0.1:{port}"),
            "keyless": S3Credential(moto_server.endpoint, "us-east-1"),
        }
    )
    yield opened
    await opened.aclose()


@dataclass
class SqsWorld:
    queue: EventQueue
    patient: EventQueue
    missing: EventQueue
    bucket: NotifiedBucket

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            await asyncio.to_thread(self.bucket.send, body)


class TestSqsQueue(EventQueueContract):
    @pytest.fixture
    def world(self, stores: ConfiguredObjectStores, notified_bucket: NotifiedBucket) -> SqsWorld:
        create_queue(notified_bucket.server, f"{notified_bucket.name}-patient")
        notified_bucket.server.sqs.purge_queue(QueueUrl=notified_bucket.url_of(notified_bucket.queue))
        names = (notified_bucket.queue, f"{notified_bucket.name}-patient", f"{notified_bucket.name}-missing")
        return SqsWorld(*(stores.open_queue(a_source_with(name), EVERYTHING) for name in names), notified_bucket)

    async def test_a_dead_letter_queue_that_is_not_shown_is_there_all_the_same(self, world: SqsWorld) -> None:
        bucket = world.bucket
        await asyncio.to_thread(lambda: bucket.server.sqs.delete_queue(QueueUrl=bucket.url_of(bucket.dead_letter_queue)))
        state = await world.queue.state()
        assert (state.redrives, state.dead_letters) == (True, None)

    async def test_it_may_be_at_another_endpoint_than_the_store(self, world: SqsWorld, stores: ConfiguredObjectStores) -> None:
        apart = stores.open_queue(a_source_with(world.bucket.queue, credential="apart"), EVERYTHING)
        assert await apart.state() == await world.queue.state()

    @pytest.mark.parametrize("credential", ["unknown", "nowhere"])
    def test_a_credential_that_is_not_granted_leads_to_no_queue(self, stores: ConfiguredObjectStores, credential: str) -> None:
        """Whether or not there is one: the same answer as for the store's objects."""
        source = a_source_with("queue", credential=credential)
        with pytest.raises(ValidationError) as caught:
            stores.open_queue(source, Grants(credentials=("moto",)))
        assert caught.value.message == f"source.credential: there is no credential {credential!r} for this tenant"

    async def test_a_service_that_does_not_answer(self, stores: ConfiguredObjectStores) -> None:
        with pytest.raises(SourceUnavailableError) as caught:
            await stores.open_queue(a_source_with("queue", credential="nowhere"), EVERYTHING).state()
        assert caught.value.reason == SourceUnavailableError.UNREACHABLE
        assert caught.value.message.startswith("queue queue at http://127.0.0.1:")
        assert caught.value.message.endswith("cannot be reached: no connection to the endpoint")

    async def test_without_keys(self, stores: ConfiguredObjectStores, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        with pytest.raises(SourceUnavailableError) as caught:
            await stores.open_queue(a_source_with("queue", credential="keyless"), EVERYTHING).receive()
        assert caught.value.reason == SourceUnavailableError.NO_CREDENTIALS
