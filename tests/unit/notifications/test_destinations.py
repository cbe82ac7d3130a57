"""What of a URL may be sent to, and that the name is looked up once for each time."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from domain.ports.webhooks import DeliveryError
from integrations.notifications.addresses import Address
from integrations.notifications.destinations import Destinations

NOT_ALLOWED = "the host has an address that webhooks may not be sent to"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Names:
    """Answers each question about a name with the next of its answers; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise OSError("no such host")
        return [ip_address(text) for text in answer]


async def problem(url: str, *addresses: str, allowed: Sequence[object] = ()) -> str | None:
    try:
        await Destinations(allowed, Names(addresses or ("8.8.8.8",))).find(url)  # type: ignore[arg-type]
    except DeliveryError as error:
        return error.message
    return None


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://receiver.example/", "must be an https URL"),
        ("ftp://receiver.example/", "must be an https URL"),
        ("file:///etc/passwd", "must be an https URL"),
        ("receiver.example/hook", "must be an https URL"),
        ("https:///hook", "must be an https URL"),
        ("", "must be an https URL"),
        ("https://user:secret@receiver.example/", "must not hold a user or password"),
        ("https://receiver.example@10.0.0.1/", "must not hold a user or password"),
        ("https://receiver.example/#part", "must not have a fragment"),
        ("https://receiver.example:22/", "must be at port 443, or at one from 1024 on"),
        ("https://receiver.example:80/", "must be at port 443, or at one from 1024 on"),
        ("https://receiver.example:0/", "must be at port 443, or at one from 1024 on"),
        ("https://receiver.example:99999/", "must be at port 443, or at one from 1024 on"),
        ("https://receiver.example:port/", "is no URL"),
        ("https://[::1/", "is no URL"),
        *((f"https://receiver.example{sign}/", None) for sign in ("\\@10.0.0.1", " ", "\n", "\0", "\u2028", "é", "\ud800")),
        ("https://receiver.example/" + "x" * 2_048, None),
    ],
)
async def test_a_bad_url_is_refused(url: str, message: str | None) -> None:
    general = "must be a URL of at most 2048 ASCII characters, without spaces or backslashes"
    assert await problem(url) == (message or general)


@pytest.mark.parametrize("port", ["", ":443", ":1024", ":8443", ":65535"])
async def test_a_public_https_url_is_found(port: str) -> None:
    names = Names(["8.8.8.8", "2606:4700:4700::1111"])
    found = await Destinations((), names).find(f"https://Receiver.Example{port}/hook?token=1")
    assert (found.host, [str(address) for address in found.addresses]) == ("receiver.example", ["8.8.8.8", "2606:4700:4700::1111"])
    assert found.authority == "receiver.example" + ("" if port == ":443" else port)
    shown = "" if port == ":443" else port
    assert [str(found.at(address)) for address in found.addresses] == [
        f"https://8.8.8.8{shown}/hook?token=1",
        f"https://[2606:4700:4700::1111]{shown}/hook?token=1",
    ]
    assert names.asked == [("receiver.example", int(port[1:] or 443))]


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:169.254.169.254"], ["2606:4700::1", "::1"]])
async def test_one_internal_address_spoils_the_host(addresses: list[str]) -> None:
    assert await problem("https://receiver.example/", *addresses) == NOT_ALLOWED


async def test_a_name_without_an_address_is_told() -> None:
    for answer in ([],):
        with pytest.raises(DeliveryError, match="the host's name has no address"):
            await Destinations((), Names(answer)).find("https://receiver.example/")


async def test_a_name_that_changes_its_address_is_judged_each_time() -> None:
    destinations = Destinations((), Names(["8.8.8.8"], ["127.0.0.1"]))
    assert [str(address) for address in (await destinations.find("https://rebind.example/")).addresses] == ["8.8.8.8"]
    with pytest.raises(DeliveryError, match=NOT_ALLOWED):
        await destinations.find("https://rebind.example/")


async def test_plain_http_is_for_a_loopback_that_is_allowed() -> None:
    url = "http://localhost:9000/"
    assert await problem(url, "127.0.0.1", "::1", allowed=LOOPBACK) is None
    assert await problem(url, "127.0.0.1") == NOT_ALLOWED
    assert await problem(url, "8.8.8.8", allowed=LOOPBACK) == "must be an https URL"
    assert await problem(url, "10.0.0.1", allowed=[ip_network("10.0.0.0/8")]) == "must be an https URL"
    assert await problem("https://inside.example/", "10.0.0.1", allowed=[ip_network("10.0.0.0/8")]) is None


async def test_of_many_addresses_the_first_are_tried() -> None:
    many = [f"8.8.8.{number}" for number in range(1, 9)]
    assert len((await Destinations((), Names(many)).find("https://receiver.example/")).addresses) == 4
