"""Which addresses webhooks may be sent to: public ones, and those of networks that the operator allows.

By IANA's registries of special-purpose addresses (RFC 6890), written out here: what the standard library counts as global has
changed between Python versions, and counts some that carry another address inside.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


NEVER = _networks(
    "0.0.0.0/8",  # "this network", of which 0.0.0.0 reaches this machine
    "169.254.0.0/16",  # link-local, and with it most clouds' metadata
    "100.100.100.200/32",  # metadata
    "168.63.129.16/32",  # a cloud's host, at a public address
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",
    "::/128",
    "fd00:ec2::254/128",  # metadata
    "fe80::/10",  # link-local
    "ff00::/8",  # multicast
)
"""Refused in allowed networks too."""

_NOT_PUBLIC = _networks(
    "10.0.0.0/8",
    "100.64.0.0/10",  # carriers' NAT
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "2001::/23",  # protocol assignments, Teredo among them, which carries IPv4 addresses
    "2001:db8::/32",
    "2002::/16",  # 6to4, which carries them too
    "3fff::/20",
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""Of IPv6, no more has been given out."""
_NAT64 = IPv6Network("64:ff9b::/96")


def may_be_reached(address: Address, allowed: Collection[Network]) -> bool:
    address = carried(address)
    if any(address in network for network in NEVER):
        return False
    return any(address in network for network in allowed) or _is_public(address)


def carried(address: Address) -> Address:
    """The IPv4 address that a packet to an IPv4-mapped or NAT64 address goes to; else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in _NOT_PUBLIC)
