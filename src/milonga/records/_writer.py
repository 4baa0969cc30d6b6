"""The one thread that writes records.

While it commits, more rows come; they go together into the next transaction. That is all there is
to group commit: nobody waits in order to be grouped, and the more there is to do, the less it
costs to be durable.

A store that does not answer fails nobody: rows stay in memory, within a bound, and whoever waits
for one is told that it is not durable yet. Progress and logs give way first.
"""

import logging
import math
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace

from sqlalchemy import Connection, update
from sqlalchemy.exc import IntegrityError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from milonga.records._batch import Batch, Counts
from milonga.records._known import KnownTasks, WrongGuessError
from milonga.records._owner_model import RecordOwner
from milonga.records._recovery import take_over
from milonga.records._rows import Durability, Row, RowKind
from milonga.records._store import RecordStore
from milonga.records._tables import table_of

__all__ = ["RecorderSettings", "RecorderStatistics", "Writer", "settle"]

_logger = logging.getLogger(__name__)

_AWAY = (
    OperationalError,
    InterfaceError,
    InternalError,  # PostgreSQL: the server can only be read now
    PoolTimeout,
    sqlite3.OperationalError,  # from the settings of a new connection
    OSError,
)
"""Errors that say that the store cannot be used now, not that a row is wrong."""


@dataclass(frozen=True, kw_only=True)
class RecorderSettings:
    """The bounds of a recorder.

    Parameters
    ----------
    max_buffered : int
        Rows that may wait; beyond it rows are lost, and counted.
    max_bytes : int
        About how much memory waiting rows may take; beyond it rows are lost as well.
    max_passing : int
        Rows that may wait when one comes that is only progress or a log line; beyond it such rows
        are dropped, so that what opens and ends tasks finds room.
    max_batch : int
        Rows in one transaction.
    heartbeat : float
        Seconds between the heartbeats of the server.
    retry_first, retry_longest : float
        Seconds before a store that did not answer is tried again: at first, and at most.
    hangs_after : float
        Seconds after which a transaction that goes on counts as a store that does not answer.
    linger : float
        Seconds that rows nobody waits for may wait for others to be written with.
    keep_open : bool
        Whether what an earlier self of the server left open stays so, for `find_unfinished`.
    signs : bool
        Whether the server signs its messages to hooks.
    """

    max_buffered: int = 20_000
    max_bytes: int = 128 * 1024 * 1024
    max_passing: int = 10_000
    max_batch: int = 500
    heartbeat: float = 5.0
    retry_first: float = 0.05
    retry_longest: float = 5.0
    hangs_after: float = 10.0
    linger: float = 0.0
    keep_open: bool = False
    signs: bool = False


@dataclass(frozen=True, slots=True)
class RecorderStatistics:
    """Counters of a recorder.

    Parameters
    ----------
    waiting : int
        Rows that wait now.
    written, commits : int
        Rows that were committed, and in how many transactions.
    buffered : int
        Rows whose caller was told that they are not durable yet.
    dropped, lost : int
        Progress and logs that were dropped, and other rows, for want of room or as refused.
    refused, unknown, doubled, orphans : int
        Changes of tasks that were over, or that are not there; tasks that were there before; and
        nodes whose parent is not there.
    outages : int
        How often the store began not to answer.
    """

    waiting: int = 0
    written: int = 0
    commits: int = 0
    buffered: int = 0
    dropped: int = 0
    lost: int = 0
    refused: int = 0
    unknown: int = 0
    doubled: int = 0
    orphans: int = 0
    outages: int = 0


def settle(receipt: Future[Durability] | None, outcome: Durability) -> None:
    """Resolve a receipt, unless somebody has done so before."""
    if receipt is None or receipt.done():
        return
    try:
        receipt.set_result(outcome)
    except InvalidStateError:
        return  # the caller's patience was over in this very moment


def _contents(rows: Iterable[Row]) -> int:
    """Return how many rows are to be written, and do not only ask whether others are."""
    return sum(row.kind is not RowKind.MARK for row in rows)


