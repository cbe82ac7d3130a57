"""Signing secrets as they are stored: encrypted (AES-256-GCM) with a key that is not in the database, each for its own webhook."""

from __future__ import annotations

import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.ports.webhooks import SealBrokenError

KEY_BYTES = 32
_NONCE_BYTES = 12


class AesSeal:
    """Stored is: a nonce of 12 bytes, and what AES-GCM makes of the secret, with the owner's id as associated data."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, *, owner: UUID) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, owner.bytes)

    def unseal(self, sealed: bytes, *, owner: UUID) -> bytes:
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.bytes)
        except (InvalidTag, ValueError):
            raise SealBrokenError from None
