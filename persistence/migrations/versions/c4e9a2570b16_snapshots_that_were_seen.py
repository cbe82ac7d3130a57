"""Snapshots that were seen"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "c4e9a2570b16"
down_revision = "8b1f46d0c3e7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ingestions", sa.Column("snapshots_seen", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("ingestions", "snapshots_seen")
