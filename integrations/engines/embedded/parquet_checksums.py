"""The page checksums of Parquet files that have some: readers do not look at them unless told to."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from integrations.engines.embedded.content import FileContentError

_CRC_FIELD = 4
_I32 = 5
_PAGE_TYPE_TO_CRC = 4
"""A page header begins with four 32-bit integers: type, two sizes, and perhaps the checksum."""


def verify_checksums(path: Path, metadata: pq.FileMetaData) -> None:
    """Raise `FileContentError` when a page is not what its checksum says. Files without checksums pass unread."""
    if not metadata.num_row_groups or not metadata.num_columns or not _has_checksum(path, metadata):
        return
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        for group in range(metadata.num_row_groups):
            file.read_row_group(group, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise FileContentError(f"The Parquet file is damaged: {str(error).splitlines()[0]}") from None


def _has_checksum(path: Path, metadata: pq.FileMetaData) -> bool:
    """Whether the header of the first page carries a checksum."""
    column = metadata.row_group(0).column(0)
    offset = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    with path.open("rb") as file:
        file.seek(offset)
        return _CRC_FIELD in _first_integer_fields(file)


def _first_integer_fields(file: BinaryIO) -> list[int]:
    """The ids of the leading 32-bit fields of a struct in Thrift's compact protocol."""
    ids: list[int] = []
    current = 0
    while len(ids) < _PAGE_TYPE_TO_CRC:
        header = file.read(1)
        if not header or header[0] & 0x0F != _I32 or not header[0] >> 4:
            break
        current += header[0] >> 4
        ids.append(current)
        while (byte := file.read(1)) and byte[0] & 0x80:
            pass
    return ids
