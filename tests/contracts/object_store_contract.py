"""What every object store does: one suite, run for the fake, for local folders and for a real S3 server.

A subclass gives the `world` fixture.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from domain.errors import ValidationError
from domain.ports.object_store import ObjectStore, SourceUnavailableError, StoredObject

AWKWARD_NAMES = [
    "a b.json",
    " lead and trail .json ",
    "a+b.json",
    "a%20b.json",
    "a%2Fb.json",
    "*?[x]{y}.json",
    "#frag?ment=1&x.json",
    "qu\"ote&<>'.json",
    "new\nline.json",
    "tab\tstop.json",
    "ünï-日本-😀.json",
    "u\u0308decomposed.json",
    "e:x,y;z=@$!~^`|.json",
    "..dots.json",
    "dir with space/day=2026-01-01/x.json",
]


class World(Protocol):
    """A place to put objects into and look at them through a store."""

    source_path: str
    """What the source's path is, with the last slash."""

    def open(self, path: str) -> ObjectStore: ...
    def put(self, path: str, content: bytes) -> None:
        """Write or overwrite the object at an absolute path; folders appear as needed."""
        ...

    def delete(self, path: str) -> None: ...
    def missing_path(self) -> str:
        """A well-formed path of a source whose bucket or folder does not exist."""
        ...


async def listed(store: ObjectStore, chunk_size: int = 5_000) -> list[StoredObject]:
    return [stored async for chunk in store.list(chunk_size=chunk_size) for stored in chunk]


async def refusals(store: ObjectStore, path: str, into: Path) -> list[str]:
    """What each of the store's methods says of a source that leads out of what was granted."""
    stored = StoredObject(path, 1, "etag", datetime(2026, 1, 1, tzinfo=UTC))
    calls = (store.check_access(), listed(store), store.stat(path), store.stage([stored], into), store.changed_since_staged([stored]))
    messages = []
    for call in calls:
        with pytest.raises(ValidationError) as refused:
            await call
        [error] = refused.value.fields
        assert error.path == ("source", "path")
        messages.append(error.message)
    return messages


async def paths_in(store: ObjectStore) -> set[str]:
    found = [stored.path for stored in await listed(store)]
    assert len(found) == len(set(found))
    return set(found)


async def the_only(store: ObjectStore) -> StoredObject:
    [stored] = await listed(store)
    return stored


def contents(staged: Sequence[Path | None]) -> list[bytes | None]:
    return [path.read_bytes() if path is not None else None for path in staged]


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


