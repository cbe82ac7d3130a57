"""WebSockets, by the protocol graphql-transport-ws: strawberry's handler, with credentials, bounds, and an end.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md — a connection carries subscriptions alone: queries and mutations go
over HTTP, past the guards that stand there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from graphql import GraphQLError
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.schema import BaseSchema
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, Message, SubscribeMessage
from strawberry.types.graphql import OperationType

from domain.errors import LimitExceededError, UnavailableError
from domain.tenants import Principal
from graphql_api.authentication import Authentication
from graphql_api.limits.preparation import by_id
from graphql_api.masking import shown
from graphql_api.streams.open_streams import Ending, OpenConnection

if TYPE_CHECKING:
    from graphql_api.http import GraphQLOverHTTP

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 100_000
_LONGEST_ID = 256
_TRY_AGAIN_LATER = 1013
_TOO_BIG = 1009
_CLOSE_SECONDS = 1.0


@dataclass(slots=True)
class SocketContext:
    """What is known of a connection: `principal` once `connection_init` has been answered."""

    websocket: WebSocket
    connection: OpenConnection
    connection_params: dict[str, Any] = field(default_factory=dict)
    principal: Principal | None = None

    @property
    def authorization(self) -> str:
        """The upgrade request's header or, browsers being unable to send one, the payload's entry of that name."""
        given = [value for name, value in self.connection_params.items() if name.lower() == "authorization"]
        header = self.websocket.headers.get("authorization")
        return header if header is not None else next((value for value in given if isinstance(value, str)), "")


class SocketAdapter(ASGIWebSocketAdapter):
    """Sends text, as browsers expect JSON to come."""

    async def send_json(self, message: Mapping[str, object]) -> None:
        try:
            await self.ws.send_text(self.view.encode_json_string(message))
        except (WebSocketDisconnect, RuntimeError) as error:
            # It has gone, or was closed while this was waiting its turn.
            raise WebSocketDisconnected from error


class SubscriptionsAlone:
    """The schema as a connection may use it: each subscription with a context of its own."""

    def __init__(self, view: GraphQLOverHTTP, schema: BaseSchema) -> None:
        self._view = view
        self._schema = schema

    async def stream(self, query: str, *, context_value: SocketContext, **options: Any) -> Any:
        assert context_value.principal is not None
        context = self._view.context_of(context_value.principal)
        return await self._schema.stream(query, context_value=context, allowed_operation_types=(OperationType.SUBSCRIPTION,), **options)


class SocketHandler(BaseGraphQLTransportWSHandler[Any, None]):
    context: SocketContext

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.connection_init_wait_timeout = timedelta(seconds=self.context.connection.limits.init_seconds)
        self.schema = cast(BaseSchema, SubscriptionsAlone(given["view"], given["schema"]))

    async def handle(self) -> None:
        """Until the client or the server ends it."""
        serving = asyncio.create_task(super().handle())
        ended = asyncio.create_task(self.context.connection.ended())
        try:
            await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await self._close(ended.result())
            elif (error := serving.exception()) is not None:
                log.error("unexpected error %s", uuid4().hex, exc_info=error)
                await self._close(Ending.UNEXPECTED)
        finally:
            ended.cancel()
            serving.cancel()
            await asyncio.wait([serving, ended])

    async def _close(self, ending: Ending) -> None:
        if self.context.websocket.application_state is WebSocketState.CONNECTED:
            # A client that takes nothing does not take this either; and one that has just gone, or that the server itself has just
            # told, need not be told.
            with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self.websocket.close(*ending.value)

    async def send_message(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self.context.connection.limits.send_seconds):
                await super().send_message(message)
        except TimeoutError:
            self.context.connection.end(Ending.TOO_SLOW)
            # Whoever sends is cancelled by that.
            await asyncio.get_running_loop().create_future()

    async def handle_task_exception(self, error: Exception) -> None:
        # That a client goes while it is being told something is no news.
        if not isinstance(error, WebSocketDisconnected):
            log.error("unexpected error %s", uuid4().hex, exc_info=error)

    async def handle_message(self, message: Message) -> None:
        if not _is_well_formed(message):
            await self.handle_invalid_message("This is no message of graphql-transport-ws.")
        else:
            await super().handle_message(message)

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if message.get("payload") is None:
            # As when it is absent.
            message = {"type": "connection_init"}
        try:
            await super().handle_connection_init(message)
        except (LimitExceededError, UnavailableError) as error:
            await self.websocket.close(_TRY_AGAIN_LATER, f"{error.code}: {error.message}"[:120])

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        limit = self.context.connection.limits.subscriptions_of_connection
        if self.connection_acknowledged and message["id"] not in self.operations and len(self.operations) >= limit:
            refusal = LimitExceededError(f"this connection has {limit} subscriptions, and may have no more")
            error = shown(GraphQLError(refusal.message, original_error=refusal))
            await self.send_message({"id": message["id"], "type": "error", "payload": [error.formatted]})
        else:
            payload: dict[str, Any] = dict(message["payload"])
            if not payload.get("query"):
                message["payload"]["query"] = by_id(payload["documentId"])
            await super().handle_subscribe(message)


async def admit(authentication: Authentication, context: SocketContext) -> None:
    """Let the client in by its credential, for as long as that is good. Raises `ConnectionRejectionError`, `LimitExceededError`."""
    authorization = context.authorization
    principal = await authentication.principal_by(authorization)
    if principal is None:
        raise ConnectionRejectionError

    async def still_good() -> bool:
        return await authentication.principal_by(authorization) is not None

    context.connection.admit(principal.tenant.id, still_good)
    context.principal = principal


def bounded(receive: Receive, send: Send) -> Receive:
    """Ends the connection at a message that is too big, whatever the server lets pass."""

    async def received() -> AsgiMessage:
        message = await receive()
        if len(message.get("text") or message.get("bytes") or "") > MAX_MESSAGE_BYTES:
            await send({"type": "websocket.close", "code": _TOO_BIG, "reason": f"A message has at most {MAX_MESSAGE_BYTES} bytes."})
            return {"type": "websocket.disconnect", "code": _TOO_BIG}
        return message

    return received


def _is_well_formed(message: object) -> bool:
    """Whether strawberry's handler can take it: it takes for granted what the protocol says."""
    if not isinstance(message, dict):
        return False
    id, payload = message.get("id"), message.get("payload")
    named = isinstance(id, str) and 0 < len(id) <= _LONGEST_ID
    match message.get("type"):
        case "subscribe":
            return named and isinstance(payload, dict) and _is_operation(payload)
        case "complete":
            return named
        case other:
            return isinstance(other, str)


def _is_operation(payload: dict[str, object]) -> bool:
    return (
        isinstance(payload.get("query") or payload.get("documentId"), str)
        and isinstance(payload.get("operationName"), str | None)
        and isinstance(payload.get("variables"), dict | None)
    )
