"""Who asks: an API key or a token in the Authorization header, and nothing else."""

from __future__ import annotations

import logging

from starlette.requests import HTTPConnection

from domain.access.key_usage import KeyUsage
from domain.api_keys import digest_of, prefix_of
from domain.ports.identity import TokenVerifier
from domain.ports.unit_of_work import Directory
from domain.tenants import Principal
from domain.text import readable

log = logging.getLogger(__name__)


class Authentication:
    def __init__(self, directory: Directory, usage: KeyUsage, tokens: TokenVerifier | None = None) -> None:
        """Without `tokens` only API keys let somebody in."""
        self._directory = directory
        self._usage = usage
        self._tokens = tokens

    async def principal_of(self, connection: HTTPConnection) -> Principal | None:
        """The caller, or None when there are no credentials or they are not good.

        Raises `UnavailableError` when that cannot be told at present.
        """
        return await self.principal_by(connection.headers.get("authorization", ""))

    async def principal_by(self, authorization: str) -> Principal | None:
        """The same, by what stands in the header."""
        scheme, _, credential = authorization.partition(" ")
        credential = credential.strip()
        if scheme.lower() != "bearer" or not credential:
            return None
        prefix = prefix_of(credential)
        return await self._by_token(credential) if prefix is None else await self._by_key(prefix, credential)

    async def _by_key(self, prefix: str, key: str) -> Principal | None:
        principal = await self._directory.principal_by_key(prefix, digest_of(key))
        if principal is not None and principal.api_key_id is not None:
            self._usage.note(principal.api_key_id)
        return principal

    async def _by_token(self, token: str) -> Principal | None:
        identity = await self._tokens.verify(token) if self._tokens else None
        if identity is None:
            return None
        tenant = await self._directory.tenant_by_name(identity.tenant)
        if tenant is None:
            names = [readable(name, limit=200) for name in (identity.subject, identity.tenant)]
            log.info("the token of %r is refused: there is no tenant %r", *names)
            return None
        return Principal(tenant, identity.role, name=identity.subject)
