"""What goes over the wire, at the level of HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest
import respx

from domain.ports.webhooks import DeliveryError
from integrations.notifications.destinations import Destinations
from integrations.notifications.sender import HttpWebhookSender
from tests.unit.notifications.test_destinations import NOT_ALLOWED, Names

URL = "https://receiver.example:8443/hook?token=1"
PINNED = "https://8.8.8.8:8443/hook?token=1"
HEADERS = {"webhook-id": "1", "webhook-signature": "v1,abc"}


@pytest.fixture
def http() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


def sender(names: Names | None = None, *, seconds: float = 5.0) -> HttpWebhookSender:
    return HttpWebhookSender(Destinations((), names or Names(["8.8.8.8"])), ssl.create_default_context(), answer_seconds=seconds)


async def test_the_request_goes_to_the_address_under_the_hosts_name(http: respx.MockRouter) -> None:
    route = http.post(PINNED).respond(204)
    assert await sender().send(URL, b'{"type":"run.failed"}', HEADERS) == 204
    [call] = route.calls
    assert call.request.content == b'{"type":"run.failed"}'
    assert dict(call.request.headers) == {
        "host": "receiver.example:8443",
        "content-type": "application/json",
        "content-length": "21",
        "user-agent": "Autoloader",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
        **HEADERS,
    }
    assert call.request.extensions["sni_hostname"] == "receiver.example"


async def test_a_redirection_is_an_answer_like_others(http: respx.MockRouter) -> None:
    http.post(PINNED).respond(307, headers={"location": "https://169.254.169.254/latest/meta-data/"})
    elsewhere = http.route(host="169.254.169.254").respond(200)
    assert await sender().send(URL, b"{}", {}) == 307
    assert not elsewhere.called


async def test_a_name_that_now_leads_inside_is_not_connected_to(http: respx.MockRouter) -> None:
    sends = sender(Names(["8.8.8.8"], ["127.0.0.1"]))
    await sends.check(URL)
    with pytest.raises(DeliveryError, match=NOT_ALLOWED):
        await sends.send(URL, b"{}", {})
    assert not http.calls


async def test_the_next_address_is_tried_when_nothing_was_sent(http: respx.MockRouter) -> None:
    http.post(PINNED).mock(side_effect=httpx.ConnectError("refused"))
    second = http.post("https://[2606:4700::1]:8443/hook?token=1").respond(200)
    names = Names(["8.8.8.8", "2606:4700::1"])
    assert await sender(names).send(URL, b"{}", {}) == 200
    assert second.call_count == 1
    assert len(names.asked) == 1


async def test_it_is_not_when_something_may_have_been(http: respx.MockRouter) -> None:
    http.post(PINNED).mock(side_effect=httpx.ReadError("reset"))
    second = http.post("https://[2606:4700::1]:8443/hook?token=1").respond(200)
    with pytest.raises(DeliveryError, match="the receiver ended the connection without an answer that could be read"):
        await sender(Names(["8.8.8.8", "2606:4700::1"])).send(URL, b"{}", {})
    assert not second.called


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (httpx.ConnectError("8.8.8.8 refused"), "no connection could be made"),
        (httpx.ConnectTimeout("8.8.8.8"), "no connection could be made in time"),
        (httpx.ReadTimeout("8.8.8.8"), "the receiver answers too slowly"),
        (httpx.RemoteProtocolError("8.8.8.8"), "the receiver ended the connection without an answer that could be read"),
    ],
)
async def test_what_went_wrong_is_told_without_addresses(http: respx.MockRouter, error: Exception, message: str) -> None:
    http.post(PINNED).mock(side_effect=error)
    with pytest.raises(DeliveryError) as caught:
        await sender().send(URL, b"{}", {})
    assert caught.value.message == message


async def test_proxies_of_the_environment_are_not_asked(http: respx.MockRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert http.post(PINNED).respond(200)
    assert await sender().send(URL, b"{}", {}) == 200
