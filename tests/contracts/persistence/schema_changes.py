"""What a `SchemaChangeRepository` promises."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.errors import NotFoundError
from domain.ports.engine import ColumnChange
from domain.schema_changes import SchemaChange, SchemaChangeDecision
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_proposal, needing, new_columns

PENDING, APPROVED, REJECTED = SchemaChangeDecision.PENDING, SchemaChangeDecision.APPROVED, SchemaChangeDecision.REJECTED


def decided(change: SchemaChange, decision: SchemaChangeDecision, *, days: int = 0) -> SchemaChange:
    return replace(change, decision=decision, decided_at=NOW + timedelta(days), decided_by="ann", decision_reason="so")


class SchemaChangeRepositoryContract:
    async def test_a_proposal_is_kept_as_it_is(self, world: World) -> None:
        ingestion = await world.ingestion()
        changes = (*new_columns("a", 'b: struct<"x:y": long>'), ColumnChange("c", "int", "long"))
        given = a_proposal(ingestion.id, changes=changes)
        async with world.begin() as tx:
            proposed = await tx.schema_changes.propose(**given)
        async with world.begin() as tx:
            assert await tx.schema_changes.get_by_id(proposed.id) == proposed
            assert await tx.schema_changes.get_by_id(uuid4()) is None
        assert {name: getattr(proposed, name) for name in given} == given
        assert (proposed.tenant_id, proposed.decision) == (world.tenant.id, PENDING)
        assert (proposed.decided_at, proposed.decided_by, proposed.decision_reason) == (None, None, None)

    async def test_a_proposal_needs_an_ingestion(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            async with world.begin() as tx:
                await tx.schema_changes.propose(**a_proposal(uuid4()))

    async def test_it_is_decided_once(self, world: World) -> None:
        ingestion = await world.ingestion()
        async with world.begin() as tx:
            change = await tx.schema_changes.propose(**a_proposal(ingestion.id))
            approved = decided(change, APPROVED)
            assert await tx.schema_changes.decide(approved) is True
            assert await tx.schema_changes.decide(decided(change, REJECTED)) is False
            assert await tx.schema_changes.decide(replace(approved, id=uuid4())) is False
        async with world.begin() as tx:
            assert await tx.schema_changes.get_by_id(change.id) == approved

    async def test_the_open_and_the_decided_ones_in_their_orders(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        made = []
        for _ in range(4):
            async with world.begin() as tx:
                made.append(await tx.schema_changes.propose(**a_proposal(ingestion.id)))
        late, early = decided(made[0], APPROVED, days=2), decided(made[2], REJECTED, days=1)
        async with world.begin() as tx:
            await tx.schema_changes.propose(**a_proposal(other.id))
            await tx.schema_changes.decide(late)
            await tx.schema_changes.decide(early)
            assert await tx.schema_changes.get_open(ingestion.id) == [made[1], made[3]]
            assert await tx.schema_changes.get_decided(ingestion.id) == [early, late]
            assert await tx.schema_changes.get_decided(other.id) == []

    async def test_what_was_decided_may_be_proposed_again(self, world: World) -> None:
        ingestion = await world.ingestion()
        changes = new_columns("extra")
        async with world.begin() as tx:
            change = await tx.schema_changes.propose(**a_proposal(ingestion.id, changes=changes))
            await tx.schema_changes.decide(decided(change, REJECTED))
            again = await tx.schema_changes.propose(**a_proposal(ingestion.id, changes=changes))
            assert await tx.schema_changes.get_open(ingestion.id) == [again]

    async def test_what_no_file_waits_for_is_withdrawn(self, world: World) -> None:
        ingestion, other = await world.ingestion(), await world.ingestion()
        await world.discover(ingestion, 2)
        batch, (held, released) = await world.claim(ingestion)
        async with world.begin() as tx:
            awaited, due, needless, done = [await tx.schema_changes.propose(**a_proposal(ingestion.id)) for _ in range(4)]
            elsewhere = await tx.schema_changes.propose(**a_proposal(other.id))
            await tx.schema_changes.decide(decided(done, APPROVED))
            await tx.files.mark_held(batch, [needing(held), needing(released)], {held.id: due.id, released.id: due.id})
            await tx.files.release_held(ingestion.id)
        batch, (held, _) = await world.claim(ingestion)
        async with world.begin() as tx:
            await tx.files.mark_held(batch, [needing(held)], {held.id: awaited.id})
            assert await tx.schema_changes.withdraw_needless(ingestion.id) == 1
            assert {change.id for change in await tx.schema_changes.get_open(ingestion.id)} == {awaited.id, due.id}
            assert await tx.schema_changes.get_by_id(needless.id) is None
            assert await tx.schema_changes.get_by_id(done.id) is not None
            assert await tx.schema_changes.get_by_id(elsewhere.id) == elsewhere
            await tx.files.release(batch)
