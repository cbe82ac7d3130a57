"""Alembic's way in: one connection, one transaction, behind a lock that lets one migrator in at a time."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import create_engine, text

from persistence.tables import metadata
from persistence.types import EnumText, Message, ValueObject

_MIGRATION_LOCK = 0x6175746F6C6F6164
"""Arbitrary, and this project's alone: "autoload" in ASCII."""


def render(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """Migrations name the database's types, not the domain's: they must still run when the domain has moved on."""
    if kind == "type" and isinstance(item, EnumText | Message):
        return "sa.Text()"
    if kind == "type" and isinstance(item, ValueObject):
        return "postgresql.JSONB(none_as_null=True)"
    return False


engine = create_engine(context.config.attributes["url"])
try:
    with engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        context.configure(connection=connection, target_metadata=metadata, compare_type=True, render_item=render)
        with context.begin_transaction():
            context.run_migrations()
finally:
    engine.dispose()
