"""What things cost and how fast they go: configured, with defaults that say where they are from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from domain.ingestions.entities import ClusterSize, FormatType


@dataclass(frozen=True, slots=True)
class CostRates:
    """Money in `currency`; gigabytes are 10**9 bytes, as stores bill them.

    The default prices are AWS's list prices for us-east-1 of 2025: S3 Standard, and the on-demand instances m6i.large,
    m6i.2xlarge and m6i.8xlarge for the cluster sizes. The default throughputs, in megabytes of source a second on a SMALL
    cluster (2 cores), are rounded down from `make bench`.
    """

    currency: str = "USD"
    megabytes_per_second: Mapping[FormatType, float] = field(
        default_factory=lambda: {
            FormatType.JSON: 80.0,
            FormatType.CSV: 120.0,
            FormatType.PARQUET: 70.0,
            FormatType.AVRO: 40.0,
            FormatType.ORC: 60.0,
        }
    )
    table_bytes_per_source_byte: Mapping[FormatType, float] = field(
        default_factory=lambda: {
            FormatType.JSON: 0.15,
            FormatType.CSV: 0.3,
            FormatType.PARQUET: 1.0,
            FormatType.AVRO: 0.6,
            FormatType.ORC: 1.0,
        }
    )
    speed_of_cluster: Mapping[ClusterSize, float] = field(
        default_factory=lambda: {ClusterSize.SMALL: 1.0, ClusterSize.MEDIUM: 4.0, ClusterSize.LARGE: 16.0}
    )
    cluster_per_hour: Mapping[ClusterSize, Decimal] = field(
        default_factory=lambda: {
            ClusterSize.SMALL: Decimal("0.096"),
            ClusterSize.MEDIUM: Decimal("0.384"),
            ClusterSize.LARGE: Decimal("1.536"),
        }
    )
    seconds_per_run: float = 1.0
    storage_per_gigabyte_month: Decimal = Decimal("0.023")
    per_thousand_reads: Decimal = Decimal("0.0004")
    per_thousand_listings: Decimal = Decimal("0.005")
