"""What is in a table, by PyIceberg from the catalog: a reader that shares no code with the engine that wrote it."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.catalog.sql import SqlCatalog

from autoloader.application import Application, engine_settings
from autoloader.demo.flights import Totals
from domain.ports.engine import SOURCE_FILE_COLUMN

_COMPARED = ("year", "month", "day", "distance", "air_time", SOURCE_FILE_COLUMN)


def read(application: Application, namespace: str, table: str, columns: tuple[str, ...] = _COMPARED) -> pa.Table:
    """All rows of the table now, in the given columns. Blocking."""
    url = application.database.url.render_as_string(hide_password=False)
    given = engine_settings(application.settings, url, application.settings.home)
    properties = {"uri": given.catalog_uri, "warehouse": given.warehouse, **given.catalog_properties}
    with closing(SqlCatalog(given.catalog_name, **properties)) as catalog:
        return catalog.load_table((namespace, table)).scan(selected_fields=columns).to_arrow()


def totals_of(rows: pa.Table) -> Totals:
    by_day = rows.group_by(["year", "month", "day"]).aggregate([([], "count_all")]).to_pylist()
    return Totals(
        {date(day["year"], day["month"], day["day"]): day["count_all"] for day in by_day},
        pc.sum(rows["distance"]).as_py() or 0,
        pc.sum(rows["air_time"]).as_py() or 0,
    )


def rows_by_file(rows: pa.Table) -> dict[str, int]:
    """Rows per source file, by the file's name."""
    counts = Counter[str]()
    for value in pc.value_counts(rows[SOURCE_FILE_COLUMN]).to_pylist():
        counts[Path(value["values"]).name] += value["counts"]
    return dict(counts)


def some(rows: pa.Table, limit: int) -> list[dict[str, Any]]:
    """A few rows, in the order of their keys."""
    first = pc.sort_indices(rows, [(name, "ascending") for name in rows.column_names])[:limit]
    found: list[dict[str, Any]] = rows.take(first).to_pylist()
    return found
