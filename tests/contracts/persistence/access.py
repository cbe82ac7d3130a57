"""What the API keys and the audit trail promise, inside a transaction and by the directory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.access.entities import ApiKey
from domain.ports.reader import Window
from domain.relations import API_KEYS, AUDIT_EVENTS, AuditEventFilter, NoFilter
from domain.tenants import Role, Tenant
from tests.contracts.persistence.world import World
from tests.factories import NOW, a_principal, an_api_key

FUTURE = datetime(2999, 1, 1, tzinfo=UTC)
PAST = datetime(2001, 1, 1, tzinfo=UTC)


async def store(world: World, tenant: Tenant | None = None, digest: bytes = b"1" * 32, **fields: Any) -> ApiKey:
    tenant = tenant or world.tenant
    async with world.begin(tenant) as tx:
        key: ApiKey = await tx.api_keys.create(an_api_key(tenant_id=tenant.id, **fields), digest)
        return key


class ApiKeyRepositoryContract:
    async def test_a_stored_key_lets_its_holder_in(self, world: World) -> None:
        key = await store(world, role=Role.OPERATOR, expires_at=FUTURE)
        async with world.begin() as tx:
            assert await tx.api_keys.get_by_id(key.id) == key
        found = await world.directory.principal_by_key(key.prefix, b"1" * 32)
        assert found == a_principal(world.tenant, role=Role.OPERATOR, api_key_id=key.id, name=key.name)
        assert await world.directory.principal_by_key(key.prefix, b"2" * 32) is None

    async def test_expired_and_revoked_keys_let_nobody_in(self, world: World) -> None:
        expired = await store(world, expires_at=PAST)
        revoked = await store(world)
        async with world.begin() as tx:
            changed = await tx.api_keys.revoke(revoked.id, NOW)
            assert changed.revoked_at == NOW
            assert await tx.api_keys.revoke(revoked.id, NOW + timedelta(days=1)) is None
            assert await tx.api_keys.get_by_id(revoked.id) == changed
        for key in (expired, revoked):
            assert await world.directory.principal_by_key(key.prefix, b"1" * 32) is None

    async def test_held_admins_are_those_that_let_somebody_in(self, world: World) -> None:
        admins = [await store(world), await store(world, expires_at=FUTURE)]
        await store(world, role=Role.OPERATOR)
        await store(world, expires_at=PAST)
        await store(world, world.other)
        revoked = await store(world)
        async with world.begin() as tx:
            await tx.api_keys.revoke(revoked.id, NOW)
        async with world.begin() as tx:
            assert await tx.api_keys.hold_admins() == sorted(key.id for key in admins)

    async def test_whoever_holds_the_admins_sees_what_the_one_before_has_revoked(self, world: World) -> None:
        for _ in range(3):
            await store(world)
        left: list[int] = []

        async def revoke_one_of_several() -> None:
            async with world.begin() as tx:
                held = await tx.api_keys.hold_admins()
                if len(held) > 1:
                    await tx.api_keys.revoke(held[0], NOW)
                left.append(len(held))

        await asyncio.gather(*(revoke_one_of_several() for _ in range(5)))
        assert left == [3, 2, 1, 1, 1]

    async def test_the_last_use_only_moves_on(self, world: World) -> None:
        used, unused = await store(world), await store(world)
        for at in (NOW, NOW - timedelta(hours=1)):
            await world.directory.record_key_use({used.id: at, uuid4(): at})
        async with world.begin() as tx:
            assert (await tx.api_keys.get_by_id(used.id)).last_used_at == NOW
            assert (await tx.api_keys.get_by_id(unused.id)).last_used_at is None
        await world.directory.record_key_use({used.id: NOW + timedelta(hours=1)})
        async with world.begin() as tx:
            assert (await tx.api_keys.get_by_id(used.id)).last_used_at == NOW + timedelta(hours=1)

    async def test_keys_are_listed_newest_first(self, world: World) -> None:
        keys = [await store(world, created_at=NOW + timedelta(minutes=minutes)) for minutes in (2, 1, 3)]
        (page,) = await world.reader.pages(API_KEYS, [None], Window(limit=2, order="NEWEST", filter=NoFilter()))
        assert [edge.node for edge in page.edges] == [keys[2], keys[0]]
        assert page.has_next


class AuditTrailContract:
    async def test_what_was_done_is_remembered_newest_first_and_filtered(self, world: World) -> None:
        key, run = UUID(int=1), UUID(int=2)
        principal = a_principal(world.tenant, name="ci\0", api_key_id=UUID(int=3))
        async with world.begin() as tx:
            await tx.audit.record(principal, "createApiKey", "ApiKey", key)
        async with world.begin() as tx:
            await tx.audit.record(a_principal(world.tenant, name="ada"), "runIngestion", "Run", run)

        async def listed(**filter: Any) -> list[tuple[Any, ...]]:
            window = Window(limit=10, order="NEWEST", filter=AuditEventFilter(**filter))
            (page,) = await world.reader.pages(AUDIT_EVENTS, [None], window)
            events = [edge.node for edge in page.edges]
            return [(e.actor, e.api_key_id, e.operation, e.subject_kind, e.subject_id) for e in events]

        created = ("ci\N{REPLACEMENT CHARACTER}", UUID(int=3), "createApiKey", "ApiKey", key)
        ran = ("ada", None, "runIngestion", "Run", run)
        assert await listed() == [ran, created]
        assert await listed(operation=("createApiKey",)) == [created]
        assert await listed(subject_id=run) == [ran]
        assert await listed(until=PAST) == await listed(since=FUTURE) == []

    async def test_nothing_is_remembered_of_what_did_not_happen(self, world: World) -> None:
        try:
            async with world.begin() as tx:
                await tx.audit.record(a_principal(world.tenant), "createApiKey", "ApiKey", uuid4())
                raise LookupError
        except LookupError:
            assert await world.reader.counts(AUDIT_EVENTS, [None], AuditEventFilter()) == [0]
