"""Files have versions"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "4be0d71f9c36"
down_revision = "900b728b9dd0"
branch_labels = None
depends_on = None

# What was counted before needs no new count: until now every file was the current version of its path.
_WITH_VERSIONS = """
CREATE OR REPLACE FUNCTION count_file_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO file_count_changes
      (tenant_id, ingestion_id, status, generation, earlier, files, size_bytes, rows, rows_skipped, rows_rescued)
    SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END,
           status = 'SUCCESS' AND NOT current,
           count(*), sum(size_bytes), coalesce(sum(rows), 0), coalesce(sum(rows_skipped), 0), coalesce(sum(rows_rescued), 0)
    FROM after GROUP BY 1, 2, 3, 4, 5;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO file_count_changes
      (tenant_id, ingestion_id, status, generation, earlier, files, size_bytes, rows, rows_skipped, rows_rescued)
    SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END,
           status = 'SUCCESS' AND NOT current,
           -count(*), -sum(size_bytes), -coalesce(sum(rows), 0), -coalesce(sum(rows_skipped), 0), -coalesce(sum(rows_rescued), 0)
    FROM before GROUP BY 1, 2, 3, 4, 5;
  ELSE
    INSERT INTO file_count_changes
      (tenant_id, ingestion_id, status, generation, earlier, files, size_bytes, rows, rows_skipped, rows_rescued)
    SELECT tenant_id, ingestion_id, status, generation, earlier,
           sum(sign), sum(sign * size_bytes),
           coalesce(sum(sign * rows), 0), coalesce(sum(sign * rows_skipped), 0), coalesce(sum(sign * rows_rescued), 0)
    FROM (
      SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END AS generation,
             status = 'SUCCESS' AND NOT current AS earlier,
             size_bytes, rows, rows_skipped, rows_rescued, 1 AS sign FROM after
      UNION ALL
      SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END AS generation,
             status = 'SUCCESS' AND NOT current AS earlier,
             size_bytes, rows, rows_skipped, rows_rescued, -1 AS sign FROM before
    ) AS changed
    GROUP BY tenant_id, ingestion_id, status, generation, earlier
    HAVING sum(sign) <> 0 OR sum(sign * size_bytes) <> 0
        OR sum(sign * rows) <> 0 OR sum(sign * rows_skipped) <> 0 OR sum(sign * rows_rescued) <> 0;
  END IF;
  RETURN NULL;
END $$
"""
_WITHOUT_VERSIONS = """
CREATE OR REPLACE FUNCTION count_file_changes() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO file_count_changes (tenant_id, ingestion_id, status, generation, files, size_bytes, rows, rows_skipped, rows_rescued)
    SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END,
           count(*), sum(size_bytes), coalesce(sum(rows), 0), coalesce(sum(rows_skipped), 0), coalesce(sum(rows_rescued), 0)
    FROM after GROUP BY 1, 2, 3, 4;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO file_count_changes (tenant_id, ingestion_id, status, generation, files, size_bytes, rows, rows_skipped, rows_rescued)
    SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END,
           -count(*), -sum(size_bytes), -coalesce(sum(rows), 0), -coalesce(sum(rows_skipped), 0), -coalesce(sum(rows_rescued), 0)
    FROM before GROUP BY 1, 2, 3, 4;
  ELSE
    INSERT INTO file_count_changes (tenant_id, ingestion_id, status, generation, files, size_bytes, rows, rows_skipped, rows_rescued)
    SELECT tenant_id, ingestion_id, status, generation,
           sum(sign), sum(sign * size_bytes),
           coalesce(sum(sign * rows), 0), coalesce(sum(sign * rows_skipped), 0), coalesce(sum(sign * rows_rescued), 0)
    FROM (
      SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END AS generation,
             size_bytes, rows, rows_skipped, rows_rescued, 1 AS sign FROM after
      UNION ALL
      SELECT tenant_id, ingestion_id, status, CASE WHEN status = 'SUCCESS' THEN generation END AS generation,
             size_bytes, rows, rows_skipped, rows_rescued, -1 AS sign FROM before
    ) AS changed
    GROUP BY tenant_id, ingestion_id, status, generation
    HAVING sum(sign) <> 0 OR sum(sign * size_bytes) <> 0
        OR sum(sign * rows) <> 0 OR sum(sign * rows_skipped) <> 0 OR sum(sign * rows_rescued) <> 0;
  END IF;
  RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.add_column("processed_files", sa.Column("replaces", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_index(
        "ix_processed_files_earlier",
        "processed_files",
        ["ingestion_id", "path", "id"],
        unique=False,
        postgresql_where=sa.text("NOT current"),
    )
    op.add_column("file_count_changes", sa.Column("earlier", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.execute(_WITH_VERSIONS)


def downgrade() -> None:
    op.execute(_WITHOUT_VERSIONS)
    op.drop_column("file_count_changes", "earlier")
    op.drop_index("ix_processed_files_earlier", table_name="processed_files", postgresql_where=sa.text("NOT current"))
    op.drop_column("processed_files", "replaces")
