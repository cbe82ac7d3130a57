"""Files that wait for people: over the fakes."""

from __future__ import annotations

from tests.contracts.approvals import ApprovalContract


class TestApproval(ApprovalContract):
    pass
