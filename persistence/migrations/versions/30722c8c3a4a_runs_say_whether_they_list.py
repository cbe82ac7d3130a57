"""Runs say whether they list"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "30722c8c3a4a"
down_revision = "c61a8cd226be"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("lists", sa.Boolean(), server_default=sa.text("true"), nullable=False))


def downgrade() -> None:
    op.drop_column("runs", "lists")
