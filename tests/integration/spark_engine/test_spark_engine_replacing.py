"""The Spark engine replaces rows as the embedded one does."""

from tests.contracts.replacing import ReplacingContract


class TestSparkEngineReplacing(ReplacingContract):
    pass
