"""Runs count their listings"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "5d2e8f13b7a4"
down_revision = "cf3a6fb985aa"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("listings", sa.Integer(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    op.drop_column("runs", "listings")
