from __future__ import annotations

from tests.contracts.event_discovery import ListingContract, NothingLostContract, ReceivingContract


class TestReceiving(ReceivingContract):
    pass


class TestNothingIsLost(NothingLostContract):
    pass


class TestListing(ListingContract):
    pass
