"""What the embedded engine must be told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CATALOG_NAME = "autoloader"


@dataclass(frozen=True, slots=True)
class EmbeddedEngineSettings:
    """Where the catalog, the tables and the scratch files are.

    `catalog_uri` is a SQLAlchemy URL (`postgresql+psycopg2://...`); `warehouse` is `file:///...` or `s3://...`, and
    `catalog_properties` hold what PyIceberg needs to reach it (`s3.endpoint`, ...). `staging_dir` is scratch space, best in
    memory, that exists. `memory_limit` is DuckDB's, for each load, in its notation (`1GB`). `concurrent_operations` bounds
    how many loads and look-ups run at once. What may hold secrets is not shown.
    """

    catalog_uri: str = field(repr=False)
    warehouse: str
    staging_dir: Path
    catalog_properties: Mapping[str, str] = field(default_factory=dict, repr=False)
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    memory_limit: str = "2GB"
    concurrent_operations: int = 4
    catalog_name: str = CATALOG_NAME
