"""Real connections to a real receiver, also to one that does not mean well."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network

import pytest

from domain.ports.webhooks import DeliveryError
from integrations.notifications.addresses import Address
from integrations.notifications.destinations import Destinations, SystemResolver
from integrations.notifications.sender import HttpWebhookSender
from tests.fixtures.receiver import Certificate, Receiver, hangs, never_ends, receiving, status, trickles

LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


async def here(host: str, port: int) -> Sequence[Address]:
    """Every name is this machine's."""
    return [ip_address("127.0.0.1")]


def sender(tls: ssl.SSLContext | None = None, *, seconds: float = 10.0) -> HttpWebhookSender:
    return HttpWebhookSender(Destinations(LOOPBACK, here), tls or ssl.create_default_context(), answer_seconds=seconds)


async def problem(sends: HttpWebhookSender, url: str) -> str:
    with pytest.raises(DeliveryError) as caught:
        await sends.send(url, b"{}", {})
    return caught.value.message


async def test_a_webhook_arrives(receiver: Receiver) -> None:
    assert await sender().send(receiver.url("/hook?token=1"), b'{"a":1}', {"webhook-id": "7"}) == 204
    got = await receiver.next()
    assert (got.path, got.json, got.headers["webhook-id"], got.headers["host"]) == (
        "/hook?token=1",
        {"a": 1},
        "7",
        f"127.0.0.1:{receiver.port}",
    )


@pytest.fixture
async def secure(certificate: Certificate) -> AsyncIterator[Receiver]:
    async with receiving(certificate.server, host="receiver.example") as opened:
        yield opened


async def test_tls_is_spoken_with_the_named_host_at_the_checked_address(secure: Receiver, certificate: Certificate) -> None:
    assert await sender(certificate.client).send(secure.url(), b"{}", {}) == 204
    assert (await secure.next()).headers["host"] == f"receiver.example:{secure.port}"
    assert secure.names == ["receiver.example"]


async def test_a_certificate_for_another_name_is_not_good(secure: Receiver, certificate: Certificate) -> None:
    said = await problem(sender(certificate.client), f"https://other.example:{secure.port}/")
    assert said.startswith("the receiver's certificate is not good: Hostname mismatch")
    assert secure.received.empty()


async def test_a_certificate_of_nobody_we_trust_is_not_good(secure: Receiver) -> None:
    assert await problem(sender(), secure.url()) == "the receiver's certificate is not good: self-signed certificate"
    assert secure.received.empty()


async def test_a_receiver_that_speaks_no_tls_is_told_so(receiver: Receiver) -> None:
    assert await problem(sender(), f"https://receiver.example:{receiver.port}/") == "the receiver does not speak TLS as it should"


@pytest.mark.parametrize("answer", [hangs, trickles])
async def test_a_receiver_that_takes_its_time_is_left(receiver: Receiver, answer: object) -> None:
    receiver.answers.append(answer)  # type: ignore[arg-type]
    began = time.monotonic()
    assert await problem(sender(seconds=0.3), receiver.url()) in (
        "there was no answer within 0.3 seconds",
        "the receiver answers too slowly",
    )
    assert time.monotonic() - began < 5


async def test_a_redirection_to_an_internal_address_is_not_followed(receiver: Receiver) -> None:
    async with receiving() as internal:
        receiver.answers.append(status(302, f"location: {internal.url('/latest/meta-data')}"))
        assert await sender().send(receiver.url(), b"{}", {}) == 302
        assert internal.received.empty()


async def test_of_a_huge_body_little_is_read(receiver: Receiver) -> None:
    receiver.answers.append(never_ends)
    assert await sender().send(receiver.url(), b"{}", {}) == 200


async def test_a_header_without_end_is_refused(receiver: Receiver) -> None:
    receiver.answers.append(status(200, "x: " + "y" * 1_000_000))
    assert await problem(sender(), receiver.url()) == "the receiver ended the connection without an answer that could be read"


async def test_a_receiver_that_is_not_there_is_told() -> None:
    async with receiving() as gone:
        url = gone.url()
    assert await problem(sender(), url) == "no connection could be made"


@pytest.mark.parametrize("url", ["https://localhost:8443/", "https://127.0.0.1:8443/", "https://[::1]:8443/", "https://2130706433:8443/"])
async def test_the_systems_names_for_this_machine_are_refused(url: str) -> None:
    resolver = SystemResolver(threads=1)
    try:
        with pytest.raises(DeliveryError, match="the host has an address that webhooks may not be sent to"):
            await HttpWebhookSender(Destinations((), resolver), ssl.create_default_context()).check(url)
    finally:
        resolver.close()
