"""What a listing brings, and what of it enters the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from domain.errors import ErrorCode, UnsupportedError
from domain.ingestions.entities import Source, SourceType
from domain.ledger.entities import FileStatus
from domain.ports.object_store import SourceUnavailableError, StoredObject
from domain.ports.repositories import Discovered
from domain.runs.entities import Run
from tests.factories import BUCKET, NOW, a_source, a_stored_object
from tests.workbench import Workbench


async def listed(bench: Workbench, source: Source | None = None, **asked: Any) -> list[str]:
    """The names that a listing shows, below the source's path."""
    chosen = source or a_source()
    chunks = bench.discovery.list_files(chosen, bench.tenant.grants, **asked)
    base = chosen.path if chosen.path.endswith("/") else chosen.path + "/"
    return [object.path.removeprefix(base) async for chunk in chunks for object in chunk]


async def a_running_run(bench: Workbench, ingestion: Any) -> Run:
    return await bench.start(ingestion)


class TestListing:
    @pytest.mark.scenario(29)
    async def test_every_chunk_is_passed_on_as_it_comes(self, bench: Workbench) -> None:
        names = [f"{n:05}.json" for n in range(12_001)]
        bench.land(*names)
        sizes = [len(chunk) async for chunk in bench.discovery.list_files(a_source(), bench.tenant.grants)]
        assert sizes == bench.stores.chunk_sizes
        assert len(sizes) > 1
        assert await listed(bench) == names

    @pytest.mark.scenario(29, 31)
    async def test_a_limit_ends_the_listing_early(self, bench: Workbench) -> None:
        names = [f"{n:05}.json" for n in range(12_001)]
        bench.land(*names)
        assert await listed(bench, max_files=5_001) == names[:5_001]
        assert len(bench.stores.chunk_sizes) == 2

    @pytest.mark.scenario(31)
    @pytest.mark.parametrize(("limit", "count"), [(0, 0), (1, 1), (3, 3), (4, 3), (None, 3)])
    async def test_max_files(self, bench: Workbench, limit: int | None, count: int) -> None:
        bench.land("a", "b", "c")
        assert len(await listed(bench, max_files=limit)) == count

    @pytest.mark.scenario(31)
    async def test_max_files_counts_those_that_pass_the_filters(self, bench: Workbench) -> None:
        bench.land("a.csv", "a.json", "b.csv", "b.json", "c.json")
        assert await listed(bench, a_source(glob="*.json"), max_files=2) == ["a.json", "b.json"]

    @pytest.mark.scenario(30)
    async def test_since_leaves_out_what_was_modified_at_or_before_it(self, bench: Workbench) -> None:
        for minutes in range(4):
            bench.stores.put(f"{BUCKET}{minutes}", b"{}", modified_at=NOW + timedelta(minutes=minutes))
        minute = timedelta(minutes=1)
        assert await listed(bench, since=NOW + minute) == ["2", "3"]
        assert await listed(bench, a_source(modified_after=NOW + 2 * minute), since=NOW + minute) == ["3"]
        assert await listed(bench, a_source(modified_after=NOW), since=NOW + 2 * minute) == ["3"]

    async def test_a_file_that_may_still_be_written_is_left_alone(self, bench: Workbench) -> None:
        for age in (59, 60, 61):
            bench.stores.put(f"{BUCKET}{age}", b"{}", modified_at=NOW - timedelta(seconds=age))
        assert await listed(bench, a_source(min_age_seconds=60)) == ["60", "61"]
        assert await listed(bench) == ["59", "60", "61"]

    @pytest.mark.parametrize("path", ["s3://landing/events/", "s3://landing/events"])
    async def test_globs_are_matched_below_the_source(self, bench: Workbench, path: str) -> None:
        bench.land("a.json", "in/b.json", "in/c.csv")
        assert await listed(bench, a_source(path=path, glob="*.json")) == ["a.json"]
        assert await listed(bench, a_source(path=path, glob="in/*")) == ["in/b.json", "in/c.csv"]
        assert await listed(bench, a_source(path=path, glob="**/*.json")) == ["a.json", "in/b.json"]

    @pytest.mark.scenario(32)
    @pytest.mark.parametrize("type", [SourceType.AZURE_BLOB, SourceType.GCS])
    async def test_sources_that_do_not_work_yet(self, bench: Workbench, type: SourceType) -> None:
        with pytest.raises(ValueError, match=f"{type} sources are not supported yet") as caught:
            await listed(bench, a_source(type=type))
        assert isinstance(caught.value, UnsupportedError)
        assert caught.value.code is ErrorCode.UNSUPPORTED

    @pytest.mark.scenario(33)
    @pytest.mark.parametrize("after_chunks", [0, 1])
    async def test_a_store_that_fails_says_why(self, bench: Workbench, after_chunks: int) -> None:
        bench.land(*(f"{n:05}" for n in range(6_000)))
        error = SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, "s3://landing may not be listed")
        bench.stores.listing_failure = (after_chunks, error)
        with pytest.raises(SourceUnavailableError) as caught:
            await listed(bench)
        assert caught.value is error
        assert (caught.value.code, caught.value.message) == (ErrorCode.UNAVAILABLE, "s3://landing may not be listed")


class TestDiscovery:
    async def test_new_files_enter_the_ledger_and_the_runs_count(self, bench: Workbench) -> None:
        bench.land(*(f"{n:05}" for n in range(6_000)))
        ingestion = await bench.ingestion()
        run = await a_running_run(bench, ingestion)
        assert (await bench.discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered(new=6_000)
        assert (await bench.discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered()
        bench.land("new", "00000", content=b"changed")
        assert (await bench.discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered(new=1, changed=1)
        assert (await a_run_of(bench, run)).files_discovered == 6_002
        assert set((await bench.statuses(ingestion)).values()) == {FileStatus.PENDING}

    async def test_what_was_listed_before_a_failure_stays(self, bench: Workbench) -> None:
        bench.land(*(f"{n:05}" for n in range(6_000)))
        bench.stores.listing_failure = (1, SourceUnavailableError(SourceUnavailableError.UNREACHABLE, "gone"))
        ingestion = await bench.ingestion()
        run = await a_running_run(bench, ingestion)
        with pytest.raises(SourceUnavailableError):
            await bench.discovery.discover(ingestion, bench.tenant.grants, run)
        known = len(await bench.files(ingestion))
        assert known == (await a_run_of(bench, run)).files_discovered > 0
        bench.stores.listing_failure = None
        assert (await bench.discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered(new=6_000 - known)

    async def test_names_that_cannot_be_stored_are_left_out(
        self, bench: Workbench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        odd = ["\udcff.json", "a\0b", "x" * 3_000]
        ingestion = await bench.ingestion()
        run = await a_running_run(bench, ingestion)
        objects = [a_stored_object(name) for name in ("a", *odd, "ü")]
        monkeypatch.setattr(bench.stores, "open", lambda *_: _Listing(objects))
        assert (await bench.discovery.discover(ingestion, bench.tenant.grants, run)).found == Discovered(new=2)
        assert list(await bench.statuses(ingestion)) == ["a", "ü"]
        assert "3 files have paths that cannot be stored" in caplog.text


class _Listing:
    def __init__(self, objects: Sequence[StoredObject]) -> None:
        self._objects = objects

    async def list(self, *, chunk_size: int = 5_000) -> AsyncIterator[Sequence[StoredObject]]:
        yield self._objects


async def a_run_of(bench: Workbench, run: Run) -> Run:
    async with bench.unit_of_work(run.tenant_id) as tx:
        found = await tx.runs.get_by_id(run.id)
    assert found is not None
    return found
