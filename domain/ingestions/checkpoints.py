"""Where streaming mode keeps Spark's progress."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """`root` is the URI below which all of them lie."""

    root: str

    def path(self, tenant_id: UUID, ingestion_id: UUID, *, version: int) -> str:
        """Unique: to an ingestion by its id, and to each time it is begun anew by the version that does so."""
        return f"{self.root.rstrip('/')}/{tenant_id}/{ingestion_id}/{version}"
