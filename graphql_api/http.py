"""GraphQL over HTTP: strawberry's view, with the credentials, media types and status codes that the specification asks for.

https://graphql.github.io/graphql-over-http/draft/ — a client that accepts `application/graphql-response+json` gets it,
with 4xx when the request could not be executed; others get `application/json` with 200 for any well-formed request.
"""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.schema import BaseSchema
from strawberry.types import ExecutionResult

from domain.errors import UnavailableError
from graphql_api.context import Context, Services
from graphql_api.loaders import Loaders
from graphql_api.masking import INTERNAL_ERROR

log = logging.getLogger(__name__)

RESPONSE_TYPE = "application/graphql-response+json"
MAX_BODY_BYTES = 1_000_000


class GraphQLOverHTTP(GraphQL[Context, None]):
    def __init__(self, schema: BaseSchema, services: Services) -> None:
        super().__init__(schema, graphql_ide=None, subscription_protocols=())
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, _bounded(receive))
        try:
            response = await self.run(request)
        except HTTPException as error:
            response = self._refusal(request, error.status_code, error.reason)
        except UnavailableError as error:
            response = self._refusal(request, 503, error.message, code=error.code.value)
        except Exception:
            error_id = uuid4().hex
            log.exception("unexpected error %s", error_id)
            response = self._refusal(request, 500, INTERNAL_ERROR, code="INTERNAL", errorId=error_id)
        await response(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        principal = await self._services.authentication.principal_of(request)
        if principal is None:
            raise HTTPException(401, "Credentials are missing or not good: send 'Authorization: Bearer <key>'.")
        loaders = Loaders(self._services.reader(principal.tenant.id), self._services.costs)
        return Context(uuid4().hex, principal, self._services, loaders)

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> Any:
        try:
            return await super().parse_http_body(request)
        except AttributeError:
            # The library takes for granted that JSON is an object.
            raise HTTPException(400, "The request's body must be a JSON object.") from None

    async def execute_single(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: Response,
        context: Context,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        result = await super().execute_single(request, request_adapter, sub_response, context, root_value, request_data)
        if accepts_response_type(request):
            sub_response.headers["content-type"] = f"{RESPONSE_TYPE}; charset=utf-8"
            if was_refused(result):
                sub_response.status_code = 400
        return result

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        response = await super().process_result(request, result)
        if was_refused(result):
            # Nothing was executed: the answer has no data entry at all.
            del response["data"]
        return response

    def create_response(self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response) -> Response:
        return Response(
            self.encode_json(response_data),
            status_code=sub_response.status_code or 200,
            media_type=None,
            headers={"content-type": sub_response.headers.get("content-type", "application/json; charset=utf-8")},
        )

    def encode_json(self, data: object) -> bytes:
        return orjson.dumps(data)

    def decode_json(self, data: str | bytes) -> object:
        return orjson.loads(data)

    def _refusal(self, request: Request, status: int, message: str, **extensions: str) -> Response:
        error: dict[str, object] = {"message": message}
        if extensions:
            error["extensions"] = extensions
        media_type = RESPONSE_TYPE if accepts_response_type(request) else "application/json"
        headers = {"content-type": f"{media_type}; charset=utf-8"}
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        if status == 405:
            headers["allow"] = "GET, POST"
        return Response(self.encode_json({"errors": [error]}), status_code=status, headers=headers)


def was_refused(result: ExecutionResult) -> bool:
    """Whether no part of the operation has run: its document or its variables are wrong. Errors of fields have a path."""
    errors = result.errors or []
    return result.data is None and bool(errors) and all(error.path is None for error in errors)


def accepts_response_type(request: Request) -> bool:
    return RESPONSE_TYPE in request.headers.get("accept", "")


def _bounded(receive: Receive) -> Receive:
    """Stops reading a body at the limit, whatever length it claims."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY_BYTES:
            raise HTTPException(413, f"The request's body is larger than {MAX_BODY_BYTES} bytes.")
        return message

    return bounded
