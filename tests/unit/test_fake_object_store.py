"""The fake object store passes the contract of the real ones, and fails when it is told to."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import UnsupportedError, ValidationError
from domain.ingestions.entities import Source, SourceType
from domain.ports.object_store import ObjectStore, SourceUnavailableError
from domain.tenants import Grants
from tests.contracts.object_store_contract import ObjectStoreContract, listed, refusals
from tests.fakes.object_store import FakeObjectStores


class FakeWorld:
    def __init__(self, kind: SourceType, source_path: str) -> None:
        self.stores = FakeObjectStores()
        self.kind = kind
        self.source_path = source_path
        self.stores.add_location(source_path)

    def open(self, path: str) -> ObjectStore:
        return self.stores.open(Source(self.kind, path), Grants(local_roots=("/data",), credentials=("default",)))

    def put(self, path: str, content: bytes) -> None:
        self.stores.put(path, content)

    def delete(self, path: str) -> None:
        self.stores.delete(path)

    def missing_path(self) -> str:
        return "s3://no-such-bucket/in/" if self.kind is SourceType.S3 else "/data/none/"


class TestFakeObjectStore(ObjectStoreContract):
    @pytest.fixture(params=[(SourceType.S3, "s3://bucket/in/"), (SourceType.LOCAL, "/data/in/")], ids=["s3", "local"])
    def world(self, request: pytest.FixtureRequest) -> FakeWorld:
        return FakeWorld(*request.param)


FAILURE = SourceUnavailableError(SourceUnavailableError.UNREACHABLE, "the store sleeps")
SOURCE = Source(SourceType.S3, "s3://bucket/in/")


@pytest.fixture
def stores() -> FakeObjectStores:
    stores = FakeObjectStores(credentials=("default", "prod"))
    for number in range(5):
        stores.put(f"s3://bucket/in/{number}.json", b"1")
    return stores


async def test_fails_a_listing_after_the_chunks_asked(stores: FakeObjectStores) -> None:
    stores.listing_failure = (2, FAILURE)
    store = stores.open(SOURCE, Grants(credentials=("*",)))
    with pytest.raises(SourceUnavailableError, match="sleeps"):
        await listed(store, chunk_size=2)
    assert stores.chunk_sizes == [2, 2]
    with pytest.raises(SourceUnavailableError, match="sleeps"):
        await listed(store, chunk_size=5)
    assert stores.chunk_sizes == [2, 2, 5]


async def test_fails_a_check_and_a_staging_when_told(stores: FakeObjectStores, tmp_path: Path) -> None:
    stores.check_failure = FAILURE
    stores.staging_failures["s3://bucket/in/1.json"] = ("the store sleeps", True)
    store = stores.open(SOURCE, Grants(credentials=("*",)))
    with pytest.raises(SourceUnavailableError, match="sleeps"):
        await store.check_access()
    staged = await store.stage(await listed(store), tmp_path)
    assert [(result.error, result.transient) for result in staged if result.local_path is None] == [("the store sleeps", True)]


@pytest.mark.parametrize(
    ("source", "grants", "field"),
    [
        (Source(SourceType.S3, "/in/"), Grants(credentials=("*",)), ("source", "path")),
        (Source(SourceType.LOCAL, "/data/in/"), Grants(), ("source", "path")),
        (Source(SourceType.S3, "s3://bucket/", credential="prod"), Grants(credentials=("test",)), ("source", "credential")),
        (Source(SourceType.S3, "s3://bucket/", credential="none"), Grants(credentials=("*",)), ("source", "credential")),
    ],
)
def test_refuses_what_the_tenant_was_not_granted(stores: FakeObjectStores, source: Source, grants: Grants, field: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        stores.open(source, grants)
    assert [error.path for error in refused.value.fields] == [field]


async def test_a_folder_outside_the_granted_ones_is_refused_when_it_is_looked_at(stores: FakeObjectStores, tmp_path: Path) -> None:
    store = stores.open(Source(SourceType.LOCAL, "/data/in/"), Grants(local_roots=("/data/input",)))

    assert await refusals(store, "/data/in/a.json", tmp_path) == ["is outside the local folders granted to this tenant"] * 5


@pytest.mark.parametrize("kind", [SourceType.AZURE_BLOB, SourceType.GCS])
def test_refuses_sources_that_do_not_work_yet(stores: FakeObjectStores, kind: SourceType) -> None:
    with pytest.raises(UnsupportedError, match=kind):
        stores.open(Source(kind, "x://y/"), Grants(credentials=("*",)))
