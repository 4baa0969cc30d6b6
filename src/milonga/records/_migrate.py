"""Bring the tables of a store to the form that this release works with.

alembic is large, so it is imported where there is something to migrate, which is seldom.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, inspect, text

from milonga.errors import StoreVersionError
from milonga.records._engine import write_connection

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "UPGRADE_COMMAND",
    "current_version",
    "known_versions",
    "latest_version",
    "migrate",
    "prepare",
]

UPGRADE_COMMAND = "python -m milonga.records upgrade"
_LOCK = 0x6D696C6F  # "milo": the advisory lock that keeps two servers from migrating at once


LATEST = "0004"
"""The version of the tables that this release works with: that of the last migration."""


def latest_version() -> str:
    """Return the version of the tables that this release works with."""
    return LATEST


def _config(connection: Connection | None = None) -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "_migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def known_versions() -> tuple[str, ...]:
    """Return all versions that tables may have, the last one first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(_config())
    return tuple(script.revision for script in scripts.walk_revisions())


def current_version(engine: Engine) -> str | None:
    """Return the version of a store's tables; None if it has none."""
    with engine.connect() as connection:
        return _version(connection)


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(engine: Engine, version: str = "head") -> None:
    """Migrate a store, in one transaction: a crash leaves it as it was.

    Raises
    ------
    StoreVersionError
        If a later release of Milonga has made the store.
    """
    from alembic import command  # noqa: PLC0415

    with write_connection(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))  # large tables take long
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        _refuse_unknown(connection)
        command.upgrade(_config(connection), version)


def _refuse_unknown(connection: Connection) -> str | None:
    found = _version(connection)
    if found not in {None, LATEST} and found not in known_versions():
        raise StoreVersionError(
            f"record store {_shown(connection.engine)}: its tables have version {found}, which a "
            f"later release made; this one knows up to {LATEST}. Update Milonga."
        )
    return found


def prepare(engine: Engine, *, may_migrate: bool) -> None:
    """Make the tables of a new store; migrate those of an older one, or refuse it.

    Raises
    ------
    StoreVersionError
        If the store is older and must not be migrated, or is newer than this release.
    """
    with engine.connect() as connection:
        found = _refuse_unknown(connection)
    if found == LATEST:
        return
    if found is not None and not may_migrate:
        where = _shown(engine)
        raise StoreVersionError(
            f"record store {where}: its tables have version {found}, expected {LATEST}. "
            f"Migrate it with: {UPGRADE_COMMAND} {where}"
        )
    migrate(engine)


def _shown(engine: Engine) -> Any:
    return engine.url.render_as_string(hide_password=True)
