"""Parquet's INT96 timestamps: days and nanoseconds of a day, which 64 bits of nanoseconds hold from 1677 to 2262 alone.

Arrow reads them in a unit of one's choice and says nothing of what does not fit it. Older writers use them, also for 9999-12-31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from integrations.engines.embedded.column_types import is_list, is_map, is_struct
from integrations.engines.embedded.content import FileContentError

Int96Unit = Literal["us", "ns"]
_MOST_MICROSECONDS = (2**63 - 1) // 1000
"""Since 1970, or before it, that nanoseconds in 64 bits hold, too."""


def int96_unit(path: Path, metadata: pq.FileMetaData, check: Callable[[], None]) -> Int96Unit | None:
    """The unit that holds all INT96 timestamps of a file, microseconds if they do; None when the file has no such timestamps.

    Raises `FileContentError` where neither does, `pa.ArrowException` or `OSError` for a damaged file, and what `check` raises, which is
    called now and then.
    """
    leaves = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    tops = {leaf.path.split(".")[0] for leaf in leaves if leaf.physical_type == "INT96"}
    if not tops:
        return None
    columns = [leaf.path for leaf in leaves if leaf.path.split(".")[0] in tops]
    in_micros, in_nanos = (pq.ParquetFile(path, coerce_int96_timestamp_unit=unit).iter_batches(columns=columns) for unit in ("us", "ns"))
    whole, beyond = True, False
    for micros, nanos in zip(in_micros, in_nanos, strict=True):
        check()
        for first, second in zip(_timestamps(micros), _timestamps(nanos), strict=True):
            if first.type == second.type:
                continue
            microseconds = first.cast(pa.int64())
            # What overflows does so alike in both, so that the remainders tell also of moments that nanoseconds do not hold.
            same = pc.all(pc.equal(pc.multiply(microseconds, 1000), second.cast(pa.int64()))).as_py()
            whole = whole and same is not False
            most = pc.max(pc.abs(microseconds)).as_py()
            beyond = beyond or (most is not None and most > _MOST_MICROSECONDS)
    if not whole and beyond:
        raise FileContentError("The file has timestamps with nanoseconds beside others that are before 1678 or after 2261.")
    return "us" if whole else "ns"


def _timestamps(batch: pa.RecordBatch) -> Iterator[pa.Array]:
    for column in batch.columns:
        yield from _leaves(column)


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    if pa.types.is_timestamp(array.type):
        yield array
    elif is_map(array.type):
        yield from _leaves(array.keys)
        yield from _leaves(array.items)
    elif is_struct(array.type):
        for child in array.flatten():
            yield from _leaves(child)
    elif is_list(array.type):
        yield from _leaves(array.flatten())
