"""Engines for SQLite and PostgreSQL, and how their transactions begin."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError as BadURL

from milonga.errors import RecordsError
from milonga.records._types import dump_json

__all__ = ["Synchronous", "as_url", "make_engine", "write_connection"]

WRITING = "milonga_writing"
"""Execution option of connections that are going to write."""

STATEMENT_TIMEOUT = 60.0
"""Seconds after which PostgreSQL gives a statement up."""

IDLE_TIMEOUT = 600.0
"""Seconds after which it gives up a transaction in which no statement comes."""

CUT_OFF = 20.0
"""Seconds without an answer from the other machine after which a connection counts as cut."""


class Synchronous(StrEnum):
    """What a commit in SQLite waits for.

    With NORMAL a commit survives the death of the process, with FULL also the loss of power.
    """

    NORMAL = "NORMAL"
    FULL = "FULL"


def as_url(where: str | Path | URL) -> URL:
    """Return the URL of a store: a path is that of an SQLite file.

    Raises
    ------
    RecordsError
        If it is neither a path nor the URL of a database that we know.

    Examples
    --------
    >>> str(as_url("var/records.db"))
    'sqlite:///var/records.db'
    >>> as_url("postgresql://host/milonga").drivername
    'postgresql+psycopg'
    """
    try:
        url = (
            make_url(where)
            if isinstance(where, URL) or (isinstance(where, str) and "://" in where)
            else URL.create("sqlite", database=str(where))
        )
    except BadURL as error:
        raise RecordsError(f"record store: {error}") from error
    backend = url.get_backend_name()
    if backend == "postgresql" and url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database not in {None, "", ":memory:"}:
        return url
    if backend == "postgresql":
        return url
    raise RecordsError(
        f"record store: found {url.render_as_string()!r}, expected a path, sqlite:///PATH (a file, "
        "as several threads read it) or postgresql://..."
    )


def make_engine(url: URL, *, synchronous: Synchronous, busy_timeout: float) -> Engine:
    """Make an engine whose write transactions take the write lock when they begin.

    Parameters
    ----------
    url : URL
        Of the database.
    synchronous : Synchronous
        What a commit in SQLite waits for.
    busy_timeout : float
        Seconds to wait for a connection, or for the lock of another process.
    """
    if url.get_backend_name() == "sqlite":
        engine = create_engine(
            url, json_serializer=dump_json, connect_args={"timeout": busy_timeout}
        )
        _tune_sqlite(engine, synchronous)
        return engine
    wanted = _postgresql_arguments(busy_timeout)
    return create_engine(
        url,
        json_serializer=dump_json,
        pool_pre_ping=True,
        connect_args={name: value for name, value in wanted.items() if name not in url.query},
    )


def _postgresql_arguments(busy_timeout: float) -> dict[str, str | int]:
    """Return what keeps a connection from waiting for ever; the URL goes before it."""
    settings = {
        "lock_timeout": busy_timeout,
        "statement_timeout": STATEMENT_TIMEOUT,
        # A server that is cut off from us must not keep the locks of our transaction.
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT,
    }
    return {
        "connect_timeout": max(1, round(busy_timeout)),
        "options": " ".join(f"-c {name}={round(sec * 1000)}" for name, sec in settings.items()),
        "keepalives": 1,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": round(CUT_OFF * 1000),
    }


def _tune_sqlite(engine: Engine, synchronous: Synchronous) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _: Any) -> None:
        # The driver's own idea of when to begin a transaction leaves SELECTs outside of it.
        connection.isolation_level = None
        for setting in (
            "journal_mode=WAL",
            f"synchronous={synchronous}",
            "foreign_keys=ON",
        ):
            connection.execute(f"PRAGMA {setting}").close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A reader that turns into a writer can be refused for what happened in between.
        writing = connection.get_execution_options().get(WRITING)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def write_connection(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction that is going to write; commit at the end."""
    with engine.connect().execution_options(**{WRITING: True}) as connection, connection.begin():
        yield connection
