"""The store: a database, its transactions, and who is told of what was committed."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from milonga.records._clock import Now, utc_now
from milonga.records._engine import WRITING, Synchronous, as_url, make_engine, write_connection
from milonga.records._events import Announcement, post
from milonga.records._migrate import prepare
from milonga.records._outbox_bound import OutboxBound
from milonga.records._sessions import as_current

__all__ = ["RecordStore", "StoreSettings", "Transaction"]

_logger = logging.getLogger(__name__)
Listener = Callable[[Sequence[Announcement]], object]


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """How a store works.

    Parameters
    ----------
    synchronous : Synchronous
        NORMAL: a commit in SQLite survives the death of the process; FULL: also the loss of power.
    busy_timeout : float
        Seconds to wait for a connection, or for another process that writes.
    migrate : bool
        Whether an older store is migrated when it is opened, rather than refused.
    details_interval : float
        Seconds for which the details of a task are gathered into one message to a hook.
    max_outbox : int
        Messages that may wait for one hook; see `OutboxBound` for what goes beyond it.
    may_be_away : bool
        Whether a database that does not answer yet is no error: its tables are then looked after
        when it is used first.
    """

    synchronous: Synchronous = Synchronous.NORMAL
    busy_timeout: float = 5.0
    migrate: bool = True
    details_interval: float = 1.0
    max_outbox: int = 10_000
    may_be_away: bool = False


@dataclass
class Transaction:
    """A write transaction, and what is to be told once it is committed."""

    connection: Connection
    announcements: list[Announcement] = field(default_factory=list)


class RecordStore:
    """Records in SQLite or PostgreSQL; any thread may use it.

    Parameters
    ----------
    where : str or Path
        Path of an SQLite file, or the URL of a database.
    settings : StoreSettings, optional
        How it works.
    clock : callable, optional
        Time of day, aware and in UTC.

    Raises
    ------
    StoreVersionError
        If the store was made by a later release, or is older and must not be migrated.
    RecordsError
        If `where` is no database that we know.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from milonga.records import ProcessingTask
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with RecordStore(pathlib.Path(folder) / "records.db") as store:
    ...         with store.session():
    ...             ProcessingTask("Configure").save(commit=True)
    ...         with store.reading():
    ...             ProcessingTask.get_by_id(1).status
    <RecordStatus.PENDING: 'PENDING'>
    """

    def __init__(
        self,
        where: str | Path | URL,
        settings: StoreSettings | None = None,
        *,
        clock: Now = utc_now,
    ) -> None:
        self.settings = settings or StoreSettings()
        self.clock = clock
        self.outbox_bound = OutboxBound(self.settings.max_outbox)
        self.url = as_url(where)
        self.engine: Engine = make_engine(
            self.url,
            synchronous=self.settings.synchronous,
            busy_timeout=self.settings.busy_timeout,
        )
        self._turn = threading.Lock()
        self._listeners: tuple[Listener, ...] = ()
        self._wakers: tuple[Listener, ...] = ()
        options = {WRITING: True}
        self._writers = sessionmaker(
            self.engine.execution_options(**options), expire_on_commit=False
        )
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._preparing = threading.Lock()
        self._is_prepared = False
        try:
            self._prepare()
        except (SQLAlchemyError, OSError) as error:
            if not self.settings.may_be_away:
                self.engine.dispose()
                raise
            _logger.error("the record store does not answer yet: %s", error)  # noqa: TRY400 - expected
        except BaseException:
            self.engine.dispose()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RecordStore({self.url.render_as_string(hide_password=True)!r})"

    def close(self) -> None:
        """Close all connections; idempotent."""
        self.engine.dispose()

    def _prepare(self) -> None:
        """Look after the tables, unless that is done."""
        with self._preparing:
            if not self._is_prepared:
                prepare(self.engine, may_migrate=self.settings.migrate)
                self._is_prepared = True

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Give a session that is going to write; what is not committed is rolled back.

        Keep it short: from its first statement on, nobody else can write to an SQLite store.
        """
        self._prepare()
        with self._writers() as session, as_current(session):
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session that only reads; it sees the store as it was at its first statement."""
        self._prepare()
        with self._readers() as session, as_current(session):
            yield session

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Give a write transaction; commit it, then tell what it announced."""
        self._prepare()
        # Threads of this process take turns here: SQLite's own waiting is a series of sleeps.
        with self._turn, write_connection(self.engine) as connection:
            transaction = Transaction(connection)
            yield transaction
            posted = 0
            if transaction.announcements:
                posted = self.post(connection, transaction.announcements)
        self.tell(transaction.announcements, posted)

    def post(self, connection: Connection, announcements: Sequence[Announcement]) -> int:
        """Put messages to hooks into the outbox, with the change itself; return how many."""
        posted = post(
            connection,
            announcements,
            now=self.clock(),
            details_interval=self.settings.details_interval,
        )
        if posted:
            self.outbox_bound.keep(connection, posted)
        return posted

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with what was committed, in order; the returned function ends that.

        It is called in the thread that committed, with no lock held. What it raises is logged.
        """
        with self._turn:
            self._listeners = (*self._listeners, listener)

        def stop() -> None:
            with self._turn:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        return stop

    def listen_to_outbox(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Call `wake` when messages to hooks were committed; the returned function ends that."""

        def listener(_: Sequence[Announcement]) -> None:
            wake()

        with self._turn:
            self._wakers = (*self._wakers, listener)

        def stop() -> None:
            with self._turn:
                self._wakers = tuple(one for one in self._wakers if one is not listener)

        return stop

    def tell(self, announcements: Sequence[Announcement], posted: int = 0) -> None:
        """Tell the listeners of what was committed, with how many messages to hooks."""
        if not announcements:
            return
        for listener in (*self._listeners, *(self._wakers if posted else ())):
            try:
                listener(announcements)
            except Exception:
                _logger.exception("a listener to records failed")
