"""What the embedded engine must be told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CATALOG_NAME = "autoloader"
LOOKUPS_AT_ONCE = 4
"""How many look-ups of metadata, which hold no rows in memory, are under way at once; loads never keep them waiting."""


@dataclass(frozen=True, slots=True)
class EmbeddedEngineSettings:
    """Where the catalog, the tables and the scratch files are.

    `catalog_uri` is a SQLAlchemy URL (`postgresql+psycopg2://...`); `warehouse` is `file:///...` or `s3://...`, and
    `catalog_properties` hold what PyIceberg needs to reach it (`s3.endpoint`, ...). `staging_dir` is scratch space, best in
    memory, that exists. `memory_limit` is DuckDB's, for each operation, in its notation (`1GB`). `concurrent_operations` bounds
    how many operations that handle rows (loads, previews, counts, removals, care of tables) are under way at once, and so their
    memory, which is at most the product of the two and what is parsed; metadata is looked up beside them, by `LOOKUPS_AT_ONCE`.
    What may hold secrets is not shown.
    """

    catalog_uri: str = field(repr=False)
    warehouse: str
    staging_dir: Path
    catalog_properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    memory_limit: str = "2GB"
    concurrent_operations: int = 4
    catalog_name: str = CATALOG_NAME
