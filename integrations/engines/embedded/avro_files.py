"""Avro object container files: checked block by block, decoded by polars."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from integrations.engines.embedded.column_types import TIME, is_struct, struct_fields, struct_of
from integrations.engines.embedded.content import FileContentError

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_CODECS = {"null", "deflate", "snappy"}
_PRIMITIVES = {"boolean", "int", "long", "float", "double", "bytes", "string"}
_MOST_HEADER = 64 << 20


def check_avro(path: Path) -> int:
    """The number of rows, from a walk over the file's blocks without decoding them.

    Raises `FileContentError` where it is no whole Avro file that we can read.

    A file cut exactly between two blocks cannot be told from a whole one: the format keeps no total.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise FileContentError("The file is not an Avro object container file.")
        try:
            header = _metadata(file)
            sync = _exactly(file, _SYNC_BYTES)
            _check_header(header)
            rows = 0
            while file.tell() < size:
                rows += _long(file)
                file.seek(_long(file), 1)
                if _exactly(file, _SYNC_BYTES) != sync:
                    raise FileContentError(f"The Avro data is damaged after row {rows}: a block does not end where it should.")
        except EOFError:
            raise FileContentError("The Avro file is truncated.") from None
    return rows


def read_avro(path: Path, rows: int | None = None) -> pa.Table:
    """The file, or its first rows. Raises `FileContentError`."""
    # Here, and not above: it takes a good part of a second and starts threads, and most processes never read Avro.
    import polars as pl

    try:
        table = pl.read_avro(path, n_rows=rows).to_arrow()
        return table.cast(pa.schema([field.with_type(_in_microseconds(field.type)) for field in table.schema]))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise FileContentError(f"The Avro file cannot be read: {str(error).splitlines()[0]}.") from None


def _in_microseconds(type_: pa.DataType) -> pa.DataType:
    """The type with times of day in microseconds, which is the most that Avro has, where polars gives nanoseconds."""
    if is_struct(type_):
        return struct_of({name: _in_microseconds(inner) for name, inner in struct_fields(type_).items()})
    if pa.types.is_large_list(type_):
        return pa.large_list(_in_microseconds(type_.value_type))
    return TIME if type_ == pa.time64("ns") else type_


def _check_header(header: dict[str, bytes]) -> None:
    codec = header.get("avro.codec", b"null").decode(errors="replace")
    if codec not in _CODECS:
        raise FileContentError(f"The Avro file is compressed with {codec}, which is not supported; {', '.join(sorted(_CODECS))} are.")
    try:
        schema = json.loads(header.get("avro.schema", b""))
    except ValueError:
        raise FileContentError("The Avro file's header holds no schema.") from None
    for problem in _unsupported(schema, "the record"):
        raise FileContentError(f"The Avro schema holds {problem}, which is not supported.")


def _unsupported(schema: Any, where: str) -> Iterator[str]:
    match schema:
        case list():
            types = [branch for branch in schema if branch != "null"]
            if len(types) != 1 or len(schema) != 2:
                yield f"a union that is not of null and one type in {where}"
            for branch in types:
                yield from _unsupported(branch, where)
        case "null":
            yield f"the type null in {where}"
        case str() if schema not in _PRIMITIVES:
            yield f'a reference to the type "{schema}" in {where}'
        case {"type": "map"}:
            yield f"a map in {where}"
        case {"type": "record"}:
            for field in schema.get("fields", []):
                yield from _unsupported(field.get("type"), f'"{field.get("name")}"')
        case {"type": "array"}:
            yield from _unsupported(schema.get("items"), where)
        case {"type": "enum" | "fixed"}:
            return
        case {"type": _}:
            yield from _unsupported(schema["type"], where)


def _metadata(file: BinaryIO) -> dict[str, bytes]:
    entries: dict[str, bytes] = {}
    while count := _long(file):
        if count < 0:
            _long(file)
        for _ in range(abs(count)):
            name = _exactly(file, _long(file)).decode(errors="replace")
            entries[name] = _exactly(file, _long(file))
    return entries


def _long(file: BinaryIO) -> int:
    """A zigzag variable-length integer."""
    value = shift = 0
    while True:
        byte = _exactly(file, 1)[0]
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1)
        if shift > 63:
            raise FileContentError("The Avro data is damaged: a length is out of range.")


def _exactly(file: BinaryIO, size: int) -> bytes:
    if not 0 <= size <= _MOST_HEADER:
        raise FileContentError("The Avro data is damaged: a length is out of range.")
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
