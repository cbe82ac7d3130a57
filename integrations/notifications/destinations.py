"""From a webhook's URL to addresses that were looked up and checked, so that the connection goes to what was checked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

import httpx

from domain.ports.webhooks import DeliveryError
from integrations.notifications.addresses import Address, Network, carried, may_be_reached

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]
"""The addresses of a host, for a port. Raises OSError when there are none."""

MOST_ADDRESSES = 4
"""Of a host that has more, no others are tried."""
_LONGEST_URL = 2_048


@dataclass(frozen=True, slots=True)
class Destination:
    """`authority` is what the Host header says; `host` what the certificate has to name."""

    url: httpx.URL
    host: str
    authority: str
    addresses: tuple[Address, ...]

    def at(self, address: Address) -> httpx.URL:
        """The URL with the address in the place of the host's name: nobody looks the name up again."""
        return self.url.copy_with(host=str(address))


class Destinations:
    def __init__(self, allowed: Collection[Network], resolve: Resolve) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    async def find(self, text: str) -> Destination:
        """Raises `DeliveryError` when the URL may not be sent to, or its host has no address."""
        url = _parsed(text)
        port = url.port or (443 if url.scheme == "https" else 80)
        host = url.raw_host.decode("ascii")
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise DeliveryError("the host's name has no address")
        # One that may not be reached spoils the others: which of them is connected to must not be left to chance.
        if not all(may_be_reached(address, self._allowed) for address in found):
            raise DeliveryError("the host has an address that webhooks may not be sent to")
        if url.scheme == "http" and not all(carried(address).is_loopback for address in found):
            raise DeliveryError("must be an https URL")
        authority = url.netloc.decode("ascii")
        return Destination(url, host, authority, tuple(found[:MOST_ADDRESSES]))


def _parsed(text: str) -> httpx.URL:
    # The same object is checked and connected to, so that no other parser can read another host in it.
    if len(text) > _LONGEST_URL or not text.isascii() or not text.isprintable() or any(sign in text for sign in ' \\"<>^`{|}'):
        raise DeliveryError(f"must be a URL of at most {_LONGEST_URL} ASCII characters, without spaces or backslashes")
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise DeliveryError("is no URL") from None
    if url.scheme not in ("https", "http") or not url.raw_host:
        raise DeliveryError("must be an https URL")
    if url.userinfo:
        raise DeliveryError("must not hold a user or password")
    if url.fragment:
        raise DeliveryError("must not have a fragment")
    # httpx leaves a scheme's own port out.
    if url.port is not None and not 1_024 <= url.port <= 65_535:
        raise DeliveryError("must be at port 443, or at one from 1024 on")
    return url


class SystemResolver:
    """The system's own way to look names up. It blocks, for longer than anybody waits: so in threads of its own."""

    def __init__(self, threads: int = 32) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        addresses = [ip_address(str(sockaddr[0])) for *_, sockaddr in found]
        # IPv4 first: hosts without a way to IPv6 are common, and refuse late.
        return sorted(dict.fromkeys(addresses), key=lambda address: not isinstance(address, IPv4Address))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
