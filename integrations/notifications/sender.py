"""Sends webhooks over HTTPS: to checked addresses, without redirections, proxies or long answers, and not for long."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping

import httpx

from domain.ports.webhooks import DeliveryError
from integrations.notifications.addresses import Address
from integrations.notifications.destinations import Destination, Destinations

ANSWER_SECONDS = 15.0
"""For everything: looking the name up, connecting, sending and the whole answer."""
CONNECT_SECONDS = 5.0
MOST_ANSWER_BYTES = 65_536
"""Of an answer's body no more is read, and none of it is kept."""

_HEADERS = {
    "content-type": "application/json",
    "user-agent": "Autoloader",
    "accept-encoding": "identity",
    "connection": "close",
}


class HttpWebhookSender:
    def __init__(self, destinations: Destinations, tls: ssl.SSLContext, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._destinations = destinations
        self._tls = tls
        self._answer_seconds = answer_seconds

    async def check(self, url: str) -> None:
        async with _within(self._answer_seconds):
            await self._destinations.find(url)

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        async with _within(self._answer_seconds):
            destination = await self._destinations.find(url)
            refused: DeliveryError | None = None
            for address in destination.addresses:
                try:
                    return await self._post(destination, address, body, headers)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    # Nothing has been sent: the next address may do.
                    refused = DeliveryError(_said(error))
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise DeliveryError(_said(error)) from None
            assert refused is not None
            raise refused

    async def _post(self, destination: Destination, address: Address, body: bytes, headers: Mapping[str, str]) -> int:
        # A client for each try: a pool would know connections by their address alone, whatever name was checked on them.
        transport = httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False)
        timeout = httpx.Timeout(self._answer_seconds, connect=CONNECT_SECONDS)
        url, sent = destination.at(address), {**_HEADERS, **headers, "host": destination.authority}
        named = {"sni_hostname": destination.host}
        async with (
            httpx.AsyncClient(transport=transport, trust_env=False, follow_redirects=False, timeout=timeout) as client,
            client.stream("POST", url, content=body, headers=sent, extensions=named) as response,
        ):
            read = 0
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read > MOST_ANSWER_BYTES:
                    break
            return response.status_code


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeliveryError(f"there was no answer within {seconds:g} seconds") from None


def _said(error: Exception) -> str:
    """What went wrong, without addresses."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the receiver's certificate is not good: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "the receiver does not speak TLS as it should"
        cause = cause.__cause__ or cause.__context__
    match error:
        case httpx.ConnectTimeout():
            return "no connection could be made in time"
        case httpx.ConnectError():
            return "no connection could be made"
        case httpx.TimeoutException():
            return "the receiver answers too slowly"
    return "the receiver ended the connection without an answer that could be read"
