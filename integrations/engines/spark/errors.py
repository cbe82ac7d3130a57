"""What goes wrong between us and a Spark Connect server."""

from __future__ import annotations

from domain.errors import UnavailableError


class SparkUnavailableError(UnavailableError):
    """Spark cannot be used now. `reason` is one of the fixed words below; the message holds no token."""

    BAD_URL = "bad URL"
    BAD_TOKEN = "bad token"  # noqa: S105 - a reason, not a token
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    FAILED = "failed"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)
