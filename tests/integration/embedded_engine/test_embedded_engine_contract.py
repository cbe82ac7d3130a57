"""The embedded engine does what every engine does."""

from __future__ import annotations

from tests.contracts.engine_approval_contract import EngineApprovalContract
from tests.contracts.engine_contract import EngineContract
from tests.contracts.replacing import ReplacingContract


class TestEmbeddedEngine(EngineContract, EngineApprovalContract):
    pass


class TestReplacing(ReplacingContract):
    pass
