"""Runs are taken from a queue, and say whether they list"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "30722c8c3a4a"
down_revision = "c61a8cd226be"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("lists", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.execute("GRANT UPDATE (lease_expires_at) ON runs TO autoloader_directory")


def downgrade() -> None:
    op.execute("REVOKE UPDATE (lease_expires_at) ON runs FROM autoloader_directory")
    op.drop_column("runs", "lists")
