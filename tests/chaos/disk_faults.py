"""A warehouse with no room left."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.bench import Bench
from tests.chaos.workers import Order
from tests.chaos.world import Outcome

LARGEST_FILE = 24 << 10
"""Less than a data file has, more than any other file that a run writes."""
_PAGE = 4 << 10


async def no_room_for_a_data_file(bench: Bench) -> Outcome:
    """By the kernel's limit on the size of the worker's files, which needs no privilege: the write fails where it would pass it."""
    async with bench.world("no room for a data file") as world:
        world.land("a")
        worker = await world.start(Order(largest_file=LARGEST_FILE))
        run = await world.queue()
        await world.ended(run)
        assert "a batch could not be read or written" in worker.told(), worker.told()
        await worker.terminate()
        await world.start()
        await world.load_the_rest()
        return await world.compare()


def no_space_left(pages: int) -> Callable[[Bench], Awaitable[Outcome]]:
    """A file system of its own with so much room, in pages of 4 KiB, that the disk is full earlier or later on the way to the commit."""

    async def do(bench: Bench) -> Outcome:
        name = f"{pages} pages left"
        folder = bench.place / f"disk-{pages}"
        with _file_system(folder) as ballast:
            async with bench.world(name, warehouse=(folder / "warehouse").as_uri()) as world:
                world.land("a", files=3)
                worker = await world.start()
                await world.load_the_rest()
                await worker.terminate()
                ballast(leaving=pages * _PAGE)
                world.land("b")
                await world.start()
                run = await world.queue()
                await world.ended(run)
                ballast(leaving=None)
                await world.at_rest()
                await world.load_the_rest()
                return await world.compare()

    return do


def may_mount(folder: Path) -> bool:
    try:
        with _file_system(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _file_system(folder: Path) -> Iterator[Callable[..., None]]:
    """A tmpfs of 8 MiB; what is yielded fills it, but for so many bytes, or makes room again."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True, capture_output=True)
    (folder / "warehouse").mkdir()
    filling = folder / "ballast"

    def ballast(*, leaving: int | None) -> None:
        filling.unlink(missing_ok=True)
        if leaving is not None:
            free = subprocess.run(["stat", "-f", "-c", "%a %S", str(folder)], check=True, capture_output=True, text=True).stdout.split()
            filling.write_bytes(bytes(int(free[0]) * int(free[1]) - leaving))

    try:
        yield ballast
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
