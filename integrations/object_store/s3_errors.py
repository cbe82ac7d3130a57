"""What S3's failures mean for a person. Of what the store says only its error code is repeated, never a header or a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from obstore.exceptions import PermissionDeniedError, PreconditionError, UnauthenticatedError

from domain.ports.object_store import SourceUnavailableError

_CREDENTIAL_ERRORS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError, ProfileNotFound, SSOError)
_DENIED_CODES = frozenset(
    {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "ExpiredTokenException"}
    | {"AllAccessDisabled", "AccountProblem", "RequestTimeTooSkewed", "UnrecognizedClientException", "InvalidClientTokenId"}
)
_MISSING_CODES = frozenset(
    {"NoSuchBucket", "NoSuchKey", "NotFound", "InvalidBucketName", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"}
)
_HINTS = {
    "InvalidAccessKeyId": "its access key is not known there",
    "InvalidClientTokenId": "its access key is not known there",
    "SignatureDoesNotMatch": "its secret key is wrong",
    "ExpiredToken": "its session token has expired",
    "ExpiredTokenException": "its session token has expired",
    "RequestTimeTooSkewed": "this machine's clock is off",
}
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS = re.compile(r"status code: (\d{3})")
_TRANSIENT_STATUSES = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class S3Names:
    """What an error may say of where it happened: bucket (or queue), credential and endpoint by name."""

    name: str
    credential: str
    endpoint: str | None
    kind: str = "bucket"

    @property
    def place(self) -> str:
        return f"{self.kind} {self.name}" + (f" at {self.endpoint}" if self.endpoint else "")


@dataclass(frozen=True, slots=True)
class ReadFailure:
    """Why one object could not be read, for a `StagedObject`."""

    message: str
    transient: bool = False


GONE = ReadFailure("the object has gone since it was listed")
CHANGED = ReadFailure("the object has changed since it was listed")


def source_unavailable(error: Exception, names: S3Names) -> SourceUnavailableError:
    """A failure to list or to look, in the port's words."""
    if isinstance(error, ClientError):
        return _refused(_code(error.response), _status(error.response), names)
    if isinstance(error, _CREDENTIAL_ERRORS):
        message = f"no usable AWS credentials for {names.place}: {names.credential} gave none"
        return SourceUnavailableError(SourceUnavailableError.NO_CREDENTIALS, message)
    return SourceUnavailableError(SourceUnavailableError.UNREACHABLE, f"{names.place} {_silence(error)}")


def _refused(code: str, status: int, names: S3Names) -> SourceUnavailableError:
    if code in _DENIED_CODES or status in (401, 403):
        hint = _HINTS.get(code, f"the store answered {code}")
        message = f"{names.credential} may not read {names.place}: {hint}"
        return SourceUnavailableError(SourceUnavailableError.ACCESS_DENIED, message)
    if code in _MISSING_CODES or status == 404:
        return SourceUnavailableError(SourceUnavailableError.NOT_FOUND, f"there is no {names.place} (asked with {names.credential})")
    return SourceUnavailableError(SourceUnavailableError.UNREACHABLE, f"{names.place} cannot be read now: the store answered {code}")


def _silence(error: Exception) -> str:
    match error:
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            return "did not answer in time"
        case SSLError():
            return "cannot be reached: TLS failed"
        case EndpointConnectionError():
            return "cannot be reached: no connection to the endpoint"
    return f"cannot be read now ({type(error).__name__})"


def read_failure(error: Exception) -> ReadFailure:
    """A failure to read one object, from obstore, botocore or the local disk."""
    match error:
        case ClientError():
            return _read_refused(_code(error.response), _status(error.response))
        case BotoCoreError():
            return ReadFailure(f"the store failed ({type(error).__name__})", transient=True)
        case PreconditionError():
            return CHANGED
        case PermissionDeniedError() | UnauthenticatedError():
            return _read_refused(_code_in(error), 403)
        case FileNotFoundError() if error.errno is None:
            return GONE
        case OSError() if error.errno is not None:
            return ReadFailure(f"the object cannot be staged: {error.strerror}", transient=True)
    status = _STATUS.search(str(error))
    return _read_refused(_code_in(error), int(status[1])) if status else ReadFailure("the store did not answer", transient=True)


def _read_refused(code: str, status: int) -> ReadFailure:
    if status == 412:
        return CHANGED
    if code in _MISSING_CODES or status == 404:
        return GONE
    if code in _DENIED_CODES or status in (401, 403):
        return ReadFailure(f"the object may not be read: the store answered {code}")
    return ReadFailure(f"the store answered {code}", transient=status >= 500 or status in _TRANSIENT_STATUSES)


def _code(response: Mapping[str, Mapping[str, object]]) -> str:
    return str(response.get("Error", {}).get("Code", "an error without a code"))


def _status(response: Mapping[str, Mapping[str, object]]) -> int:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status if isinstance(status, int) else 0


def _code_in(error: Exception) -> str:
    text = str(error)
    match = _CODE.search(text) or _STATUS.search(text)
    return match[1] if match else "an error without a code"
