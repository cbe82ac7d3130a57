"""The errors a caller can expect, each carrying data and not prose alone.

Everything that is not a `DomainError` is unexpected: the edges log it whole and show it masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """What kind of refusal an error is; stable, and part of the API."""

    VALIDATION = "VALIDATION"
    NOT_FOUND = "NOT_FOUND"
    CONFLICT = "CONFLICT"
    CONFIRMATION_REQUIRED = "CONFIRMATION_REQUIRED"
    FORBIDDEN = "FORBIDDEN"
    UNSUPPORTED = "UNSUPPORTED"
    UNAVAILABLE = "UNAVAILABLE"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"


class ConflictReason(StrEnum):
    """Which fact of the present state stands against a request."""

    DUPLICATE_NAME = "DUPLICATE_NAME"
    DESTINATION_TAKEN = "DESTINATION_TAKEN"
    QUEUE_TAKEN = "QUEUE_TAKEN"
    RUN_ACTIVE = "RUN_ACTIVE"
    WRONG_STATE = "WRONG_STATE"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    STALE_VERSION = "STALE_VERSION"
    LAST_ADMIN_KEY = "LAST_ADMIN_KEY"


class DomainError(Exception):
    """An expected refusal. `message` is safe to show to the caller."""

    code: ErrorCode

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one input field; `path` is the field's place in the input, outermost first."""

    path: tuple[str, ...]
    message: str


class ValidationError(DomainError):
    """The input is not acceptable; nothing was stored."""

    code = ErrorCode.VALIDATION

    def __init__(self, fields: Sequence[FieldError]) -> None:
        self.fields = tuple(fields)
        super().__init__("; ".join(f"{'.'.join(f.path)}: {f.message}" for f in self.fields) or "invalid input")

    @classmethod
    def of(cls, *path: str, message: str) -> ValidationError:
        """The common case of a single field."""
        return cls([FieldError(path, message)])


class NotFoundError(DomainError):
    """No such thing in the caller's tenant; says the same for another tenant's thing."""

    code = ErrorCode.NOT_FOUND

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(f"{kind} not found")


class ConflictError(DomainError):
    """The request is well-formed but the present state does not allow it."""

    code = ErrorCode.CONFLICT

    def __init__(self, reason: ConflictReason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class UnsupportedError(DomainError, ValueError):
    """A combination that is named but does not work yet."""

    code = ErrorCode.UNSUPPORTED


class ConfirmationRequiredError(DomainError):
    """The operation destroys something, and nobody has said that this is meant."""

    code = ErrorCode.CONFIRMATION_REQUIRED


class ForbiddenError(DomainError):
    """The caller's role does not allow the operation."""

    code = ErrorCode.FORBIDDEN


class UnavailableError(DomainError):
    """A component that the operation needs does not answer; trying again later may help."""

    code = ErrorCode.UNAVAILABLE


class LimitExceededError(DomainError):
    """A limit of the server was reached; asking for less, or later, may help."""

    code = ErrorCode.LIMIT_EXCEEDED


class LeaseLostError(Exception):
    """A worker's lease has passed to another: it must stop, and may not commit or mark anything."""
