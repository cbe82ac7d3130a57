"""Streamed ingestions: over PostgreSQL."""

from __future__ import annotations

from tests.contracts.streaming import StreamedResetContract, StreamedRunContract


class TestStreamedRun(StreamedRunContract):
    pass


class TestStreamedReset(StreamedResetContract):
    pass
