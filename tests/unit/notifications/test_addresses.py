"""Which addresses webhooks may be sent to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from integrations.notifications.addresses import may_be_reached

PUBLIC = ("8.8.8.8", "93.184.216.34", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e")
INTERNAL = (
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255"),
    *("0.0.0.0", "0.1.2.3", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "240.0.0.1"),
    *("255.255.255.255", "224.0.0.1", "239.255.255.255", "169.254.1.1"),
    *("::1", "::", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "4000::1"),
)
METADATA = ("169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "::ffff:169.254.169.254")
CARRYING = (
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
    *("2002:7f00:1::", "2002:a00:1::1", "2001:0:5ef5:79fd::1"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_reached(address: str) -> None:
    assert may_be_reached(ip_address(address), ())


@pytest.mark.parametrize("address", [*INTERNAL, *METADATA, *CARRYING])
def test_others_may_not(address: str) -> None:
    assert not may_be_reached(ip_address(address), ())


def test_a_zone_does_not_make_an_address_another() -> None:
    assert not may_be_reached(ip_address("fe80::1%eth0"), ())


def test_an_allowed_network_may_be_reached_however_it_is_written() -> None:
    allowed = [ip_network("10.1.0.0/16"), ip_network("fd12::/64")]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1"):
        assert may_be_reached(ip_address(address), allowed), address
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "fd13::1", "127.0.0.1"):
        assert not may_be_reached(ip_address(address), allowed), address


@pytest.mark.parametrize("address", [*METADATA, "0.0.0.0", "224.0.0.1", "fe80::1", "::"])
def test_no_network_that_is_allowed_opens_the_way_to_metadata(address: str) -> None:
    assert not may_be_reached(ip_address(address), [ip_network("0.0.0.0/0"), ip_network("::/0")])


@given(st.ip_addresses())
@example(ip_address("64:ff9b::1"))
def test_what_the_standard_library_knows_not_to_be_global_may_not(address: IPv4Address | IPv6Address) -> None:
    # A NAT64 address is judged by what it carries; the library is silent about that.
    if not address.is_global and address not in ip_network("64:ff9b::/96"):
        assert not may_be_reached(address, ())


@given(st.ip_addresses(v=4))
def test_an_address_that_carries_another_is_judged_by_it(carried: IPv4Address) -> None:
    for carrier in (f"::ffff:{carried}", f"64:ff9b::{carried}"):
        assert may_be_reached(ip_address(carrier), ()) == may_be_reached(carried, ())
