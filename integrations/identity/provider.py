"""The OpenID Connect provider that tokens are trusted from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from domain.tenants import Role


@dataclass(frozen=True, slots=True)
class Provider:
    """`jwks_url` None: the issuer's discovery document names it.

    `tenant_claim` holds the tenant's name; `role_claim` a word or a list of them, of which `roles` says what each stands for.
    A claim's name may be a path (`realm_access.roles`).
    """

    issuer: str
    audience: str
    jwks_url: str | None
    tenant_claim: str
    role_claim: str
    roles: Mapping[str, Role]


def is_trustworthy(url: str) -> bool:
    """Keys must not be forged on their way: https, or this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
