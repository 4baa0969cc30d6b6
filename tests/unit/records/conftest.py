"""Stores for tests: each on SQLite and, where it can be had, on a private PostgreSQL."""

import contextlib
import itertools
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from milonga.records import (
    NewTask,
    Recorder,
    RecordStore,
    Situation,
    StoreSettings,
    latest_version,
)
from milonga.records._tables import Base

from ...postgresql import USER, NoPostgreSQL, Server, running_server


class Clock:
    """A time of day that the test sets."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class Databases:
    """Gives each test a database of its own, which has the tables already."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def new(self) -> str:
        """Return the URL of a fresh database with tables."""
        raise NotImplementedError

    def empty(self) -> str:
        """Return the URL of a fresh database without tables."""
        raise NotImplementedError


class SQLiteFiles(Databases):
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._template = folder / "template.db"
        RecordStore(self._template).close()

    def new(self) -> str:
        """Copy the file with the tables."""
        path = self._folder / f"{next(self._numbers)}.db"
        shutil.copy(self._template, path)
        return f"sqlite:///{path}"

    def empty(self) -> str:
        """Name a file that is not there."""
        return f"sqlite:///{self._folder / f'{next(self._numbers)}.db'}"


class PostgreSQLDatabases(Databases):
    """Databases of one server."""

    def __init__(self, folder: Path, server: Server) -> None:
        super().__init__(folder)
        self._server = server
        self._url = self.empty()
        RecordStore(self._url).close()

    def new(self) -> str:
        """Empty the tables of the one database that all tests share, which takes least time."""
        tables = sql.SQL(", ").join(map(sql.Identifier, Base.metadata.tables))
        with psycopg.connect(self._url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
            connection.execute("UPDATE alembic_version SET version_num = %s", [latest_version()])
        return self._url

    def empty(self) -> str:
        """Make an empty database."""
        return self._create(f"test_{uuid.uuid4().hex[:12]}")

    def _create(self, name: str) -> str:
        host = f"host=127.0.0.1 port={self._server.port} user={USER} dbname=postgres"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        with psycopg.connect(host, autocommit=True) as connection:
            connection.execute(statement)
        return self._server.url(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Give a PostgreSQL server; the test is skipped where there is none."""
    try:
        with running_server() as server:
            yield server
    except NoPostgreSQL as error:
        pytest.skip(f"no PostgreSQL: {error}")


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Databases:
    """Give databases of one kind."""
    folder = tmp_path_factory.mktemp(f"stores-{request.param}")
    if request.param == "sqlite":
        return SQLiteFiles(folder)
    return PostgreSQLDatabases(folder, request.getfixturevalue("postgresql"))


@pytest.fixture(scope="session")
def new_server() -> Callable[[], contextlib.AbstractContextManager[Server]]:
    """Give a server that the test may stop."""
    return running_server


@pytest.fixture
def url(databases: Databases) -> str:
    """Give the URL of a fresh database with tables."""
    return databases.new()


@pytest.fixture
def clock() -> Clock:
    """Give a time of day that the test sets."""
    return Clock()


@pytest.fixture
def open_store(url: str) -> Iterator[Callable[..., RecordStore]]:
    """Open the test's database, as often as the test likes."""
    with contextlib.ExitStack() as stack:

        def open_it(clock: Clock | None = None, **settings: Any) -> RecordStore:
            more = {"clock": clock} if clock is not None else {}
            return stack.enter_context(RecordStore(url, StoreSettings(**settings), **more))

        yield open_it


@pytest.fixture
def store(open_store: Callable[..., RecordStore]) -> RecordStore:
    """Give a store."""
    return open_store()


@pytest.fixture
def recorder(store: RecordStore) -> Iterator[Recorder]:
    """Give a recorder that writes to the store."""
    with Recorder(store, "srv/1") as recorder:
        yield recorder


@pytest.fixture
def timed(open_store: Callable[..., RecordStore], clock: Any) -> RecordStore:
    """Give a store with the test's clock."""
    return open_store(clock)


@pytest.fixture
def tell(timed: RecordStore, clock: Any) -> Any:
    """Write down what happened, a second after the other."""
    with Recorder(timed, "srv/1") as recorder:

        def tell(uid: str, situation: Situation | None = None, text: str = "", **more: Any) -> None:
            clock.advance(1)
            if situation is None:
                parent, _, name = uid.rpartition("/")
                columns = {"task_name": name, "parent_uid": parent or None} | more
                recorder.open(NewTask(uid=uid, **columns))
            else:
                recorder.finish(uid, situation, text, **more)
            assert recorder.flush(10)

        yield tell


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whoever starts a thread ends it."""
    yield
    left = [one.name for one in threading.enumerate() if one.name == "milonga-records"]
    assert left == []
