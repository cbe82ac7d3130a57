"""Refresh, clear, delete: over PostgreSQL."""

from __future__ import annotations

from tests.contracts.resets import ClearContract, DeletionContract, RefreshContract


class TestRefresh(RefreshContract):
    pass


class TestClear(ClearContract):
    pass


class TestDeletion(DeletionContract):
    pass
