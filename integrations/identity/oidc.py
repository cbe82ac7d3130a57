"""JSON Web Tokens of an OpenID Connect provider, verified by its public keys.

What a token's header says is not believed: the algorithm must be on the list here and be one for the key's own type, so that
neither `none` nor an HMAC over the public key passes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import httpx
import jwt

from domain.ports.identity import Identity
from domain.tenants import Role
from domain.text import readable
from integrations.identity.provider import Provider
from integrations.identity.signing_keys import Key, SigningKeys

log = logging.getLogger(__name__)

KEY_TYPES: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Algorithm -> its key's type and curve."""

MAX_TOKEN_CHARACTERS = 16_384
LEEWAY_SECONDS = 30
_REQUIRED = ("exp", "iat", "iss", "aud", "sub")
_ANSWER_SECONDS = 5.0


class OidcTokenVerifier:
    def __init__(self, provider: Provider, keys: SigningKeys) -> None:
        self._provider = provider
        self._keys = keys

    async def verify(self, token: str) -> Identity | None:
        if len(token) > MAX_TOKEN_CHARACTERS:
            return None
        try:
            header = jwt.get_unverified_header(token)
            if not isinstance(header.get("alg"), str) or header["alg"] not in KEY_TYPES:
                log.info("a token is refused: its algorithm is not allowed")
                return None
            keys = await self._keys.matching(lambda key: _fits(key, header))
            if len(keys) != 1:
                log.info("a token is refused: no key, or more than one, fits its header")
                return None
            return self._identity(self._claims(token, header["alg"], keys[0]))
        except jwt.PyJWTError as error:
            # The kind alone: messages may quote what the caller sent.
            log.info("a token is refused: %s", type(error).__name__)
            return None

    def _claims(self, token: str, algorithm: str, key: Key) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(dict(key), algorithm),
            algorithms=[algorithm],
            issuer=self._provider.issuer,
            audience=self._provider.audience,
            leeway=LEEWAY_SECONDS,
            options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
        )
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity | None:
        subject, tenant = claims["sub"], _claim(claims, self._provider.tenant_claim)
        role = self._role(_claim(claims, self._provider.role_claim))
        if not isinstance(tenant, str) or role is None:
            log.info("the token of %r is refused: it names no tenant, or no role that is known here", readable(subject, limit=200))
            return None
        return Identity(subject, tenant, role)

    def _role(self, words: object) -> Role | None:
        """The greatest of the roles that the words stand for."""
        listed = words if isinstance(words, list) else [words]
        roles = [self._provider.roles[word] for word in listed if isinstance(word, str) and word in self._provider.roles]
        return max(roles, key=list(Role).index, default=None)


def open_http() -> httpx.AsyncClient:
    """For the provider's documents. Redirections are not followed: they could lead away from https."""
    return httpx.AsyncClient(timeout=_ANSWER_SECONDS, follow_redirects=False)


def _fits(key: Key, header: Mapping[str, Any]) -> bool:
    """Whether the key may verify a token of this header; without a `kid`, any key for its algorithm may."""
    algorithm = header["alg"]
    type, curve = KEY_TYPES[algorithm]
    if key.get("kty") != type or (curve is not None and key.get("crv") != curve):
        return False
    return bool(key.get("alg", algorithm) == algorithm and header.get("kid", key.get("kid")) == key.get("kid"))


def _claim(claims: Mapping[str, Any], name: str) -> object:
    if name in claims:
        return claims[name]
    value: object = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