class Writer:
    """Writes rows in the order in which they come; any thread may call any method.

    Parameters
    ----------
    store : RecordStore
        Where to.
    owner : str
        Name of the server that writes; empty if it is none.
    settings : RecorderSettings
        The bounds.
    """

    def __init__(self, store: RecordStore, owner: str, settings: RecorderSettings) -> None:
        self._store = store
        self._owner = owner
        self._settings = settings
        self._changed = threading.Condition(threading.Lock())
        self._rows: deque[Row] = deque()
        self._in_hand = 0
        self._batch: list[Row] = []
        self._batch_due = math.inf
        self._bytes = 0
        self._urgent = False
        self._closing = False
        self._abandoned = False
        self._heartbeat_due = 0.0
        self._away = False
        self._counts = RecorderStatistics()
        self._signed_in = False
        self._known = KnownTasks()
        self._thread = threading.Thread(target=self._run, name="milonga-records", daemon=True)
        self._thread.start()

    @property
    def is_away(self) -> bool:
        """Whether the store did not answer when it was tried last, or does not answer now."""
        return self._away or self._hangs

    @property
    def _hangs(self) -> bool:
        return time.monotonic() > self._batch_due

    def statistics(self) -> RecorderStatistics:
        """Return the counters."""
        with self._changed:
            return replace(self._counts, waiting=len(self._rows) + self._in_hand)

    def put(self, row: Row) -> None:
        """Take a row; return at once."""
        if self._hangs:
            self._note_hang()
        with self._changed:
            outcome = self._admit(row)
        if outcome is not None:
            settle(row.receipt, outcome)

    def _note_hang(self) -> None:
        """Do what the thread would, if it did not wait for the store itself."""
        with self._changed:
            batch, hangs = [*self._batch], self._hangs and not self._away
        if hangs:
            seconds = self._settings.hangs_after
            self._mark_away(batch, TimeoutError(f"a transaction takes more than {seconds:.4g} s"))

    def _admit(self, row: Row) -> Durability | None:
        """Take a row if there is room; return what its caller can be told at once."""
        if self._abandoned:  # nobody would settle its receipt
            self._count(lost=int(row.kind is not RowKind.MARK))
            return Durability.LOST
        waiting = len(self._rows) + self._in_hand
        if row.kind is not RowKind.MARK:
            if self._closing or self._is_full(waiting, row):
                self._count(lost=1)
                return Durability.LOST
            if waiting >= self._settings.max_passing and not row.kind.is_essential:
                self._count(dropped=1)
                return Durability.LOST
        row.late = self._away
        self._bytes += row.size
        self._rows.append(row)
        hurries = row.urgent and not self._urgent
        self._urgent = self._urgent or row.urgent
        if len(self._rows) == 1 or hurries:
            self._changed.notify_all()
        if not self._away or row.kind is RowKind.MARK:
            return None
        self._count(buffered=1)
        return Durability.BUFFERED

    def _is_full(self, waiting: int, row: Row) -> bool:
        bounds = self._settings
        return waiting >= bounds.max_buffered or self._bytes + row.size > bounds.max_bytes

    def close(self, timeout: float) -> bool:
        """Write what waits, and end the thread; return whether all was written.

        Parameters
        ----------
        timeout : float
            Seconds to wait for a store that does not answer.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            left, self._rows = [*self._rows], deque()
            self._abandoned = True
            self._changed.notify_all()
        self._lose(left)
        return not _contents(left) and not self._thread.is_alive()

    def _lose(self, rows: Sequence[Row]) -> None:
        lost = _contents(rows)
        with self._changed:
            self._bytes -= sum(row.size for row in rows)
            self._count(lost=lost)
        for row in rows:
            settle(row.receipt, Durability.LOST)
        if lost:
            _logger.error("%d rows lost: the store did not answer until the end", lost)

    # The thread

    def _run(self) -> None:
        delay = self._settings.retry_first
        while (batch := self._take()) is not None:
            if self._try(batch):
                delay = self._settings.retry_first
                continue
            self._put_back([row for row in batch if not row.done])
            self._pause(delay)
            delay = min(delay * 2, self._settings.retry_longest)

    def _take(self) -> list[Row] | None:
        """Wait for rows and return some; an empty list is a heartbeat; None is the end."""
        with self._changed:
            if self._signed_in and not self._rows and not self._closing:
                self._changed.wait(self._settings.heartbeat)
            if self._rows and self._settings.linger:
                self._changed.wait_for(lambda: self._hurries, self._settings.linger)
            self._urgent = False
            if self._abandoned or (self._closing and not self._rows):
                return None
            size = min(len(self._rows), self._settings.max_batch)
            batch = [self._rows.popleft() for _ in range(size)]
            self._in_hand = size
            return batch

    @property
    def _hurries(self) -> bool:
        """Whether somebody waits for what is to be written; with the lock held."""
        return self._urgent or self._closing or len(self._rows) >= self._settings.max_batch

    def _put_back(self, batch: Sequence[Row]) -> None:
        with self._changed:
            self._in_hand = 0
            if not self._abandoned:
                self._rows.extendleft(reversed(batch))
                return
        self._lose(batch)

    def _pause(self, delay: float) -> None:
        """Wait before the store is tried again; whoever closes wants it to be tried soon."""
        with self._changed:
            if self._closing:
                self._changed.wait_for(lambda: self._abandoned, self._settings.retry_first)
            else:
                self._changed.wait_for(lambda: self._closing, delay)

    def _try(self, batch: Sequence[Row]) -> bool:
        """Write a batch; return False if the store does not answer."""
        with self._changed:
            self._batch_due = time.monotonic() + self._settings.hangs_after
            self._batch = [*batch]
        try:
            self._write_or_split(batch)
        except Exception as error:  # noqa: BLE001 - the thread must go on, whatever it is
            self._mark_away(batch, error)
            return False
        finally:
            with self._changed:
                self._batch_due, self._batch = math.inf, []
        with self._changed:
            self._in_hand = 0
        if self._away:
            self._away = False
            _logger.warning("the record store answers again")
        return True

    def _write_or_split(self, batch: Sequence[Row]) -> None:
        """Write a batch; if the store refuses it, find the row that it refuses."""
        try:
            self._write(batch)
        except Exception as error:
            if isinstance(error, _AWAY) or not batch:
                raise
            if len(batch) == 1:
                self._give_up(batch, error)
                return
            half = len(batch) // 2
            self._write_or_split(batch[:half])
            self._write_or_split(batch[half:])

    def _write(self, batch: Sequence[Row]) -> None:
        if self._owner and not self._signed_in:
            how = {"keep_open": self._settings.keep_open, "signs": self._settings.signs}
            take_over(self._store, self._owner, **how)
        self._signed_in = True
        if not batch and not self._is_due:
            return
        try:
            counts = self._transact(batch, self._known)
        except (WrongGuessError, IntegrityError):
            counts = self._transact(batch, None)
        self._committed(batch, counts)

    def _transact(self, batch: Sequence[Row], guess: KnownTasks | None) -> Counts:
        for row in batch:
            row.outcome = Durability.DURABLE
        try:
            with self._store.writing() as transaction:
                work = Batch(transaction, batch, self._owner, guess)
                work.write()
                self._show_life(transaction.connection)
        except BaseException:
            self._known.forget()
            raise
        self._known.learn(work.tasks())
        return work.counts

    @property
    def _is_due(self) -> bool:
        """Whether the server has to show that it lives."""
        return bool(self._owner) and time.monotonic() >= self._heartbeat_due

    def _show_life(self, connection: Connection) -> None:
        if not self._is_due:
            return
        own = update(table_of(RecordOwner)).where(RecordOwner.name == self._owner)
        connection.execute(own.values(heartbeat_at=self._store.clock()))
        self._heartbeat_due = time.monotonic() + self._settings.heartbeat * 0.9

    def _committed(self, batch: Sequence[Row], counts: Counts) -> None:
        with self._changed:
            self._bytes -= sum(row.size for row in batch)
            self._count(
                written=sum(
                    row.outcome is Durability.DURABLE and row.kind is not RowKind.MARK
                    for row in batch
                ),
                commits=1,
                refused=counts.refused,
                unknown=counts.unknown,
                doubled=counts.doubled,
                orphans=counts.orphans,
            )
        for row in batch:
            row.done = True
            settle(row.receipt, row.outcome)
            if row.outcome is Durability.REFUSED and row.kind is RowKind.FINISH:
                _logger.warning(
                    "%s: outcome %s came after the task was over, and is not written",
                    row.uid,
                    row.values.get("task_status"),
                )

    def _give_up(self, batch: Sequence[Row], error: Exception) -> None:
        for row in batch:
            row.done = True
            _logger.error("%s: the store refuses a row (%s): %s", row.uid, row.kind.value, error)
            settle(row.receipt, Durability.LOST)
        with self._changed:
            self._bytes -= sum(row.size for row in batch)
            self._count(lost=len(batch))

    def _mark_away(self, batch: Sequence[Row], error: Exception) -> None:
        with self._changed:
            began, self._away = not self._away, True
            affected = [*batch, *self._rows] if began else [*batch]
            fresh = [row for row in affected if not row.late and row.kind is not RowKind.MARK]
            for row in fresh:
                row.late = True
            self._count(outages=int(began), buffered=len(fresh))
        if began:
            _logger.error("the record store does not answer; rows wait in memory: %s", error)
        for row in fresh:
            settle(row.receipt, Durability.BUFFERED)

    def _count(self, **more: int) -> None:
        """Add to the counters; with the lock held."""
        counts = self._counts
        self._counts = replace(
            counts, **{name: getattr(counts, name) + number for name, number in more.items()}
        )
