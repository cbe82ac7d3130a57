"""Source, ledger and table side by side: over the fakes."""

from __future__ import annotations

from tests.contracts.completeness import CompletenessContract


class TestCompleteness(CompletenessContract):
    pass
