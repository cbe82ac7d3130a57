"""Queues of notifications"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "cf3a6fb985aa"
down_revision = "30722c8c3a4a"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ingestions", sa.Column("last_listed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("ingestions", sa.Column("queue_key", sa.Text(), nullable=True))
    op.add_column("ingestions", sa.Column("event_queue", postgresql.JSONB(none_as_null=True), nullable=True))
    op.create_index(
        "ix_ingestions_listening",
        "ingestions",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status = 'ACTIVE' AND queue_key IS NOT NULL"),
    )
    op.create_unique_constraint("uq_ingestions_queue", "ingestions", ["queue_key"])


def downgrade() -> None:
    op.drop_constraint("uq_ingestions_queue", "ingestions", type_="unique")
    op.drop_index(
        "ix_ingestions_listening", table_name="ingestions", postgresql_where=sa.text("status = 'ACTIVE' AND queue_key IS NOT NULL")
    )
    op.drop_column("ingestions", "event_queue")
    op.drop_column("ingestions", "queue_key")
    op.drop_column("ingestions", "last_listed_at")
