"""How to reach a PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """Where a server listens, and who may come in. The password is kept out of `repr`, hence out of logs."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    def url(self, database: str | None = None, driver: str = "postgresql+asyncpg") -> str:
        """A URL with the password in it; `driver` is its scheme (plain `postgresql` for libpq and asyncpg)."""
        credentials = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{driver}://{credentials}@{self.host}:{self.port}/{quote(database or self.database, safe='')}"
