"""API keys: `al_<prefix>_<secret>`. The prefix finds the key's row; only a digest of the whole is stored."""

from __future__ import annotations

import hashlib
import re
import secrets

_KEY = re.compile(r"al_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


def generate_key() -> str:
    """A new key with 256 bits of secret."""
    return f"al_{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def prefix_of(key: str) -> str | None:
    """The public part, None when the text is not a key at all."""
    match = _KEY.fullmatch(key)
    return match[1] if match else None


def digest_of(key: str) -> bytes:
    """SHA-256, unsalted and fast: the secret is random and long, so there is nothing to guess."""
    return hashlib.sha256(key.encode()).digest()
