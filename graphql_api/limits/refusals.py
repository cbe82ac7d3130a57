"""An operation that is refused as a whole: the error, and the status that goes with it over HTTP."""

from __future__ import annotations

import math

from graphql import GraphQLError

from domain.errors import ErrorCode


class Refusal(GraphQLError):
    """`status` is for clients of the newer media type; others get 200, as for any well-formed request."""

    def __init__(
        self, message: str, code: ErrorCode = ErrorCode.LIMIT_EXCEEDED, *, status: int = 400, retry_after_seconds: float | None = None
    ) -> None:
        extensions: dict[str, object] = {"code": code.value}
        if retry_after_seconds is not None:
            extensions["retryAfterSeconds"] = retry_after_seconds
        super().__init__(message, extensions=extensions)
        self.status = status
        self.headers = {} if retry_after_seconds is None else {"retry-after": str(math.ceil(retry_after_seconds))}
