"""A staged file's bytes, decompressed and checked on the way, in blocks that end where lines end."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from domain.ingestions.formats import Compression

BLOCK_BYTES = 8 << 20
LONGEST_LINE = 512 << 20
MOST_DECOMPRESSED = 64 << 30
"""No compressed file may unfold to more than this."""

_UTF8_MARK = b"\xef\xbb\xbf"
_GZIP_SUFFIXES = (".gz", ".gzip")
_ZSTD_SUFFIXES = (".zst", ".zstd")
_SIGNATURES = (
    (b"\x1f\x8b", "gzip data: name it .gz, or set the format's compression"),
    (b"\x28\xb5\x2f\xfd", "zstd data: name it .zst, or set the format's compression"),
    (b"PAR1", "a Parquet file"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xff\xfe", "UTF-16 text, not UTF-8"),
    (b"\xfe\xff", "UTF-16 text, not UTF-8"),
)


class FileContentError(ValueError):
    """What a file holds cannot be read; the message tells a person why."""


def compression_of(path: Path, option: Compression) -> Compression:
    if option is not Compression.AUTO:
        return option
    name = path.name.lower()
    if name.endswith(_GZIP_SUFFIXES):
        return Compression.GZIP
    return Compression.ZSTD if name.endswith(_ZSTD_SUFFIXES) else Compression.NONE


@contextmanager
def open_content(path: Path, compression: Compression) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed; what is wrong with the compression becomes `FileContentError`, also at its very end.

    A read returns no more than it is asked for, and takes no more memory than that and the codec's own buffers, however much
    a few bytes unfold to.
    """
    with path.open("rb", buffering=0) as file:
        try:
            match compression:
                case Compression.GZIP:
                    yield cast(BinaryIO, _Bounded(gzip.GzipFile(fileobj=file, mode="rb")))
                case Compression.ZSTD:
                    yield cast(BinaryIO, _Bounded(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")))
                case _:
                    yield file
        except EOFError:
            raise FileContentError("The gzip data ends early: the file is truncated.") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileContentError(f"The gzip data is damaged: {error}.") from None
        except OSError as error:
            if compression is not Compression.ZSTD or error.errno is not None:
                raise
            # Arrow's own, and not the system's: these have a number.
            if "Truncated" in str(error):
                raise FileContentError("The zstd data ends early: the file is truncated.") from None
            raise FileContentError(f"The zstd data is damaged: {error}.") from None


def read_blocks(path: Path, compression: Compression) -> Iterator[bytes]:
    """The file's bytes without a byte order mark, in blocks of whole lines; the last may lack its line end.

    Nothing is yielded for a file without content. Raises `FileContentError`, in the middle too.
    """
    size = BLOCK_BYTES
    if compression is Compression.NONE:
        # A buffer much larger than the file costs more than reading it.
        size = min(size, path.stat().st_size + 1)
    with open_content(path, compression) as stream:
        first = True
        rest: list[bytes] = []
        length = 0
        while data := stream.read(size):
            if first:
                first = False
                _refuse_other_formats(data)
                data = data.removeprefix(_UTF8_MARK)
            end = data.rfind(b"\n") + 1
            if end:
                yield b"".join([*rest, data[:end]])
                data, rest, length = data[end:], [], 0
            if data:
                rest.append(data)
                length += len(data)
            if length > LONGEST_LINE:
                raise FileContentError(f"A line is longer than {LONGEST_LINE >> 20} MB.")
        if length:
            yield b"".join(rest)


def _refuse_other_formats(data: bytes) -> None:
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            raise FileContentError(f"The file is {name}.")


class _Bounded(io.RawIOBase):
    """Stops reading when a stream unfolds to more than anybody meant."""

    def __init__(self, stream: io.BufferedIOBase | pa.NativeFile) -> None:
        self._stream = stream
        self._left = MOST_DECOMPRESSED

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size) or b""
        self._left -= len(data)
        if self._left < 0:
            raise FileContentError(f"The file unfolds to more than {MOST_DECOMPRESSED >> 30} GB.")
        return data
