"""The provider's public keys: fetched when needed, kept for a while, and asked for again at a bounded rate whoever asks.

A key that appears with a new `kid` is found at its first use; one that is withdrawn is trusted no longer than `FRESH_SECONDS`,
or, while the provider does not answer, `STALE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson

from domain.errors import UnavailableError
from integrations.identity.provider import Provider, is_trustworthy

log = logging.getLogger(__name__)

FRESH_SECONDS = 600.0
STALE_SECONDS = 3_600.0
AGAIN_SECONDS = 30.0
"""Between two fetches for the sake of an unknown key, or after one that failed."""
FETCH_SECONDS = 10.0
MAX_DOCUMENT_BYTES = 262_144
MAX_KEYS = 100

Key = Mapping[str, Any]
"""A JSON Web Key (RFC 7517)."""


class _DocumentError(Exception):
    """The provider's answer is not what it should be."""


class SigningKeys:
    def __init__(self, provider: Provider, http: httpx.AsyncClient, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._http = http
        self._monotonic = monotonic
        self._keys: tuple[Key, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def matching(self, matches: Callable[[Key], bool]) -> list[Key]:
        """The keys that match; looked for at the provider again when there is none. Raises `UnavailableError` without any keys."""
        # While somebody fetches newer ones, the known keys serve the others.
        busy = self._fetching.locked() and not self._older_than(STALE_SECONDS, self._fetched_at)
        if self._older_than(FRESH_SECONDS, self._fetched_at) and not busy:
            await self._fetch(because=lambda: self._older_than(FRESH_SECONDS, self._fetched_at))
        found = [key for key in self._keys if matches(key)]
        if not found:
            await self._fetch(because=lambda: not any(map(matches, self._keys)))
            found = [key for key in self._keys if matches(key)]
        return found

    async def _fetch(self, *, because: Callable[[], bool]) -> None:
        """One caller fetches, the others wait for it and then find that their reason is gone, or that it was just tried."""
        async with self._fetching:
            if because() and self._older_than(AGAIN_SECONDS, self._tried_at):
                self._tried_at = self._monotonic()
                try:
                    async with asyncio.timeout(FETCH_SECONDS):
                        self._keys = await self._download()
                    self._fetched_at = self._monotonic()
                except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, _DocumentError) as error:
                    log.warning("the keys of %s cannot be fetched: %r", self._provider.issuer, error)
        if self._older_than(STALE_SECONDS, self._fetched_at):
            raise UnavailableError("the identity provider's keys are not available")

    async def _download(self) -> tuple[Key, ...]:
        keys = (await self._document(self._provider.jwks_url or await self._discovered())).get("keys")
        if not isinstance(keys, list) or len(keys) > MAX_KEYS:
            raise _DocumentError("no list of keys, or too long a one")
        return tuple(key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig")

    async def _discovered(self) -> str:
        issuer = self._provider.issuer
        document = await self._document(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        url = document.get("jwks_uri")
        if document.get("issuer") != issuer or not isinstance(url, str) or not is_trustworthy(url):
            raise _DocumentError("the discovery document is another issuer's, or names no https URL of keys")
        return url

    async def _document(self, url: str) -> Mapping[str, Any]:
        body = bytearray()
        async with self._http.stream("GET", url) as response:
            if response.status_code != 200:
                raise _DocumentError(f"{url} answers {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_DOCUMENT_BYTES:
                    raise _DocumentError(f"{url} answers with more than {MAX_DOCUMENT_BYTES} bytes")
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise _DocumentError(f"{url} answers with no JSON object")
        return document

    def _older_than(self, seconds: float, moment: float | None) -> bool:
        return moment is None or self._monotonic() - moment >= seconds
