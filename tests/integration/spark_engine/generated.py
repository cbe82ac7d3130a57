"""Whatever is in the files: three batches of generated ones for one table, under policies of their own, are the same by both engines."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from domain.ingestions.entities import BadRowPolicy, FormatType, SchemaEvolution
from domain.ports.engine import RESCUED_DATA_COLUMN
from tests.integration.spark_engine.test_differential import Both, Comparable, as_it_is


async def compare_batches(
    both: Both,
    chance: random.Random,
    format: FormatType,
    first: bytes | str,
    make_file: Callable[[random.Random], bytes | str],
    *,
    bad_rows: BadRowPolicy,
    sizes: Sequence[int] = (1, 3),
    comparable: Comparable = as_it_is,
    **how: Any,
) -> None:
    """Load what `make_file` gives, batch by batch, through both; any difference is an error of an assertion.

    `first` is a file to make the table of. The first batch may add columns; what becomes of new ones later is chosen. A batch has
    as many files as one of `sizes` says; `how` is what else `Both.load` takes.
    """
    later = chance.choice(list(SchemaEvolution))
    suffix = format.lower()
    both.land(f"first.{suffix}", first)
    await both.load(f"first.{suffix}", format=format, **how)
    for batch, evolution in enumerate((SchemaEvolution.ADD_NEW_COLUMNS, later, later)):
        names = [f"{batch}-{number}.{suffix}" for number in range(chance.choice(sizes))]
        for name in names:
            both.land(name, make_file(chance))

        await both.load(*names, format=format, bad_rows=bad_rows, evolution=evolution, **how)

        both.same_tables(comparable)


def rescued_or_not(row: Mapping[str, Any]) -> str:
    """Rescued rows are put together by each engine in its own way, where files do not hold them as lines of text."""
    return as_it_is({name: value is not None if name == RESCUED_DATA_COLUMN else value for name, value in row.items()})
