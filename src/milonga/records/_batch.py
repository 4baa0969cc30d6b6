"""Write many rows in one transaction, each by the rules for its kind.

Order within a batch: tasks are made, parents first; then what changed of each task is folded into
one update; then come logs and runs. A task that is over is not changed again (QE-09).
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Update, bindparam, insert, select, update

from milonga.records._events import Announcement, insert_ignoring
from milonga.records._rows import Durability, Row, RowKind
from milonga.records._step_model import TaskLogLine
from milonga.records._store import Transaction
from milonga.records._subscription_model import TaskEvent
from milonga.records._tables import SCHEMA_VERSION, table_of
from milonga.records._task_model import ProcessingTask, TaskRun
from milonga.records._words import Phase, RecordStatus

__all__ = ["Batch", "Counts"]

_TASK = table_of(ProcessingTask)
_NEW = {
    "multi_step": False,
    "current_step": -1,
    "progress_start": 0,
    "progress_target": 100,
    "progress_unit": "%",
    "phase": Phase.QUEUED.value,
    "message": "",
    "error": "",
    "schema_version": SCHEMA_VERSION,
    "version": 1,
}
_INSERT = insert(ProcessingTask).returning(ProcessingTask.id, ProcessingTask.uid)

# Statements are made once: to build one costs as much as to run it.
_LOOK_UP = (
    select(
        *(_TASK.c.uid, _TASK.c.id, _TASK.c.root_id, _TASK.c.started_at, _TASK.c.finished_at),
        _TASK.c.task_status,
    )
    .where(_TASK.c.uid.in_(bindparam("uids", expanding=True)))
    # Locks in one order, so that two servers on one PostgreSQL do not wait for each other.
    .order_by(_TASK.c.id)
    .with_for_update()
)


@functools.lru_cache(maxsize=256)
def _update_of(names: frozenset[str]) -> Update:
    """Return the UPDATE that sets some columns of a task that is not over."""
    return (
        update(_TASK)
        .where(_TASK.c.id == bindparam("b_id"), _TASK.c.finished_at.is_(None))
        .values({name: bindparam(name) for name in sorted(names)})
        .values(version=_TASK.c.version + 1)
    )


@dataclass
class Counts:
    """What became of the rows of a batch."""

    refused: int = 0
    unknown: int = 0
    orphans: int = 0
    doubled: int = 0


@dataclass(slots=True)
class _Known:
    """What a batch knows of a task that is in the store."""

    id: int
    uid: str
    root_id: int | None
    started_at: datetime
    status: RecordStatus | None
    changes: dict[str, Any] = field(default_factory=dict)


class Batch:
    """Rows that are written together.

    Parameters
    ----------
    transaction : Transaction
        In which they are written.
    rows : sequence of Row
        In the order in which they were handed over.
    owner : str
        The server that they come from.
    """

    def __init__(self, transaction: Transaction, rows: Sequence[Row], owner: str) -> None:
        self.counts = Counts()
        self._connection: Connection = transaction.connection
        self._announcements = transaction.announcements
        self._rows = rows
        self._owner = owner
        self._known: dict[str, _Known] = {}
        self._by_number: dict[int, _Known] = {}

    def write(self) -> None:
        """Write all rows; each gets its `outcome`."""
        self._look_up()
        self._open([row for row in self._rows if row.kind is RowKind.OPEN])
        for row in self._rows:
            if row.kind in {RowKind.CHANGE, RowKind.FINISH}:
                self._fold(row)
        self._update()
        self._append_logs([row for row in self._rows if row.kind is RowKind.LOG])
        self._append_runs([row for row in self._rows if row.kind is RowKind.RUN])

    # What is there

    def _look_up(self) -> None:
        uids = {row.uid for row in self._rows if row.kind is not RowKind.MARK}
        uids |= {row.parent_uid for row in self._rows if row.parent_uid is not None}
        if not uids:
            return
        found = self._connection.execute(_LOOK_UP, {"uids": [*uids]})
        for uid, number, root_id, started_at, finished_at, status in found:
            over = RecordStatus(status or RecordStatus.UNKNOWN) if finished_at else None
            self._learn(_Known(number, uid, root_id, started_at, over))

    def _learn(self, known: _Known) -> None:
        self._known[known.uid] = known
        self._by_number[known.id] = known

    # Tasks

    def _open(self, rows: Iterable[Row]) -> None:
        waiting: dict[str, Row] = {}
        for row in rows:
            if row.uid in self._known or row.uid in waiting:
                self.counts.doubled += 1
            else:
                waiting[row.uid] = row
        while waiting:
            ready = [row for row in waiting.values() if self._parent_is_known(row)]
            if not ready:  # the parents of all that are left are not there, and will not come
                ready = list(waiting.values())
                self.counts.orphans += len(ready)
            self._insert(ready)
            for row in ready:
                del waiting[row.uid]

    def _parent_is_known(self, row: Row) -> bool:
        return row.parent_uid is None or row.parent_uid in self._known

    def _insert(self, rows: Sequence[Row]) -> None:
        inserted = {row.uid: self._columns(row) for row in rows}
        for number, uid in self._connection.execute(_INSERT, list(inserted.values())):
            columns = inserted[uid]
            known = _Known(number, uid, columns["root_id"], columns["started_at"], None)
            self._learn(known)
            self._announce_node(known)

    def _columns(self, row: Row) -> dict[str, Any]:
        parent = self._known.get(row.parent_uid) if row.parent_uid else None
        return {
            **_NEW,
            **row.values,
            "parent_id": parent.id if parent else None,
            "root_id": (parent.root_id or parent.id) if parent else None,
            "started_at": row.at,
            "queued_at": row.at,
            "heartbeat_at": row.at,
            "owner": self._owner,
            "recorded_late": row.late,
        }

    def _fold(self, row: Row) -> None:
        known = self._known.get(row.uid)
        if known is None or known.status is not None:
            row.outcome = Durability.REFUSED
            self.counts.unknown += known is None
            self.counts.refused += known is not None
            return
        known.changes |= row.values
        known.changes["heartbeat_at"] = row.at
        if row.late:
            known.changes["recorded_late"] = True
        if row.kind is RowKind.FINISH:
            # The clock of a machine can be set back; a task does not end before it began.
            known.changes["finished_at"] = max(row.at, known.started_at)
            known.status = RecordStatus(row.values["task_status"])
            self._announce(known, TaskEvent.STATUS)
            self._announce_node(known)
        else:
            self._announce(known, TaskEvent.DETAILS)

    def _update(self) -> None:
        groups: dict[frozenset[str], list[dict[str, Any]]] = {}
        for known in self._known.values():
            if known.changes:
                changed = known.changes | {"b_id": known.id}
                groups.setdefault(frozenset(known.changes), []).append(changed)
        for names, group in groups.items():
            self._connection.execute(_update_of(names), group)

    # What is appended

    def _append_logs(self, rows: Iterable[Row]) -> None:
        lines = []
        for row in rows:
            known = self._taker(row)
            if known is not None:
                lines.append({**row.values, "task_id": known.id, "created_at": row.at})
                self._announce(known, TaskEvent.DETAILS)
        if lines:
            self._connection.execute(insert(TaskLogLine), lines)

    def _append_runs(self, rows: Iterable[Row]) -> None:
        takers = [(row, self._taker(row)) for row in rows]
        runs = [{**row.values, "task_id": known.id} for row, known in takers if known]
        if runs:
            self._connection.execute(insert_ignoring(self._connection, TaskRun), runs)

    def _taker(self, row: Row) -> _Known | None:
        """Return the task that a log line or a run belongs to, which may be over."""
        known = self._known.get(row.uid)
        if known is None:
            row.outcome = Durability.REFUSED
            self.counts.unknown += 1
        return known

    # What is told

    def _announce(self, known: _Known, event: TaskEvent) -> None:
        status = known.status or RecordStatus.PENDING
        news = Announcement(known.id, known.uid, event, status)
        if not self._announcements or self._announcements[-1] != news:
            self._announcements.append(news)

    def _announce_node(self, known: _Known) -> None:
        """Tell whoever follows the command that a node of its tree came or went (IN-08)."""
        if known.root_id is not None:
            root = self._by_number.get(known.root_id) or self._look_at(known.root_id)
            self._announce(root, TaskEvent.STEPS)

    def _look_at(self, number: int) -> _Known:
        """Learn of a command that no row of the batch is about."""
        task = ProcessingTask
        columns = select(task.uid, task.started_at, task.finished_at, task.task_status)
        uid, started_at, finished_at, status = self._connection.execute(
            columns.where(task.id == number)
        ).one()
        over = RecordStatus(status or RecordStatus.UNKNOWN) if finished_at else None
        self._by_number[number] = _Known(number, uid, None, started_at, over)
        return self._by_number[number]