class ObjectStoreContract:
    @pytest.fixture
    def store(self, world: World) -> ObjectStore:
        return world.open(world.source_path)

    @pytest.fixture
    def into(self, tmp_path: Path) -> Path:
        folder = tmp_path / "staged"
        folder.mkdir()
        return folder

    async def test_lists_everything_below_the_source_with_size_and_time(self, world: World, store: ObjectStore) -> None:
        base = world.source_path
        sizes = {"a.json": 3, "b/c.csv": 5, "b/d/e.parquet": 0, "_SUCCESS": 1, ".hidden/x": 2}
        for name, size in sizes.items():
            world.put(base + name, b"x" * size)
        found = {stored.path: stored for stored in await listed(store)}
        assert {path: stored.size_bytes for path, stored in found.items()} == {base + name: size for name, size in sizes.items()}
        for stored in found.values():
            assert stored.etag
            assert stored.modified_at.utcoffset() == timedelta(0)

    async def test_dates_an_object_at_its_writing(self, world: World, store: ObjectStore) -> None:
        world.put(world.source_path + "a.json", b"1")
        stored = await the_only(store)
        assert datetime(2025, 1, 1, tzinfo=UTC) < stored.modified_at < datetime.now(UTC) + timedelta(minutes=1)

    async def test_hands_out_chunks_of_the_size_asked(self, world: World, store: ObjectStore) -> None:
        for number in range(25):
            world.put(f"{world.source_path}{number % 3}/{number:02d}.json", b"1")
        sizes = [len(chunk) async for chunk in store.list(chunk_size=10)]
        assert sizes == [10, 10, 5]

    async def test_an_empty_source_has_no_chunks(self, world: World, store: ObjectStore) -> None:
        world.put(world.source_path + "a.json", b"1")
        world.delete(world.source_path + "a.json")
        assert [chunk async for chunk in store.list()] == []
        await store.check_access()

    async def test_a_path_without_its_last_slash_is_that_folder_and_no_other(self, world: World) -> None:
        folder = world.source_path + "in"
        world.put(folder + "/a.json", b"1")
        world.put(folder + "2/b.json", b"1")
        world.put(folder + ".json", b"1")
        assert await paths_in(world.open(folder)) == {folder + "/a.json"}
        assert await paths_in(world.open(folder + "/")) == {folder + "/a.json"}
        await world.open(folder).check_access()

    async def test_the_etag_tells_contents_of_one_size_apart(self, world: World, store: ObjectStore) -> None:
        world.put(world.source_path + "a.json", b"1")
        first, again = await the_only(store), await the_only(store)
        assert again == first
        world.put(world.source_path + "a.json", b"2")
        assert (await the_only(store)).etag != first.etag

    async def test_stat_says_what_the_listing_says(self, world: World, store: ObjectStore) -> None:
        world.put(world.source_path + "b/a.json", b"123")
        assert await store.stat(world.source_path + "b/a.json") == await the_only(store)

    async def test_stat_finds_nothing_where_no_object_of_the_source_is(self, world: World) -> None:
        world.put(world.source_path + "in/a.json", b"1")
        world.put(world.source_path + "out/b.json", b"1")
        store = world.open(world.source_path + "in/")
        for path in ("in/none.json", "in/a.json/b", "in", "in/", "out/b.json"):
            assert await store.stat(world.source_path + path) is None, path

    async def test_stages_the_bytes_in_the_order_asked_under_safe_names(self, world: World, store: ObjectStore, into: Path) -> None:
        for name in ("[a]*.json.gz", "b.csv", "c"):
            world.put(world.source_path + name, name.encode())
        objects = sorted(await listed(store), key=lambda stored: stored.path, reverse=True)
        staged = await store.stage(objects, into)
        assert [result.object for result in staged] == objects
        assert contents([result.local_path for result in staged]) == [b"c", b"b.csv", b"[a]*.json.gz"]
        paths = [result.local_path for result in staged if result.local_path is not None]
        assert [path.name.partition(".")[2] for path in paths] == ["", "csv", "json.gz"]
        assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9./-]*", str(path.relative_to(into))) for path in paths)
        assert [(result.error, result.transient) for result in staged] == [(None, False)] * 3

    async def test_stages_again_beside_what_is_staged(self, world: World, store: ObjectStore, into: Path) -> None:
        world.put(world.source_path + "a.json", b"1")
        stored = await the_only(store)
        staged = [*await store.stage([stored], into), *await store.stage([stored], into)]
        assert contents([result.local_path for result in staged]) == [b"1", b"1"]
        assert len({result.local_path for result in staged}) == 2

    async def test_stages_nothing_when_asked_for_nothing(self, store: ObjectStore, into: Path) -> None:
        assert list(await store.stage([], into)) == []

    async def test_stages_an_empty_object(self, world: World, store: ObjectStore, into: Path) -> None:
        world.put(world.source_path + "a.json", b"")
        [staged] = await store.stage([await the_only(store)], into)
        assert contents([staged.local_path]) == [b""]

    async def test_an_object_that_has_gone_keeps_no_other_from_being_staged(self, world: World, store: ObjectStore, into: Path) -> None:
        for name in ("a.json", "b.json", "c.json"):
            world.put(world.source_path + name, name.encode())
        objects = sorted(await listed(store), key=lambda stored: stored.path)
        world.delete(objects[1].path)
        staged = await store.stage(objects, into)
        assert contents([result.local_path for result in staged]) == [b"a.json", None, b"c.json"]
        assert "has gone" in (staged[1].error or "")
        assert not staged[1].transient
        assert len(files_in(into)) <= 2

    async def test_an_object_overwritten_since_the_listing_is_not_staged(self, world: World, store: ObjectStore, into: Path) -> None:
        world.put(world.source_path + "a.json", b"1")
        stored = await the_only(store)
        world.put(world.source_path + "a.json", b"2")
        [staged] = await store.stage([stored], into)
        assert staged.local_path is None
        assert "has changed" in (staged.error or "")
        assert not staged.transient
        assert files_in(into) == []

    async def test_an_object_outside_the_source_is_not_staged(self, world: World, into: Path) -> None:
        world.put(world.source_path + "out/a.json", b"1")
        world.put(world.source_path + "in/b.json", b"1")
        stored = await the_only(world.open(world.source_path + "out/"))
        [staged] = await world.open(world.source_path + "in/").stage([stored], into)
        assert staged.local_path is None
        assert staged.error

    async def test_what_was_staged_and_not_touched_has_not_changed(self, world: World, store: ObjectStore, into: Path) -> None:
        world.put(world.source_path + "a.json", b"1")
        objects = await listed(store)
        await store.stage(objects, into)
        assert await store.changed_since_staged(objects) == frozenset()

    @pytest.mark.parametrize("then", ["overwritten", "deleted"])
    async def test_staged_bytes_are_the_listed_ones_or_are_known_not_to_be(
        self, world: World, store: ObjectStore, into: Path, then: str
    ) -> None:
        world.put(world.source_path + "a.json", b"1")
        stored = await the_only(store)
        [staged] = await store.stage([stored], into)
        assert staged.local_path is not None
        if then == "overwritten":
            world.put(stored.path, b"2")
        else:
            world.delete(stored.path)
        changed = await store.changed_since_staged([stored])
        still_the_same = staged.local_path.exists() and staged.local_path.read_bytes() == b"1"
        assert changed == (frozenset() if still_the_same else {stored.path})

    @pytest.mark.parametrize("name", AWKWARD_NAMES)
    async def test_any_name_is_listed_as_it_is_and_staged(self, world: World, store: ObjectStore, into: Path, name: str) -> None:
        path = world.source_path + name
        world.put(path, name.encode())
        stored = await the_only(store)
        assert stored.path == path
        assert await store.stat(path) == stored
        [staged] = await store.stage([stored], into)
        assert contents([staged.local_path]) == [name.encode()]

    async def test_a_missing_location_says_so(self, world: World) -> None:
        store = world.open(world.missing_path())
        with pytest.raises(SourceUnavailableError) as checked:
            await store.check_access()
        assert checked.value.reason == SourceUnavailableError.NOT_FOUND
        with pytest.raises(SourceUnavailableError) as asked:
            await listed(store)
        assert asked.value.reason == SourceUnavailableError.NOT_FOUND

    async def test_a_listing_may_be_left_early_and_begun_again(self, world: World, store: ObjectStore) -> None:
        for number in range(6):
            world.put(f"{world.source_path}{number}.json", b"1")
        async for chunk in store.list(chunk_size=2):
            assert len(chunk) == 2
            break
        assert len(await listed(store, chunk_size=4)) == 6

    async def test_is_safe_to_share_between_tasks(self, world: World, store: ObjectStore, into: Path) -> None:
        for number in range(20):
            world.put(f"{world.source_path}{number}.json", str(number).encode())
        objects = await listed(store)
        listings, staged = await asyncio.gather(
            asyncio.gather(*(listed(store, chunk_size=3) for _ in range(4))),
            asyncio.gather(*(store.stage(objects, into) for _ in range(4))),
        )
        assert [sorted(found, key=str) for found in listings] == [sorted(objects, key=str)] * 4
        for results in staged:
            assert [path.read_bytes() for result in results if (path := result.local_path)] == [
                stored.path.removeprefix(world.source_path).removesuffix(".json").encode() for stored in objects
            ]
