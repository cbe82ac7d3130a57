"""Local folders keep the object stores' contract, and give nothing from outside the granted roots."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.errors import ValidationError
from domain.ingestions.entities import Source, SourceType
from domain.ports.object_store import ObjectStore, SourceUnavailableError, StoredObject
from domain.tenants import Grants
from integrations.object_store import local_listing
from integrations.object_store.stores import ConfiguredObjectStores
from tests.contracts.object_store_contract import ObjectStoreContract, listed, paths_in, refusals


class LocalWorld:
    """A granted root with the source's folder in it, and a folder beside the root."""

    def __init__(self, stores: ConfiguredObjectStores, folder: Path) -> None:
        self._stores = stores
        self.root = folder / "root"
        self.outside = folder / "outside"
        self.source = self.root / "in"
        self.source_path = f"{self.source}/"
        self.outside.mkdir()
        self.source.mkdir(parents=True)

    def open(self, path: str | Path) -> ObjectStore:
        return self._stores.open(Source(SourceType.LOCAL, str(path)), Grants(local_roots=(str(self.root),)))

    def put(self, path: str | Path, content: bytes) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)

    def delete(self, path: str) -> None:
        Path(path).unlink()

    def missing_path(self) -> str:
        return f"{self.root}/none/"


@pytest.fixture
def stores() -> Iterator[ConfiguredObjectStores]:
    stores = ConfiguredObjectStores({})
    yield stores
    stores.close()


@pytest.fixture
def world(stores: ConfiguredObjectStores, tmp_path: Path) -> LocalWorld:
    return LocalWorld(stores, tmp_path)


@pytest.fixture
def store(world: LocalWorld) -> ObjectStore:
    return world.open(world.source)


class TestLocalObjectStore(ObjectStoreContract):
    @pytest.fixture
    def world(self, stores: ConfiguredObjectStores, tmp_path: Path) -> LocalWorld:
        return LocalWorld(stores, tmp_path)


def refusal(world: LocalWorld, path: str | Path) -> str:
    with pytest.raises(ValidationError) as refused:
        world.open(path)
    [error] = refused.value.fields
    assert error.path == ("source", "path")
    return error.message


@pytest.mark.parametrize("path", ["in", "./in", "file:///in", ""])
def test_a_path_must_be_absolute(world: LocalWorld, path: str) -> None:
    assert "absolute" in refusal(world, path)


@pytest.mark.parametrize("end", ["\0", "/../in", "/./x", "//x", "/" + "x" * 5_000])
def test_a_path_must_be_plain(world: LocalWorld, end: str) -> None:
    assert "must not" in refusal(world, f"{world.source}{end}")


async def test_a_path_outside_the_roots_is_refused(world: LocalWorld, tmp_path: Path) -> None:
    (world.root / "link").symlink_to(world.outside)
    beside = world.root.with_name("root2")
    beside.mkdir()
    for path in (world.outside, beside, world.root.parent, "/", world.root / "link", world.root / "link" / "below"):
        said = f"{path} is outside the local folders granted to this tenant ({world.root})"
        assert await refusals(world.open(path), f"{path}/a.json", tmp_path) == [said] * 5


