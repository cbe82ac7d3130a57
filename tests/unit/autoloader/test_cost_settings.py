"""The rates in the environment."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import orjson
import pydantic
import pytest

from autoloader.cost_settings import CostRatesSettings
from autoloader.settings import Settings
from domain.costs.rates import CostRates
from domain.ingestions.entities import ClusterSize, FormatType
from tests.unit.docs.markdown import document


def read(monkeypatch: pytest.MonkeyPatch, rates: Any) -> CostRates:
    monkeypatch.setenv("AUTOLOADER_COST_RATES", rates if isinstance(rates, str) else orjson.dumps(rates).decode())
    return Settings().cost_rates.rates()


def test_without_any_the_defaults_hold() -> None:
    assert Settings().cost_rates.rates() == CostRates()


def test_every_rate_can_be_told_and_is_in_the_readme() -> None:
    names = {field.name for field in dataclasses.fields(CostRates)}
    assert set(CostRatesSettings.model_fields) == names
    assert names <= {row[0].strip("`") for row in document("README.md").rows()}


def test_what_is_told_takes_the_place_of_the_default_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = read(monkeypatch, {"currency": "EUR", "cluster_per_hour": {"SMALL": 0.11}, "megabytes_per_second": {"CSV": 7}})
    defaults = CostRates()
    assert rates == dataclasses.replace(
        defaults,
        currency="EUR",
        cluster_per_hour={**defaults.cluster_per_hour, ClusterSize.SMALL: Decimal("0.11")},
        megabytes_per_second={**defaults.megabytes_per_second, FormatType.CSV: 7.0},
    )


def test_free_is_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, {"per_thousand_reads": 0}).per_thousand_reads == 0


@pytest.mark.parametrize(
    "rates",
    [
        {"price": 1},
        {"currency": "euros"},
        {"cluster_per_hour": {"HUGE": 1}},
        {"cluster_per_hour": {"SMALL": -1}},
        {"cluster_per_hour": {"SMALL": "NaN"}},
        {"storage_per_gigabyte_month": "Infinity"},
        {"megabytes_per_second": {"JSON": 0}},
        {"megabytes_per_second": {"JSON": "nan"}},
        {"megabytes_per_second": {"XML": 1}},
        {"seconds_per_run": -1},
        [],
    ],
)
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, rates: Any) -> None:
    with pytest.raises(pydantic.ValidationError, match="cost_rates"):
        read(monkeypatch, rates)
