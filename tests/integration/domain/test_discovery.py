"""Discovery over a real S3 server and a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from domain.ingestions.entities import Ingestion
from domain.ledger.discovery import FileDiscoveryService
from domain.ledger.entities import FileStatus
from domain.ports.object_store import SourceUnavailableError
from domain.ports.repositories import Discovered
from domain.runs.entities import Run
from integrations.object_store.stores import ConfiguredObjectStores
from tests.factories import a_source, a_stored_object
from tests.fixtures.s3_server import S3Bucket
from tests.workbench import Workbench


@pytest.fixture
def stores(s3_bucket: S3Bucket) -> Iterator[ConfiguredObjectStores]:
    keyless = replace(s3_bucket.server.owner, access_key_id=None, secret_access_key=None)
    opened = ConfiguredObjectStores({"owner": s3_bucket.server.owner, "keyless": keyless})
    yield opened
    opened.close()


@pytest.fixture
def discovery(bench: Workbench, stores: ConfiguredObjectStores) -> FileDiscoveryService:
    return FileDiscoveryService(bench.unit_of_work, stores, bench.clock)


async def start(bench: Workbench, bucket: S3Bucket, **source: object) -> tuple[Ingestion, Run]:
    fields = {"path": f"s3://{bucket.name}/in/", "credential": "owner"} | source
    ingestion = await bench.ingestion(source=a_source(**fields))
    return ingestion, await bench.start(ingestion)


@pytest.mark.scenario(119, 141)
async def test_thousands_of_objects_enter_the_ledger_once(bench: Workbench, discovery: FileDiscoveryService, s3_bucket: S3Bucket) -> None:
    """More than one page of S3's listings (1,000 keys)."""
    keys = [f"in/{n:05}.json" for n in range(1_100)]
    s3_bucket.put_many(keys, b"{}")
    ingestion, run = await start(bench, s3_bucket)
    assert (await discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered(new=1_100)
    assert (await discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered()
    files = await bench.files(ingestion)
    assert [file.path for file in files] == [f"s3://{s3_bucket.name}/{key}" for key in keys]
    assert {(file.status, file.size_bytes) for file in files} == {(FileStatus.PENDING, 2)}


@pytest.mark.scenario(119)
async def test_the_ledger_follows_what_is_in_the_bucket(bench: Workbench, discovery: FileDiscoveryService, s3_bucket: S3Bucket) -> None:
    for key in ("in/a.json", "in/b.csv", "in/deep er/ü%20.json", "out/x.json"):
        s3_bucket.put(key, b"{}")
    ingestion, run = await start(bench, s3_bucket, glob="**/*.json")
    assert (await discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered(new=2)
    before = {file.path: file.etag for file in await bench.files(ingestion)}
    assert set(before) == {f"s3://{s3_bucket.name}/in/{name}" for name in ("a.json", "deep er/ü%20.json")}
    s3_bucket.put("in/a.json", b'{"a": 1}')
    s3_bucket.put("in/c.json", b"{}")
    assert (await discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered(new=1, changed=1)
    changed = next(file for file in await bench.files(ingestion) if file.path.endswith("a.json"))
    assert (changed.size_bytes, changed.etag != before[changed.path]) == (8, True)


@pytest.mark.scenario(140)
async def test_no_credentials_is_told_in_words(
    bench: Workbench, discovery: FileDiscoveryService, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    ingestion, run = await start(bench, s3_bucket, credential="keyless")
    with pytest.raises(SourceUnavailableError) as caught:
        await discovery.discover(ingestion, bench.tenant.grants, run)
    assert caught.value.reason == SourceUnavailableError.NO_CREDENTIALS
    assert "credential" in caught.value.message
    assert await bench.files(ingestion) == []


async def test_a_path_as_long_as_discovery_lets_pass_is_stored(bench: Workbench) -> None:
    ingestion, run = await start(bench, S3Bucket("landing", None))  # type: ignore[arg-type]  # nothing is asked of the server
    # Such as no compression makes shorter.
    name = "".join(chr(33 + (n * n * 31 + n * 17) % 93) for n in range(2_048 - len("s3://landing/events/")))
    async with bench.unit_of_work(bench.tenant.id) as tx:
        assert await tx.files.record_discovered(ingestion.id, [a_stored_object(name)]) == Discovered(new=1)
    assert len((await bench.files(ingestion))[0].path) == 2_048
    assert run.ingestion_id == ingestion.id
