"""Which tokens are believed, what they say, and how often the provider is asked for its keys."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest

from domain.errors import UnavailableError
from domain.ports.identity import Identity
from domain.tenants import Role
from integrations.identity.oidc import LEEWAY_SECONDS, MAX_TOKEN_CHARACTERS
from integrations.identity.provider import is_trustworthy
from integrations.identity.signing_keys import AGAIN_SECONDS, FRESH_SECONDS, MAX_DOCUMENT_BYTES, STALE_SECONDS
from tests.fixtures.identity import IdentityProvider, public_jwk

ADA = Identity("ada", "acme", Role.OPERATOR)
NOW = time.time()
"""When the tests were collected, which may be a while before any of them runs."""
LATER = int(NOW) + 86_400


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "EdDSA"])
async def test_a_good_token_says_who_it_speaks_for(identity_provider: IdentityProvider, algorithm: str) -> None:
    identity_provider.keys = [public_jwk("other"), public_jwk("mine", algorithm)]
    assert await identity_provider.verifier.verify(identity_provider.token(key="mine", algorithm=algorithm)) == ADA


BAD: dict[str, dict[str, Any]] = {
    "expired": {"exp": int(NOW) - LEEWAY_SECONDS - 5},
    "not yet valid": {"nbf": LATER},
    "issued in the future": {"iat": LATER},
    "wrong issuer": {"iss": "https://evil.test"},
    "issuer with a slash more": {"iss": "https://login.test/realm/"},
    "wrong audience": {"aud": "another"},
    "audiences without ours": {"aud": ["another", "third"]},
    "without an end": {"exp": None},
    "without an issuer": {"iss": None},
    "without an audience": {"aud": None},
    "without a subject": {"sub": None},
    "without a beginning": {"iat": None},
    "an end that is no number": {"exp": "never"},
    "without a tenant": {"https://autoloader.test/tenant": None},
    "a tenant that is no text": {"https://autoloader.test/tenant": ["acme"]},
    "without a role": {"realm_access": None},
    "a role that means nothing here": {"realm_access": {"roles": ["ADMIN", "root"]}},
    "roles of a strange shape": {"realm_access": {"roles": [{"loader-admin": True}, None, 1]}},
    "a path that ends in a text": {"realm_access": "loader-admin"},
    "a wrong key": {"key": "stranger", "headers": {"kid": "first"}},
    "a key of another algorithm": {"algorithm": "PS256"},
    "a key nobody has": {"headers": {"kid": "nobody"}},
    "critical extensions": {"headers": {"crit": ["exotic"], "exotic": True}},
}


@pytest.mark.parametrize("case", list(BAD))
async def test_a_bad_token_is_not_believed(identity_provider: IdentityProvider, case: str) -> None:
    assert await identity_provider.verifier.verify(identity_provider.token(**BAD[case])) is None
    assert await identity_provider.verifier.verify(identity_provider.token()) == ADA


async def test_neither_no_signature_nor_one_by_the_public_key_passes(identity_provider: IdentityProvider) -> None:
    assert await identity_provider.verifier.verify(identity_provider.unsigned()) is None
    assert await identity_provider.verifier.verify(identity_provider.confused()) is None
    identity_provider.keys = [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}]
    assert await identity_provider.verifier.verify(identity_provider.unsigned()) is None
    assert identity_provider.fetches == 0


@pytest.mark.parametrize("text", ["", ".", "..", "a.b.c", "é.é.é", "\0", "e30.e30.", "bnVsbA.e30.x", "W10.e30.x", "eyJhbGciOltdfQ.e30.x"])
async def test_what_is_no_token_is_not_believed(identity_provider: IdentityProvider, text: str) -> None:
    assert await identity_provider.verifier.verify(text) is None
    assert identity_provider.fetches == 0


async def test_a_token_past_the_limit_is_not_looked_at(identity_provider: IdentityProvider) -> None:
    long = identity_provider.token(padding="x" * MAX_TOKEN_CHARACTERS)
    assert await identity_provider.verifier.verify(long) is None
    assert identity_provider.fetches == 0


async def test_a_changed_token_is_not_believed(identity_provider: IdentityProvider) -> None:
    header, _, signature = identity_provider.token().split(".")
    _, payload, _ = identity_provider.token(realm_access={"roles": ["loader-admin"]}).split(".")
    assert await identity_provider.verifier.verify(f"{header}.{payload}.{signature}") is None


async def test_clocks_may_differ_a_little(identity_provider: IdentityProvider) -> None:
    now = int(time.time())
    assert await identity_provider.verifier.verify(identity_provider.token(exp=now - 5, nbf=now + 5, iat=now + 5)) == ADA


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("loader-admin", Role.ADMIN),
        (["loader-reader"], Role.VIEWER),
        (["loader-reader", "loader-admin", "loader-operator", "offline_access"], Role.ADMIN),
    ],
)
async def test_the_greatest_of_the_known_roles_counts(identity_provider: IdentityProvider, words: object, role: Role) -> None:
    identity = await identity_provider.verifier.verify(identity_provider.token(realm_access={"roles": words}))
    assert identity == Identity("ada", "acme", role)


async def test_one_of_several_audiences_is_enough(identity_provider: IdentityProvider) -> None:
    assert await identity_provider.verifier.verify(identity_provider.token(aud=["another", "autoloader"])) == ADA


async def test_without_a_kid_the_only_fitting_key_is_used(identity_provider: IdentityProvider) -> None:
    identity_provider.keys = [public_jwk("first"), public_jwk("curve", "ES256")]
    token = identity_provider.token(headers={"kid": None})
    assert await identity_provider.verifier.verify(token) == ADA
    identity_provider.keys.append(public_jwk("second"))
    identity_provider.later(FRESH_SECONDS)
    assert await identity_provider.verifier.verify(token) is None


@pytest.mark.parametrize("fields", [{"use": "enc"}, {"n": None}, {"n": "!", "e": 3}])
async def test_keys_that_are_not_for_signing_or_broken_are_no_keys(identity_provider: IdentityProvider, fields: dict[str, Any]) -> None:
    identity_provider.keys = [public_jwk("first", **fields)]
    assert await identity_provider.verifier.verify(identity_provider.token()) is None


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_a_short_key_is_not_trusted(identity_provider: IdentityProvider) -> None:
    identity_provider.keys = [public_jwk("weak")]
    assert await identity_provider.verifier.verify(identity_provider.token(key="weak")) is None


async def test_keys_are_fetched_once_for_many(identity_provider: IdentityProvider) -> None:
    tokens = [identity_provider.token(sub=str(i)) for i in range(20)]
    found = await asyncio.gather(*map(identity_provider.verifier.verify, tokens))
    assert [identity and identity.subject for identity in found] == [str(i) for i in range(20)]
    identity_provider.later(FRESH_SECONDS - 1)
    assert await identity_provider.verifier.verify(tokens[0])
    assert identity_provider.fetches == 1


async def test_a_new_key_is_found_at_its_first_use_and_unknown_ones_cannot_hurry_it(identity_provider: IdentityProvider) -> None:
    assert await identity_provider.verifier.verify(identity_provider.token()) == ADA
    identity_provider.later(AGAIN_SECONDS)
    identity_provider.keys = [public_jwk("second")]
    assert await identity_provider.verifier.verify(identity_provider.token(key="second")) == ADA
    assert identity_provider.fetches == 2
    for number in range(50):
        assert await identity_provider.verifier.verify(identity_provider.token(headers={"kid": f"made up {number}"})) is None
    assert identity_provider.fetches == 2
    identity_provider.later(AGAIN_SECONDS)
    assert await identity_provider.verifier.verify(identity_provider.token(headers={"kid": "made up"})) is None
    assert identity_provider.fetches == 3


async def test_a_withdrawn_key_is_not_trusted_for_long(identity_provider: IdentityProvider) -> None:
    token = identity_provider.token(exp=int(time.time()) + 10_000)
    assert await identity_provider.verifier.verify(token) == ADA
    identity_provider.keys = [public_jwk("second")]
    identity_provider.later(FRESH_SECONDS)
    assert await identity_provider.verifier.verify(token) is None


FAILURES = {
    "no connection": httpx.ConnectError("refused"),
    "no answer": httpx.ReadTimeout("slow"),
    "an error": httpx.Response(500),
    "elsewhere": httpx.Response(302, headers={"location": "http://evil.test"}),
    "no JSON": httpx.Response(200, text="<html>"),
    "no object": httpx.Response(200, json=[]),
    "no end": httpx.Response(200, content=b" " * (MAX_DOCUMENT_BYTES + 1)),
}


@pytest.mark.parametrize("failure", list(FAILURES))
async def test_without_keys_nobody_can_tell_and_the_provider_is_not_hammered(identity_provider: IdentityProvider, failure: str) -> None:
    identity_provider.failure = FAILURES[failure]
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await identity_provider.verifier.verify(identity_provider.token())
    assert len(identity_provider.router.calls) == 1
    identity_provider.failure = None
    identity_provider.later(AGAIN_SECONDS)
    assert await identity_provider.verifier.verify(identity_provider.token()) == ADA


async def test_known_keys_outlive_an_outage_for_a_while(identity_provider: IdentityProvider) -> None:
    token = identity_provider.token(exp=int(time.time()) + 10_000)
    assert await identity_provider.verifier.verify(token) == ADA
    identity_provider.failure = httpx.ConnectError("refused")
    identity_provider.later(STALE_SECONDS - 1)
    assert await identity_provider.verifier.verify(token) == ADA
    identity_provider.later(AGAIN_SECONDS)
    with pytest.raises(UnavailableError):
        await identity_provider.verifier.verify(token)


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://evil.test", "jwks_uri": "https://login.test/keys"},
        {"issuer": "https://login.test/realm", "jwks_uri": "http://login.test/keys"},
        {"issuer": "https://login.test/realm", "jwks_uri": 3},
        {"issuer": "https://login.test/realm"},
    ],
)
async def test_a_discovery_document_that_is_not_the_issuers_is_not_followed(
    identity_provider: IdentityProvider, document: dict[str, Any]
) -> None:
    identity_provider.discovery = document
    with pytest.raises(UnavailableError):
        await identity_provider.verifier.verify(identity_provider.token())
    assert identity_provider.fetches == 0


@pytest.mark.parametrize(
    ("url", "trustworthy"),
    [
        ("https://login.test/x", True),
        ("http://127.0.0.1:8080/x", True),
        ("http://[::1]/x", True),
        ("http://localhost/x", True),
        ("http://login.test/x", False),
        ("http://127.0.0.1.evil.test", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_keys_come_over_https_or_from_this_machine(url: str, trustworthy: bool) -> None:
    assert is_trustworthy(url) is trustworthy
