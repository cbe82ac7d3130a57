"""Files that wait for people: over PostgreSQL."""

from __future__ import annotations

from tests.contracts.approvals import ApprovalContract


class TestApproval(ApprovalContract):
    pass
