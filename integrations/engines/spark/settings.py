"""What the Spark engine must be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SESSION_SETTINGS: Mapping[str, str] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
    "spark.sql.ansi.enabled": "true",
    # Files are named one by one, and Spark asks the store for each. In tasks of many: one after another in the driver is slow where the
    # store is far, and a task for each of thousands costs more than reading them, as does a partition for each.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",
    "spark.sql.files.openCostInBytes": "65536",
    # Aggregates keep a small state for each file; with more than 128 of them Spark would sort all rows by file instead.
    "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "100000",
    # A file that cannot be read, or has gone, is an error and not a silence.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    # What has nothing but nulls in Parquet is of no type yet, and not a column of integers.
    "spark.sql.parquet.reader.respectUnknownTypeAnnotation.enabled": "true",
    # A stream that a lost worker has left running is stopped before the same one is started again.
    "spark.sql.streaming.stopActiveRunOnRestart": "true",
}
"""Of each session, whatever the server's own are."""


_OF_DATABRICKS = (".databricks.com", ".azuredatabricks.net")


@dataclass(frozen=True, slots=True)
class SparkServer:
    """A Spark Connect server: `url` as in `sc://host:15002` (with `/;use_ssl=true` for TLS), `token` when it asks for one.

    A token is sent over TLS, but for this machine's own server. `session` holds settings of each session, such as those of the
    catalog: they may be secret. Times in seconds.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    session: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_seconds: float = 10.0
    request_seconds: float = 120.0
    tries: int = 3
    backoff_seconds: float = 0.5

    @property
    def is_databricks(self) -> bool:
        """By its host's name, or by a cluster's id among the URL's parameters."""
        host, _, parameters = self.url.removeprefix("sc://").partition("/")
        return host.partition(":")[0].endswith(_OF_DATABRICKS) or "x-databricks-" in parameters
