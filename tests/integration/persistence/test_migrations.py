"""The migrations lead to exactly the tables that are declared, and back."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, make_url, text

from domain.errors import UnavailableError
from persistence.migrations import configuration, upgrade
from persistence.row_security import DIRECTORY_ROLE, TENANT_ROLE
from persistence.tables import metadata

_COLUMNS = """
    SELECT table_name || '.' || column_name, data_type, is_nullable, column_default, is_identity, collation_name
    FROM information_schema.columns WHERE table_schema = 'public'
"""
_INDEXES = "SELECT indexname, indexdef, '' FROM pg_indexes WHERE schemaname = 'public'"
_CONSTRAINTS = """
    SELECT conrelid::regclass || '.' || conname, pg_get_constraintdef(oid), convalidated::text
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
"""
_POLICIES = "SELECT tablename || '.' || policyname, roles::text, coalesce(qual, '') FROM pg_policies"
_GRANTS = """
    SELECT table_name::text, grantee::text, privilege_type::text
    FROM information_schema.role_table_grants WHERE grantee LIKE 'autoloader\\_%'
"""


def _sync(url: str) -> Engine:
    return create_engine(make_url(url).set(drivername="postgresql+psycopg2"))


def _catalog(url: str, *more: str) -> set[tuple[object, ...]]:
    """Every column, index and constraint, in the database's own words, and what more is asked for."""
    engine = _sync(url)
    with engine.connect() as connection:
        found = {tuple(row) for query in (_COLUMNS, _INDEXES, _CONSTRAINTS, *more) for row in connection.execute(text(query))}
    engine.dispose()
    return {row for row in found if "alembic_version" not in str(row[0])}


def test_alembic_finds_nothing_to_migrate(database_url: str) -> None:
    command.check(configuration(database_url))


def test_migrated_tables_are_the_declared_ones(database_url: str, empty_database_url: str) -> None:
    """To the last predicate of an index, which alembic does not compare."""
    engine = _sync(empty_database_url)
    metadata.create_all(engine)
    engine.dispose()
    assert _catalog(database_url) == _catalog(empty_database_url)


def test_every_migration_can_be_taken_back_and_made_again(database_url: str) -> None:
    config = configuration(database_url)
    migrated = _catalog(database_url, _POLICIES, _GRANTS)
    for revision in ScriptDirectory.from_config(config).walk_revisions():
        here = _catalog(database_url, _POLICIES, _GRANTS)
        command.downgrade(config, "-1")
        assert _catalog(database_url, _POLICIES, _GRANTS) != here, revision.revision
        command.upgrade(config, "+1")
        assert _catalog(database_url, _POLICIES, _GRANTS) == here, revision.revision
        command.downgrade(config, "-1")
    assert _catalog(database_url, _POLICIES, _GRANTS) == set()
    upgrade(database_url)
    assert _catalog(database_url, _POLICIES, _GRANTS) == migrated


def test_a_user_who_may_not_make_roles_is_told_who_can(empty_database_url: str, postgres_administration: Any) -> None:
    url, user = make_url(empty_database_url), f"plain_{secrets.token_hex(4)}"
    postgres_administration.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'plain'; ALTER DATABASE {url.database} OWNER TO {user}")
    mine = url.set(username=user, password="plain").render_as_string(hide_password=False)
    try:
        for role in (TENANT_ROLE, DIRECTORY_ROLE):
            with pytest.raises(UnavailableError, match=f"an administrator has to run once: .*GRANT {role} TO {user}"):
                upgrade(mine)
            postgres_administration.execute(f"GRANT {role} TO {user}")
        upgrade(mine)
        command.check(configuration(mine))
    finally:
        postgres_administration.execute(f"ALTER DATABASE {url.database} OWNER TO CURRENT_USER")
        engine = _sync(empty_database_url)
        with engine.begin() as connection:
            connection.execute(text(f"REASSIGN OWNED BY {user} TO CURRENT_USER; DROP OWNED BY {user}"))
        engine.dispose()
        postgres_administration.execute(f"DROP ROLE {user}")


def test_one_history_without_branches() -> None:
    assert len(ScriptDirectory.from_config(configuration("postgresql://nowhere")).get_heads()) == 1


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+asyncpg"])
def test_upgrade_takes_a_url_of_any_driver(empty_database_url: str, driver: str) -> None:
    url = make_url(empty_database_url).set(drivername=driver).render_as_string(hide_password=False)
    upgrade(url)
    upgrade(url)
    command.check(configuration(url))
