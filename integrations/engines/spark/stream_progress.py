"""What a streaming query tells of itself, epoch by epoch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql.connect import functions as F

from domain.ports.engine import RESCUED_DATA_COLUMN, SOURCE_FILE_COLUMN
from domain.ports.streaming import StreamMetrics

_OBSERVATION = "autoloader"
_OBSERVED = {
    "rows": "count(*)",
    "rescued": f"count({RESCUED_DATA_COLUMN})",
    # An epoch has thousands of files at most, and a file is in one epoch.
    "files": f"size(collect_set({SOURCE_FILE_COLUMN}))",
}


def observed(rows: DataFrame) -> DataFrame:
    """The same rows, of which the query's progress will tell."""
    return rows.observe(_OBSERVATION, *(F.expr(expression).alias(name) for name, expression in _OBSERVED.items()))


class StreamProgress:
    """Adds up what is told. A server tells of the latest epochs again and again, and of those without data too."""

    def __init__(self) -> None:
        self._epochs: dict[int, StreamMetrics] = {}

    def take(self, told: Iterable[Any]) -> bool:
        """Whether there were epochs with data among what is new."""
        fresh = False
        for progress in told:
            epoch = json.loads(progress.json)
            values = (epoch.get("observedMetrics") or {}).get(_OBSERVATION)
            if values and epoch["batchId"] not in self._epochs:
                self._epochs[epoch["batchId"]] = _metrics(epoch, values)
                fresh = True
        return fresh

    @property
    def metrics(self) -> StreamMetrics:
        told = self._epochs.values()
        return StreamMetrics(
            rows=sum(epoch.rows for epoch in told),
            rows_rescued=sum(epoch.rows_rescued for epoch in told),
            files=sum(epoch.files for epoch in told),
            epochs=len(told),
            seconds=sum(epoch.seconds for epoch in told),
        )


def _metrics(epoch: dict[str, Any], values: dict[str, Any]) -> StreamMetrics:
    rows, rescued, files = values["values"]
    return StreamMetrics(rows, rescued, files, 1, epoch["batchDuration"] / 1000)
