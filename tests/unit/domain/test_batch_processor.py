"""Claim, load, mark: over the fakes."""

from __future__ import annotations

from tests.contracts.changed_files import ChangedFilesContract
from tests.contracts.processing import ProcessingContract


class TestProcessing(ProcessingContract):
    pass


class TestChangedFiles(ChangedFilesContract):
    pass