async def test_a_mount_that_does_not_answer_holds_up_no_other_work(
    world: LocalWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.put(world.source / "a.json", b"1")
    [stored] = await listed(world.open(world.source))
    answers = threading.Event()
    asking: asyncio.Queue[str] = asyncio.Queue()
    loop, realpath = asyncio.get_running_loop(), os.path.realpath

    def slow(path: str, **options: bool) -> str:
        assert threading.current_thread() is not threading.main_thread(), "the event loop waits for the disk"
        loop.call_soon_threadsafe(asking.put_nowait, path)
        assert answers.wait(30)
        return realpath(path, **options)

    monkeypatch.setattr(os.path, "realpath", slow)
    calls = {
        "check": lambda store: store.check_access(),
        "list": listed,
        "stat": lambda store: store.stat(stored.path),
        "stage": lambda store: store.stage([stored], tmp_path),
        "changed": lambda store: store.changed_since_staged([stored]),
    }

    tasks = {name: asyncio.create_task(call(world.open(world.source))) for name, call in calls.items()}
    roots = [await asyncio.wait_for(asking.get(), 30) for _ in calls]
    still_waiting = [name for name, task in tasks.items() if not task.done()]
    answers.set()

    assert roots == [str(world.root)] * 5
    assert still_waiting == list(calls)
    assert {name: await task for name, task in tasks.items() if name != "stage"} == {
        "check": None,
        "list": [stored],
        "stat": stored,
        "changed": frozenset(),
    }
    [staged] = await tasks["stage"]
    assert staged.error is None


def test_nothing_is_granted_without_roots(stores: ConfiguredObjectStores, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="no local folder has been granted"):
        stores.open(Source(SourceType.LOCAL, str(tmp_path)), Grants())


def test_a_credential_makes_no_sense(stores: ConfiguredObjectStores, tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as refused:
        stores.open(Source(SourceType.LOCAL, str(tmp_path), credential="prod"), Grants(local_roots=(str(tmp_path),)))
    assert refused.value.fields[0].path == ("source", "credential")


async def test_a_root_may_itself_be_a_link(stores: ConfiguredObjectStores, world: LocalWorld, tmp_path: Path) -> None:
    world.put(world.source / "a.json", b"1")
    (tmp_path / "link").symlink_to(world.root)
    source = Source(SourceType.LOCAL, f"{tmp_path}/link/in")
    store = stores.open(source, Grants(local_roots=(f"{tmp_path}/link",)))
    assert await paths_in(store) == {f"{tmp_path}/link/in/a.json"}


async def test_links_out_of_the_roots_are_not_there(world: LocalWorld, store: ObjectStore, tmp_path: Path) -> None:
    world.put(world.outside / "secret.json", b"secret")
    world.put(world.source / "a.json", b"1")
    (world.source / "file.json").symlink_to(world.outside / "secret.json")
    (world.source / "folder").symlink_to(world.outside)
    (world.source / "dangling").symlink_to(world.root / "none")
    assert await paths_in(store) == {f"{world.source}/a.json"}
    for name in ("file.json", "folder/secret.json", "dangling", "../../outside/secret.json", "./a.json"):
        assert await store.stat(f"{world.source}/{name}") is None
    status = (world.outside / "secret.json").stat()
    forged = local_listing.stored_object(f"{world.source}/file.json", status)
    [staged] = await store.stage([forged], tmp_path)
    assert staged.local_path is None


async def test_a_file_swapped_for_a_link_out_is_known_before_the_commit(world: LocalWorld, store: ObjectStore, tmp_path: Path) -> None:
    world.put(world.outside / "secret.json", b"secret")
    world.put(world.source / "day/a.json", b"public")
    [stored] = await listed(store)
    [staged] = await store.stage([stored], tmp_path)
    assert staged.local_path is not None
    (world.source / "day/a.json").unlink()
    (world.source / "day/a.json").symlink_to(world.outside / "secret.json")
    assert await store.changed_since_staged([stored]) == {stored.path}
    [again] = await store.stage([stored], tmp_path)
    assert again.local_path is None


def wait_for_another_time(world: LocalWorld, file: Path) -> None:
    """Until what happens now happens at another time than the file's last change, by the file system's clock, which has ticks."""
    probe = world.outside / "probe"
    while True:
        probe.touch()
        if probe.stat().st_ctime_ns > file.stat().st_ctime_ns:
            return


async def test_a_file_that_was_away_while_it_was_read_is_known_before_the_commit(
    world: LocalWorld, store: ObjectStore, tmp_path: Path
) -> None:
    world.put(world.outside / "secret.json", b"secret")
    for name in ("a.json", "b.json"):
        world.put(world.source / name, b"public")
    objects = await listed(store)
    staged = {Path(item.object.path).name: item for item in await store.stage(objects, tmp_path)}
    wait_for_another_time(world, world.source / "a.json")
    (world.source / "a.json").rename(world.source / "away")
    (world.source / "a.json").symlink_to(world.outside / "secret.json")
    read = staged["a.json"].local_path
    assert read is not None
    assert read.read_bytes() == b"secret"

    (world.source / "away").rename(world.source / "a.json")

    assert await paths_in(store) == {stored.path for stored in objects}
    assert await store.changed_since_staged(objects) == {f"{world.source}/a.json"}


async def test_a_file_rewritten_while_it_was_read_is_known_whatever_its_times_say(
    world: LocalWorld, store: ObjectStore, tmp_path: Path
) -> None:
    world.put(world.source / "a.json", b"1")
    [stored] = await listed(store)
    await store.stage([stored], tmp_path)
    status = (world.source / "a.json").stat()
    wait_for_another_time(world, world.source / "a.json")

    (world.source / "a.json").write_bytes(b"2")
    os.utime(world.source / "a.json", ns=(status.st_atime_ns, status.st_mtime_ns))

    assert await listed(store) == [stored]
    assert await store.changed_since_staged([stored]) == {stored.path}


async def test_a_folder_swapped_for_a_link_out_while_it_is_listed_shows_nothing(
    world: LocalWorld, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(world.outside / "secret.json", b"secret")
    world.put(world.source / "day/a.json", b"public")
    (world.source / "later").symlink_to(world.outside)
    opened = os.open

    def swap_then_open(path: str, flags: int) -> int:
        if path == f"{world.source}/day":
            (world.source / "day").rename(world.root / "away")
            (world.source / "later").rename(world.source / "day")
        return opened(path, flags)

    monkeypatch.setattr(local_listing.os, "open", swap_then_open)
    assert await listed(store) == []
    assert (world.source / "day/secret.json").exists()


async def test_links_inside_the_roots_are_followed_once(world: LocalWorld, store: ObjectStore) -> None:
    world.put(world.source / "2026/a.json", b"1")
    world.put(world.root / "shared/b.json", b"2")
    (world.source / "latest.json").symlink_to(world.source / "2026/a.json")
    (world.source / "shared").symlink_to(world.root / "shared")
    (world.source / "latest").symlink_to(world.source / "2026")
    (world.source / "2026/up").symlink_to(world.source)
    (world.source / "2026/top").symlink_to(world.root)
    (world.root / "shared/again").symlink_to(world.root / "shared")
    (world.source / "itself").symlink_to(world.source / "itself")
    expected = {f"{world.source}/{name}" for name in ("2026/a.json", "latest.json", "shared/b.json")}
    assert await paths_in(store) == expected
    for path in expected:
        assert await store.stat(path) is not None


async def test_what_is_not_a_regular_file_is_not_there(world: LocalWorld, store: ObjectStore) -> None:
    os.mkfifo(world.source / "pipe")
    (world.source / "empty").mkdir()
    assert await listed(store) == []
    assert await store.stat(f"{world.source}/pipe") is None


async def test_a_file_replaced_by_one_of_the_same_size_and_time_has_changed(world: LocalWorld, store: ObjectStore, tmp_path: Path) -> None:
    path = world.source / "a.json"
    world.put(path, b"1")
    [stored] = await listed(store)
    status = path.stat()
    world.put(world.source / "b", b"2")
    os.utime(world.source / "b", ns=(status.st_atime_ns, status.st_mtime_ns))
    (world.source / "b").rename(path)
    [again] = await listed(store)
    assert (again.size_bytes, again.modified_at) == (stored.size_bytes, stored.modified_at)
    [staged] = await store.stage([stored], tmp_path)
    assert "has changed" in (staged.error or "")


async def test_a_name_that_is_not_text_is_listed_escaped_and_staged(world: LocalWorld, store: ObjectStore, tmp_path: Path) -> None:
    (world.source / os.fsdecode(b"caf\xe9 \\x41.json")).write_bytes(b"1")
    [stored] = await listed(store)
    assert stored.path == f"{world.source}/caf\\xe9 \\x41.json"
    assert await store.stat(stored.path) == stored
    [staged] = await store.stage([stored], tmp_path)
    assert staged.local_path is not None
    assert staged.local_path.read_bytes() == b"1"


@pytest.mark.parametrize("seconds", [-(2**40), 2**33, 2**34])
async def test_any_time_that_a_file_system_keeps_is_a_moment(world: LocalWorld, store: ObjectStore, seconds: int) -> None:
    world.put(world.source / "a.json", b"1")
    os.utime(world.source / "a.json", (seconds, seconds))
    [stored] = await listed(store)
    assert stored.modified_at.tzinfo is not None


async def test_a_file_is_not_a_folder_and_says_what_to_do(world: LocalWorld) -> None:
    world.put(world.source / "a.json", b"1")
    store = world.open(world.source / "a.json")
    with pytest.raises(SourceUnavailableError, match=r"not a folder; .* glob") as refused:
        await store.check_access()
    assert refused.value.reason == SourceUnavailableError.NOT_FOUND
    with pytest.raises(SourceUnavailableError, match="not a folder"):
        await listed(store)


@pytest.mark.parametrize(
    ("error", "reason"), [(PermissionError(13, "Permission denied"), "access denied"), (OSError(5, "I/O error"), "unreachable")]
)
async def test_a_folder_that_cannot_be_read_fails_the_listing(
    world: LocalWorld, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str
) -> None:
    for number in range(4):
        world.put(world.source / f"{number}.json", b"1")
    world.put(world.source / "closed/a.json", b"1")
    opened = os.open

    def refuse(path: str, flags: int) -> int:
        if path.endswith("/closed"):
            raise error
        return opened(path, flags)

    monkeypatch.setattr(local_listing.os, "open", refuse)
    chunks = store.list(chunk_size=2)
    assert [len(await anext(chunks)), len(await anext(chunks))] == [2, 2]
    with pytest.raises(SourceUnavailableError, match="/closed") as failed:
        await anext(chunks)
    assert failed.value.reason == reason


async def test_a_folder_of_many_files_is_streamed(world: LocalWorld, store: ObjectStore) -> None:
    """The walk stops with its reader: of 3,000 files it looks at no more than two chunks and the folder's read-ahead."""
    for number in range(3_000):
        (world.source / f"{number}.json").touch()
    looked_at = 0
    stored_object = local_listing.stored_object

    def count(path: str, status: os.stat_result) -> StoredObject:
        nonlocal looked_at
        looked_at += 1
        return stored_object(path, status)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_listing, "stored_object", count)
        chunks = store.list(chunk_size=100)
        assert len(await anext(chunks)) == 100
        del chunks
        assert 100 <= looked_at <= 200
