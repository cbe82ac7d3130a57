"""Where a server listens."""

from __future__ import annotations

import socket

import pytest

from autoloader.serving import listening


@pytest.mark.parametrize(
    ("host", "url", "local"), [("127.0.0.1", "http://127.0.0.1:", True), ("::1", "http://[::1]:", True), ("::", "http://[::]:", False)]
)
def test_it_listens_on_either_family(host: str, url: str, local: bool) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listening(host, 0) as on:
        assert on.url.startswith(url)
        assert on.is_local is local
