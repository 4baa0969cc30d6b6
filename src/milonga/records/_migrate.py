"""Bring the tables of a store to the form that this release works with."""

import functools
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from milonga.errors import StoreVersionError
from milonga.records._engine import write_connection

__all__ = ["UPGRADE_COMMAND", "current_version", "latest_version", "migrate", "prepare"]

UPGRADE_COMMAND = "python -m milonga.records upgrade"
_LOCK = 0x6D696C6F  # "milo": the advisory lock that keeps two servers from migrating at once


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "_migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@functools.cache  # alembic reads all migrations to know it
def latest_version() -> str:
    """Return the version of the tables that this release works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None  # noqa: S101 - the package ships migrations
    return head


@functools.cache
def _known_versions() -> frozenset[str]:
    scripts = ScriptDirectory.from_config(_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


def current_version(engine: Engine) -> str | None:
    """Return the version of a store's tables; None if it has none."""
    with engine.connect() as connection:
        return _version(connection)


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def migrate(engine: Engine, version: str = "head") -> None:
    """Migrate a store, in one transaction: a crash leaves it as it was.

    Raises
    ------
    StoreVersionError
        If a later release of Milonga has made the store.
    """
    with write_connection(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        _refuse_unknown(connection)
        command.upgrade(_config(connection), version)


def _refuse_unknown(connection: Connection) -> str | None:
    found = _version(connection)
    if found is not None and found not in _known_versions():
        raise StoreVersionError(
            f"record store {_shown(connection.engine)}: its tables have version {found}, which a "
            f"later release made; this one knows up to {latest_version()}. Update Milonga."
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
    latest = latest_version()
    if found == latest:
        return
    if found is not None and not may_migrate:
        where = _shown(engine)
        raise StoreVersionError(
            f"record store {where}: its tables have version {found}, expected {latest}. "
            f"Migrate it with: {UPGRADE_COMMAND} {where}"
        )
    migrate(engine)


def _shown(engine: Engine) -> Any:
    return engine.url.render_as_string(hide_password=True)
