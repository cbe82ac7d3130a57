"""The schema's history, by alembic; run from code, so that there is no file of settings to keep true."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError, ProgrammingError

from domain.errors import UnavailableError

_INSUFFICIENT_PRIVILEGE = "42501"


def configuration(url: str) -> Config:
    """Alembic's settings for a database; `url` of any driver."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    sync_url = make_url(url).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    config.attributes["url"] = sync_url
    return config


def upgrade(url: str) -> None:
    """Bring the database to the newest schema. Blocking; concurrent callers wait for one another.

    Raises `UnavailableError` when the database does not let us in, or its user may not do what a migration needs.
    """
    try:
        command.upgrade(configuration(url), "head")
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != _INSUFFICIENT_PRIVILEGE:
            raise
        raise UnavailableError(f"the database cannot be migrated: {str(error.orig).strip().splitlines()[0]}") from error
    except OperationalError as error:
        raise UnavailableError(f"the database does not let us in: {str(error.orig).strip().splitlines()[0]}") from error
