"""Credentials for S3, by reference: the configuration names them, and sources name the name."""

from __future__ import annotations

from dataclasses import dataclass, field

DEFAULT_CREDENTIAL = "default"
"""The name that a source without a credential uses when it is configured; else the ambient AWS chain serves."""


@dataclass(frozen=True, slots=True)
class S3Credential:
    """How to reach and sign for one S3 or S3-compatible account.

    Either a key pair, or a named profile, or neither (the ambient AWS chain: environment, files, instance role); `role_arn`
    is assumed with whichever that is. `endpoint_url` is for S3-compatible stores; `sqs_endpoint_url` is where the queues of their
    notifications are, if not there too.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    role_arn: str | None = None
    sqs_endpoint_url: str | None = None

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("an S3 credential needs both access_key_id and secret_access_key, or neither")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("an S3 credential's session_token needs an access_key_id and a secret_access_key")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("an S3 credential takes a profile or a key pair, not both")
        for name in ("endpoint_url", "sqs_endpoint_url"):
            url = getattr(self, name)
            if url is not None and not url.startswith(("http://", "https://")):
                raise ValueError(f"an S3 credential's {name} begins with http:// or https://")
