"""Compressed content: what is asked for comes out, and no more is unfolded than that."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from domain.ingestions.formats import Compression
from integrations.engines.embedded.content import FileContentError, open_content

MEGABYTE = 1 << 20
TEXT = b'{"id": 1}\n' * 1000
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"

READ_ALL = """
import resource, sys
from pathlib import Path
from domain.ingestions.formats import Compression
from integrations.engines.embedded.content import open_content

def most_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

size, before = 0, most_memory()
with open_content(Path(sys.argv[1]), Compression(sys.argv[2])) as content:
    while data := content.read(1 << 20):
        size += len(data)
print(size, most_memory() - before)
"""


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read(path: Path, compression: Compression = Compression.ZSTD) -> bytes:
    with open_content(path, compression) as content:
        return b"".join(iter(lambda: content.read(1000), b""))


@pytest.mark.parametrize(("compression", "compress"), [(Compression.GZIP, gzip.compress), (Compression.ZSTD, zstd)])
def test_few_bytes_that_unfold_to_many_take_no_more_memory_than_is_asked_for(
    tmp_path: Path, compression: Compression, compress: Callable[[bytes], bytes]
) -> None:
    bomb = written(tmp_path / "bomb", compress(bytes(256 * MEGABYTE)))
    assert bomb.stat().st_size < MEGABYTE

    with open_content(bomb, compression) as content:
        assert [len(content.read(MEGABYTE)) for _ in range(3)] == [MEGABYTE] * 3
    told = subprocess.run([sys.executable, "-c", READ_ALL, str(bomb), compression], check=True, capture_output=True, text=True).stdout

    size, memory = map(int, told.split())
    assert size == 256 * MEGABYTE
    assert memory < 64 * MEGABYTE


@pytest.mark.parametrize(
    "content",
    [zstd(TEXT), zstd(TEXT[:500]) + zstd(TEXT[500:]), zstd(b"") + zstd(TEXT) + zstd(b""), SKIPPABLE + zstd(TEXT) + SKIPPABLE],
    ids=["one frame", "two frames", "empty frames around", "skippable frames around"],
)
def test_all_frames_are_read(tmp_path: Path, content: bytes) -> None:
    assert read(written(tmp_path / "a.zst", content)) == TEXT


def test_a_file_of_no_frame_holds_nothing(tmp_path: Path) -> None:
    assert read(written(tmp_path / "a.zst", b"")) == b""


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_file_cut_anywhere_is_truncated(tmp_path: Path, compression: Compression) -> None:
    whole = (gzip.compress if compression is Compression.GZIP else zstd)(TEXT)

    for size in range(2, len(whole)):
        with pytest.raises(FileContentError, match="truncated"):
            read(written(tmp_path / "a", whole[:size]), compression)


@pytest.mark.parametrize("content", [b"not zstd at all", zstd(TEXT) + b"and more", zstd(TEXT)[:-1] + b"\0"])
def test_what_is_no_zstd_is_damaged(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FileContentError, match="zstd data is damaged"):
        read(written(tmp_path / "a.zst", content))


def test_a_disk_that_fails_is_no_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zst", zstd(TEXT))

    with pytest.raises(OSError, match="No space left"), open_content(path, Compression.ZSTD):
        raise OSError(28, "No space left on device")
