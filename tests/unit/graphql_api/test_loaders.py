"""A request's view of the world."""

from __future__ import annotations

from uuid import uuid4

from domain.costs.estimator import CostEstimator
from domain.costs.rates import CostRates
from domain.ingestions.entities import Ingestion
from domain.ports.telemetry import NoTelemetry
from graphql_api.loaders import Loaders
from graphql_api.turns import Turns
from tests.factories import an_ingestion
from tests.fakes.database import FakeDatabase
from tests.fakes.reader import FakeReader


async def test_what_is_forgotten_is_looked_at_afresh_and_the_present_moves_on() -> None:
    memory, tenant_id = FakeDatabase(), uuid4()
    loaders = Loaders(FakeReader(memory, tenant_id), CostEstimator(CostRates()), NoTelemetry(), Turns(1.0))
    ingestion, began = an_ingestion(tenant_id=tenant_id), loaders.asked_at
    assert await loaders.node(Ingestion, ingestion.id) is None
    memory.state.ingestions[ingestion.id] = ingestion
    assert await loaders.node(Ingestion, ingestion.id) is None
    assert loaders.asked_at == began
    loaders.forget()
    assert await loaders.node(Ingestion, ingestion.id) == ingestion
    assert loaders.asked_at > began
