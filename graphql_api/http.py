"""GraphQL over HTTP: strawberry's view, with the credentials, media types and status codes that the specification asks for.

https://graphql.github.io/graphql-over-http/draft/ — a client that accepts `application/graphql-response+json` gets it,
with 4xx when the request could not be executed; others get `application/json` with 200 for any well-formed request.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, cast
from uuid import uuid4

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.schema import BaseSchema
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType
from strawberry.types.unset import UnsetType

from domain.errors import LimitExceededError, UnavailableError
from domain.tenants import Principal
from graphql_api.context import Context, Services
from graphql_api.limits.preparation import by_id
from graphql_api.limits.refusals import Refusal
from graphql_api.loaders import Loaders
from graphql_api.masking import INTERNAL_ERROR
from graphql_api.streams.open_streams import OpenConnection
from graphql_api.streams.server_sent_events import Events, EventStream, accepts_events
from graphql_api.streams.web_sockets import SocketAdapter, SocketContext, SocketHandler, admit, bounded
from graphql_api.turns import Turns

log = logging.getLogger(__name__)

RESPONSE_TYPE = "application/graphql-response+json"
MAX_BODY_BYTES = 1_000_000
STREAMS = "A subscription is streamed: ask for it with 'Accept: text/event-stream' alone, or over a WebSocket (graphql-transport-ws)."


class GraphQLOverHTTP(GraphQL[Context, None]):
    """Queries and mutations; and subscriptions, as server-sent events and over WebSockets."""

    websocket_adapter_class = SocketAdapter
    graphql_transport_ws_handler_class = SocketHandler
    stream_transport_classes_by_protocol = {GRAPHQL_SSE_PROTOCOL: Events}  # noqa: RUF012  # as strawberry declares it

    def __init__(self, schema: BaseSchema, services: Services) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            max_subscriptions_per_connection=None,
            # No browser sends a credential by itself, so that a page from elsewhere gets no further than anybody.
            allowed_origins=("*",),
        )
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_socket(WebSocket(scope, bounded(receive, send), send))
            return
        request = Request(scope, _bounded(receive))
        if not accepts_events(request):
            await (await self._answer(request))(scope, receive, send)
            return
        try:
            async with self._services.streams.connection() as connection:
                request.state.connection = connection
                await (await self._answer(request))(scope, receive, send)
        except (LimitExceededError, UnavailableError) as error:
            await self._not_now(request, error)(scope, receive, send)

    async def _serve_socket(self, websocket: WebSocket) -> None:
        """A connection from its handshake to its end; refused before the handshake when there are too many."""
        try:
            async with self._services.streams.connection() as connection:
                await self.run(websocket, context=cast(Context, SocketContext(websocket, connection)))
        except (LimitExceededError, UnavailableError) as error:
            await websocket.send_denial_response(self._not_now(websocket, error))

    async def _answer(self, request: Request) -> Response:
        try:
            return await self.run(request)
        except HTTPException as error:
            return self._refusal(request, error.status_code, error.reason)
        except (LimitExceededError, UnavailableError) as error:
            return self._not_now(request, error)
        except Exception:
            error_id = uuid4().hex
            log.exception("unexpected error %s", error_id)
            return self._refusal(request, 500, INTERNAL_ERROR, code="INTERNAL", errorId=error_id)

    def context_of(self, principal: Principal) -> Context:
        """For one operation."""
        services = self._services
        turns = Turns(services.limits.turn_seconds)
        loaders = Loaders(services.reader(principal.tenant.id), services.costs, services.telemetry, turns)
        return Context(principal, services, loaders)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        principal = await self._services.authentication.principal_of(request)
        if principal is None:
            raise HTTPException(401, "Credentials are missing or not good: send 'Authorization: Bearer <key>'.")
        if accepts_events(request):

            async def still_good() -> bool:
                return await self._services.authentication.principal_of(request) is not None

            request.state.connection.admit(principal.tenant.id, still_good)
        return self.context_of(principal)

    async def on_ws_connect(self, context: Context) -> UnsetType | dict[str, object] | None:
        await admit(self._services.authentication, cast(SocketContext, context))
        return await super().on_ws_connect(context)

    def should_render_graphql_ide(self, request: object) -> bool:
        """GraphiQL has been served before. A GET without a query may name a persisted document."""
        return False

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> Any:
        try:
            data = await super().parse_http_body(request)
        except AttributeError:
            # The library takes for granted that JSON is an object.
            raise HTTPException(400, "The request's body must be a JSON object.") from None
        assert isinstance(data, GraphQLRequestData)
        if not data.query:
            given = request.query_params if request.method == "GET" else cast(dict[str, object], self.decode_json(await request.get_body()))
            if isinstance(id := given.get("documentId"), str) and id:
                data.query = by_id(id)
        return data

    async def execute_single(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: Response,
        context: Context,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        try:
            result = await super().execute_single(request, request_adapter, sub_response, context, root_value, request_data)
        except HTTPException as error:
            cause = error.__cause__
            if isinstance(cause, InvalidOperationTypeError) and cause.operation_type is OperationType.SUBSCRIPTION:
                raise HTTPException(400, STREAMS) from None
            raise
        if accepts_response_type(request):
            sub_response.headers["content-type"] = f"{RESPONSE_TYPE}; charset=utf-8"
            if was_refused(result):
                refusal = next((error for error in result.errors or () if isinstance(error, Refusal)), None)
                sub_response.status_code = refusal.status if refusal else 400
                sub_response.headers.update(refusal.headers if refusal else {})
        return result

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        response = await super().process_result(request, result)
        if was_refused(result):
            # Nothing was executed: the answer has no data entry at all.
            del response["data"]
        return response

    def create_response(self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response) -> Response:
        headers = {"content-type": "application/json; charset=utf-8"} | dict(sub_response.headers)
        headers.pop("content-length", None)
        return Response(self.encode_json(response_data), status_code=sub_response.status_code or 200, headers=headers)

    async def create_streaming_response(
        self, request: Request | WebSocket, stream: Callable[[], AsyncIterator[str]], sub_response: Response, headers: Mapping[str, str]
    ) -> Response:
        connection: OpenConnection = request.state.connection
        return EventStream(cast(AsyncGenerator[str, None], stream()), connection, headers=headers)

    def encode_json(self, data: object) -> bytes:
        return orjson.dumps(data)

    def decode_json(self, data: str | bytes) -> object:
        return orjson.loads(data)

    def _not_now(self, request: HTTPConnection, error: LimitExceededError | UnavailableError) -> Response:
        status = 429 if isinstance(error, LimitExceededError) else 503
        return self._refusal(request, status, error.message, code=error.code.value)

    def _refusal(self, request: HTTPConnection, status: int, message: str, **extensions: str) -> Response:
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


def accepts_response_type(request: HTTPConnection) -> bool:
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
