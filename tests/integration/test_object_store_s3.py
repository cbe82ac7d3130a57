"""S3 keeps the object stores' contract against a real server, and its refusals say what a person can do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from domain.ingestions.entities import Source, SourceType
from domain.ports.object_store import ObjectStore, SourceUnavailableError
from domain.tenants import Grants
from integrations.object_store.credentials import S3Credential
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.object_store_contract import ObjectStoreContract, listed, paths_in
from tests.fixtures.s3_server import S3Bucket, S3Server

ANY_CREDENTIAL = Grants(credentials=("*",))


class S3World:
    def __init__(self, stores: ConfiguredObjectStores, bucket: S3Bucket) -> None:
        self._stores = stores
        self._bucket = bucket
        self._base = f"s3://{bucket.name}/"
        self.source_path = f"{self._base}in/"

    def open(self, path: str) -> ObjectStore:
        return self._stores.open(Source(SourceType.S3, path), Grants(credentials=("*",)))

    def put(self, path: str, content: bytes) -> None:
        self._bucket.put(path.removeprefix(self._base), content)

    def delete(self, path: str) -> None:
        self._bucket.delete(path.removeprefix(self._base))

    def missing_path(self) -> str:
        return "s3://no-such-bucket-anywhere/in/"


@pytest.fixture(scope="module")
def stores(s3_server: S3Server) -> Iterator[ConfiguredObjectStores]:
    stores = ConfiguredObjectStores(
        {
            "default": s3_server.owner,
            "stranger": s3_server.stranger,
            "typo": replace(s3_server.owner, secret_access_key="not-the-secret"),
            "unknown": replace(s3_server.owner, access_key_id="NOBODY"),
        }
    )
    yield stores
    stores.close()


@pytest.fixture
def world(stores: ConfiguredObjectStores, s3_bucket: S3Bucket) -> S3World:
    return S3World(stores, s3_bucket)


class TestS3ObjectStore(ObjectStoreContract):
    @pytest.fixture
    def world(self, stores: ConfiguredObjectStores, s3_bucket: S3Bucket) -> S3World:
        return S3World(stores, s3_bucket)


@pytest.mark.scenario(141)
async def test_lists_every_page(world: S3World, s3_bucket: S3Bucket) -> None:
    """S3 pages hold a thousand keys."""
    keys = [f"in/{number % 7}/{number:05d}.json" for number in range(2_345)]
    s3_bucket.put_many(keys, b"1")
    expected = {f"s3://{s3_bucket.name}/{key}" for key in keys}
    store = world.open(world.source_path)
    sizes = [len(chunk) async for chunk in store.list(chunk_size=500)]
    assert sizes == [500, 500, 500, 500, 345]
    assert await paths_in(store) == expected


async def test_a_bucket_is_a_source_as_well(world: S3World, s3_bucket: S3Bucket) -> None:
    world.put(world.source_path + "a.json", b"1")
    for path in (f"s3://{s3_bucket.name}", f"s3://{s3_bucket.name}/"):
        store = world.open(path)
        await store.check_access()
        assert await paths_in(store) == {world.source_path + "a.json"}


async def test_leaves_out_the_markers_of_folders(world: S3World, tmp_path: Path) -> None:
    world.put(world.source_path + "day/", b"")
    world.put(world.source_path + "day/a.json", b"1")
    store = world.open(world.source_path)
    assert await paths_in(store) == {world.source_path + "day/a.json"}
    assert await store.stat(world.source_path + "day/") is None


async def test_stages_a_large_object_whole(world: S3World, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_960 + b"end"
    world.put(world.source_path + "a.bin", content)
    store = world.open(world.source_path)
    [staged] = await store.stage(await listed(store), tmp_path)
    assert staged.local_path is not None
    assert staged.local_path.read_bytes() == content


@pytest.mark.parametrize(
    ("credential", "message"), [("stranger", "AccessDenied"), ("typo", "its secret key is wrong"), ("unknown", "access key is not known")]
)
async def test_a_refused_credential_is_named_and_never_shown(
    stores: ConfiguredObjectStores, s3_bucket: S3Bucket, world: S3World, tmp_path: Path, credential: str, message: str
) -> None:
    world.put(world.source_path + "a.json", b"1")
    objects = await listed(world.open(world.source_path))
    store = stores.open(Source(SourceType.S3, world.source_path, credential=credential), ANY_CREDENTIAL)
    for refused in (store.check_access(), listed(store), store.stat(world.source_path + "a.json")):
        with pytest.raises(SourceUnavailableError) as failure:
            await refused
        assert failure.value.reason == SourceUnavailableError.ACCESS_DENIED
        assert s3_bucket.name in failure.value.message
        assert f"'{credential}'" in failure.value.message
        assert "secret-key" not in failure.value.message
        assert "not-the-secret" not in failure.value.message
    with pytest.raises(SourceUnavailableError, match=message):
        await store.check_access()
    [staged] = await store.stage(objects, tmp_path)
    assert staged.local_path is None
    assert "may not be read" in (staged.error or "")
    assert not staged.transient
    assert list_files(tmp_path) == []


async def test_an_endpoint_that_does_not_answer_is_unreachable(s3_server: S3Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    stores = ConfiguredObjectStores({"default": replace(s3_server.owner, endpoint_url=f"http://127.0.0.1:{port}")})
    store = stores.open(Source(SourceType.S3, "s3://bucket/in/"), Grants(credentials=("*",)))
    with pytest.raises(SourceUnavailableError, match=rf"bucket bucket at http://127.0.0.1:{port} cannot be reached") as failure:
        await store.check_access()
    assert failure.value.reason == SourceUnavailableError.UNREACHABLE
    stores.close()


@pytest.mark.scenario(140)
async def test_no_credentials_anywhere_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    stores = ConfiguredObjectStores({"profile": S3Credential(profile="nobody")})
    for name, label in ((None, "the ambient AWS credentials"), ("profile", "the credential 'profile'")):
        store = stores.open(Source(SourceType.S3, "s3://bucket/in/", credential=name), ANY_CREDENTIAL)
        for refused in (store.check_access(), listed(store)):
            with pytest.raises(SourceUnavailableError, match=label) as failure:
                await refused
            assert failure.value.reason == SourceUnavailableError.NO_CREDENTIALS
    stores.close()


async def test_the_ambient_chain_serves_a_source_without_a_credential(
    s3_server: S3Server, world: S3World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.put(world.source_path + "a.json", b"1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.owner.access_key_id or "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.owner.secret_access_key or "")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    stores = ConfiguredObjectStores({})
    store = stores.open(Source(SourceType.S3, world.source_path), Grants(credentials=("*",)))
    await store.check_access()
    [staged] = await store.stage(await listed(store), tmp_path)
    assert staged.error is None
    stores.close()


async def test_a_configured_credential_takes_nothing_from_the_environment(
    world: S3World, monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, tmp_path: Path
) -> None:
    world.put(world.source_path + "a.json", b"1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "of-another")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    stores = ConfiguredObjectStores({"default": s3_server.owner})
    store = stores.open(Source(SourceType.S3, world.source_path), Grants(credentials=("*",)))
    [staged] = await store.stage(await listed(store), tmp_path)
    assert staged.error is None
    stores.close()


def list_files(folder: Path) -> list[Path]:
    return list(folder.iterdir())
