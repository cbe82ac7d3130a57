"""Tokens of an identity provider at the API's door."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from domain.tenants import Tenant
from graphql_api.app import create_app
from graphql_api.authentication import Authentication
from tests.fixtures.api import Answer, Api, Client
from tests.fixtures.identity import IdentityProvider
from tests.integration.graphql_api.documents import create

WHO = "{ viewer { tenant role } }"
TENANT = "https://autoloader.test/tenant"


@dataclasses.dataclass(frozen=True)
class Door:
    """The API with tokens accepted; `tenant` is there."""

    api: Api
    http: httpx.AsyncClient
    provider: IdentityProvider
    tenant: Tenant

    def holder(self, **claims: Any) -> Client:
        """Who comes with a token of the tenant, an OPERATOR unless told otherwise."""
        return Client(self.http, self.tenant, self.provider.token(**{TENANT: self.tenant.name} | claims))

    async def ask(self, **claims: Any) -> Answer:
        return await self.holder(**claims).send(WHO)


@pytest.fixture
async def door(api: Api, identity_provider: IdentityProvider) -> AsyncIterator[Door]:
    async def ready() -> None:
        pass

    tenant = (await api.client()).tenant
    authentication = Authentication(api.directory, api.key_usage, identity_provider.verifier)
    app = create_app(dataclasses.replace(api.services, authentication=authentication), ready=ready)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api.test") as http:
        yield Door(api, http, identity_provider, tenant)


async def test_a_good_token_gives_tenant_and_role(door: Door) -> None:
    answer = await door.ask()
    assert (answer.status, answer.data) == (200, {"viewer": {"tenant": door.tenant.name, "role": "OPERATOR"}})
    admin = await door.ask(realm_access={"roles": ["loader-admin"]})
    assert admin.data["viewer"]["role"] == "ADMIN"


async def test_keys_are_good_beside_tokens(door: Door) -> None:
    key = (await door.api.client(tenant=door.tenant)).key
    assert (await Client(door.http, door.tenant, key).data(WHO))["viewer"]["role"] == "ADMIN"


@pytest.mark.parametrize("claims", [{"exp": 1}, {"aud": "another"}, {TENANT: "nobody"}, {TENANT: "nul\0"}, {"realm_access": {}}])
async def test_other_tokens_are_401(door: Door, claims: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    holder = door.holder(**claims)
    answer = await holder.send(WHO)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.body == {"errors": [{"message": "Credentials are missing or not good: send 'Authorization: Bearer <key>'."}]}
    assert holder.key is not None
    assert holder.key.split(".")[2] not in caplog.text


async def test_a_provider_that_is_down_is_503_and_keys_go_on(door: Door) -> None:
    door.provider.failure = httpx.ConnectError("10.0.0.9 refused")
    answer = await door.ask()
    assert answer.status == 503
    assert answer.body == {"errors": [{"message": "the identity provider's keys are not available", "extensions": {"code": "UNAVAILABLE"}}]}
    assert (await Client(door.http, door.tenant, (await door.api.client()).key).send(WHO)).status == 200


async def test_a_tokens_holder_sees_their_tenant_alone(door: Door) -> None:
    theirs = await door.api.client()
    await create(door.api, theirs, name="theirs")
    document = "{ ingestions { totalCount } }"
    for tenant, count in ((door.tenant.name, 0), (theirs.tenant.name, 1)):
        assert await door.holder(**{TENANT: tenant}).data(document) == {"ingestions": {"totalCount": count}}


async def test_the_trail_names_the_subject_and_a_token_may_revoke_the_last_key(door: Door) -> None:
    admin = door.holder(sub="ada@example.test", realm_access={"roles": ["loader-admin"]})
    [key] = (await admin.data("{ apiKeys { nodes { id } } }"))["apiKeys"]["nodes"]
    document = "mutation ($id: ID!) { revokeApiKey(id: $id) { __typename } }"
    assert await admin.data(document, {"id": key["id"]}) == {"revokeApiKey": {"__typename": "ApiKey"}}
    trail = await admin.data("{ auditEvents { nodes { actor apiKeyId operation } } }")
    assert trail == {"auditEvents": {"nodes": [{"actor": "ada@example.test", "apiKeyId": None, "operation": "revokeApiKey"}]}}


async def test_a_role_below_is_forbidden_by_token_as_by_key(door: Door) -> None:
    assert [e["extensions"]["code"] for e in (await door.holder().send("{ apiKeys { totalCount } }")).errors] == ["FORBIDDEN"]
