"""A store that fails, stalls, cuts connections and bodies, under a run: the source's, and the warehouse's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tests.chaos.bench import Bench
from tests.chaos.s3_proxy import Badness, Fault, S3Proxy, s3_proxy
from tests.chaos.world import Outcome
from tests.fixtures.s3_server import S3Bucket

LISTING = r"^GET \S*list-type=2"
READING = r"^GET \S*/landing/\S*\.json"
WRITING_DATA = r"^(PUT|POST) \S*/warehouse/\S*\.parquet"
WRITING_METADATA = r"^(PUT|POST) \S*/warehouse/\S*/metadata/"
READING_METADATA = r"^(GET|HEAD) \S*/warehouse/\S*/metadata/"
_FAULTY_SECONDS = 8.0
_PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class _S3Landing:
    bucket: S3Bucket

    @property
    def source(self) -> Mapping[str, Any]:
        return {"type": "S3", "path": f"s3://{self.bucket.name}/landing/", "credential": "landing"}

    def put(self, name: str, content: bytes) -> None:
        self.bucket.put(f"landing/{name}", content)


def failing_store(badness: Badness, pattern: str, **which: Any) -> Callable[[Bench], Awaitable[Outcome]]:
    """A run under the fault; the fault ends with the run, or after a while; then everything has to be loaded."""

    async def do(bench: Bench) -> Outcome:
        with bench.new_bucket() as bucket:
            async with s3_proxy(bucket.server.endpoint) as proxy:
                fault = Fault(badness, pattern, **which)
                return await _under(bench, bucket, proxy, fault)

    return do


async def _under(bench: Bench, bucket: S3Bucket, proxy: S3Proxy, fault: Fault) -> Outcome:
    direct, through = bucket.server.endpoint, proxy.endpoint
    settings = {"credentials": _credentials(bucket, direct), "catalog_properties": _catalog(bucket, direct)}
    workers = {
        "AUTOLOADER_CREDENTIALS": orjson.dumps(_credentials(bucket, through)).decode(),
        "AUTOLOADER_CATALOG_PROPERTIES": orjson.dumps(_catalog(bucket, through)).decode(),
    }
    name = f"store {fault.badness} {fault.pattern} {fault.spared} {fault.times}"
    async with bench.world(
        name, landing=_S3Landing(bucket), warehouse=f"s3://{bucket.name}/warehouse", seen_by_workers=workers, **settings
    ) as world:
        await asyncio.to_thread(world.land, "a")
        proxy.plan.append(fault)
        await world.start()
        run = await world.queue()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await proxy.has_befallen.wait()
        await world.ended(run, within=_FAULTY_SECONDS)
        proxy.plan.clear()
        await world.at_rest()
        await world.load_the_rest()
        return await world.compare()


def _credentials(bucket: S3Bucket, endpoint: str) -> dict[str, dict[str, str]]:
    owner = bucket.server.owner
    keys = {"access_key_id": owner.access_key_id or "", "secret_access_key": owner.secret_access_key or ""}
    return {"landing": {"endpoint_url": endpoint, "region": "us-east-1", **keys}}


def _catalog(bucket: S3Bucket, endpoint: str) -> dict[str, str]:
    owner = bucket.server.owner
    return {
        "s3.endpoint": endpoint,
        "s3.region": "us-east-1",
        "s3.access-key-id": owner.access_key_id or "",
        "s3.secret-access-key": owner.secret_access_key or "",
        "s3.request-timeout": "2",
    }
