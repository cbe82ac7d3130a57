"""What of the rates behind estimates and costs is other here than `domain/costs/rates.py` has it."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from domain.costs.rates import CostRates
from domain.ingestions.entities import ClusterSize, FormatType

_Factor = Annotated[float, Field(ge=0.001, le=1e6)]
_Price = Annotated[Decimal, Field(ge=0, le=10_000)]


class CostRatesSettings(BaseModel):
    """A format or a cluster size that is not named keeps its default, and so does everything else that is absent."""

    model_config = ConfigDict(extra="forbid")

    currency: str | None = Field(default=None, pattern="^[A-Z]{3}$", description="The currency of all prices, by its ISO 4217 code.")
    megabytes_per_second: dict[FormatType, _Factor] = Field(
        default_factory=dict, description="How fast a SMALL cluster reads a format, in megabytes of source a second."
    )
    table_bytes_per_source_byte: dict[FormatType, _Factor] = Field(
        default_factory=dict, description="How many bytes of table a byte of a format becomes."
    )
    speed_of_cluster: dict[ClusterSize, _Factor] = Field(
        default_factory=dict, description="How many times as fast as a SMALL cluster a size is."
    )
    cluster_per_hour: dict[ClusterSize, _Price] = Field(default_factory=dict, description="What an hour of a cluster size costs.")
    seconds_per_run: Annotated[float, Field(ge=0, le=86_400)] | None = Field(default=None, description="What a run takes beside reading.")
    storage_per_gigabyte_month: _Price | None = Field(default=None, description="What storing a gigabyte for a month costs.")
    per_thousand_reads: _Price | None = Field(default=None, description="What a thousand reads of the store cost.")
    per_thousand_listings: _Price | None = Field(default=None, description="What a thousand pages of listing cost.")

    def rates(self) -> CostRates:
        """The defaults, with what is told here in their place."""
        defaults, told = CostRates(), {name: value for name, value in self if value is not None}
        return dataclasses.replace(defaults, **{name: _over(getattr(defaults, name), value) for name, value in told.items()})


def _over(default: Any, told: Any) -> Any:
    return {**default, **told} if isinstance(told, dict) else told
