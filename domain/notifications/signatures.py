"""Signing secrets and signatures as the Standard Webhooks specification has them (symmetric, `v1`).

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

_PREFIX = "whsec_"
_SECRET_BYTES = 32


def generate_secret() -> bytes:
    """256 random bits."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(secret: bytes) -> str:
    """As receivers are given it, and as libraries that verify take it."""
    return _PREFIX + base64.b64encode(secret).decode()


def signed_headers(secret: bytes, event_id: UUID, at: datetime, body: bytes) -> Mapping[str, str]:
    """`webhook-id`, `webhook-timestamp` (of this try, in whole seconds) and `webhook-signature`."""
    timestamp = str(int(at.timestamp()))
    digest = hmac.new(secret, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
