"""Write many rows in one transaction, each by the rules for its kind.

Order within a batch: tasks are made, parents first; then what changed of each task is folded into
one update; then come notes, logs and runs. A task that is over is not changed again (QE-09).
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Update, bindparam, delete, insert, select, update

from milonga.records._events import Announcement, insert_ignoring
from milonga.records._known import KnownTask, KnownTasks, WrongGuessError
from milonga.records._rows import Durability, Row, RowKind
from milonga.records._state_model import PluginState, keep_state
from milonga.records._step_model import TaskLogLine
from milonga.records._step_rows import clear_steps, insert_step
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
_INSERT = insert(_TASK).returning(_TASK.c.id, _TASK.c.uid)

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


_FORGET = delete(table_of(PluginState)).where(
    PluginState.plugin_id == bindparam("b_plugin_id"), PluginState.key == bindparam("b_key")
)


_NOTE = (
    update(_TASK)
    .where(_TASK.c.id == bindparam("b_id"))
    .values(data=bindparam("data"), version=_TASK.c.version + 1)
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


class Batch:
    """Rows that are written together.

    Parameters
    ----------
    transaction : Transaction
        In which they are written.
    rows : sequence of Row
        In the order in which they were handed over.
    owner : str
        The server that they come from; empty if it is none.
    guess : KnownTasks, optional
        What is known from earlier batches; without it all is looked up.
    """

    def __init__(
        self,
        transaction: Transaction,
        rows: Sequence[Row],
        owner: str,
        guess: KnownTasks | None = None,
    ) -> None:
        self.counts = Counts()
        self._connection: Connection = transaction.connection
        self._announcements = transaction.announcements
        self._rows = rows
        self._owner = owner
        self._guess = guess
        self._is_guessed = False
        self._known: dict[str, KnownTask] = {}
        self._by_number: dict[int, KnownTask] = {}

    def write(self) -> None:
        """Write all rows; each gets its `outcome`.

        Raises
        ------
        WrongGuessError, IntegrityError
            If tasks are not as they were known; then nothing may be committed.
        """
        self._is_guessed = self._remember()
        if not self._is_guessed:
            self._look_up()
        self._open(self._of(RowKind.OPEN))
        for row in self._of(RowKind.CHANGE, RowKind.FINISH):
            self._fold(row)
        self._update()
        self._write_notes(self._of(RowKind.NOTE))
        self._append_logs(self._of(RowKind.LOG))
        self._append_runs(self._of(RowKind.RUN))
        self._write_steps(self._of(RowKind.STEP, RowKind.CLEAR))
        self._end_steps(self._of(RowKind.STEP, RowKind.FINISH))
        self._keep_states(self._of(RowKind.STATE))

    def _of(self, *kinds: RowKind) -> list[Row]:
        return [row for row in self._rows if row.kind in kinds]

    def tasks(self) -> Iterable[KnownTask]:
        """Return what is known of the tasks after the commit."""
        return self._known.values()

    # What is there

    def _remember(self) -> bool:
        """Learn of all tasks from what is known, if that is enough; new ones count as new."""
        guess = self._guess
        if guess is None or not self._connection.dialect.supports_sane_multi_rowcount:
            return False
        opened = {row.uid for row in self._rows if row.kind is RowKind.OPEN}
        for uid in self._uids():
            known = guess.find(uid)
            if known is not None:
                self._learn(known)
            elif uid not in opened:
                self._known.clear()
                self._by_number.clear()
                return False
        return True

    def _uids(self) -> set[str]:
        uids = {row.uid for row in self._rows if row.kind.is_of_task}
        return uids | {row.parent_uid for row in self._rows if row.parent_uid is not None}

    def _look_up(self) -> None:
        uids = self._uids()
        if not uids:
            return
        found = self._connection.execute(_LOOK_UP, {"uids": [*uids]})
        for uid, number, root_id, started_at, finished_at, status in found:
            over = RecordStatus(status or RecordStatus.UNKNOWN) if finished_at else None
            self._learn(KnownTask(number, uid, root_id, started_at, over))

    def _learn(self, known: KnownTask) -> None:
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
            root_id, started_at = columns["root_id"], columns["started_at"]
            known = KnownTask(number, uid, root_id, started_at, None, may_wait=False)
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
            "owner": self._owner or None,
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
            done = self._connection.execute(_update_of(names), group)
            if self._is_guessed and done.rowcount != len(group):
                raise WrongGuessError

    # What is appended

    def _write_notes(self, rows: Iterable[Row]) -> None:
        takers = [(row, self._taker(row)) for row in rows]
        notes = [{**row.values, "b_id": known.id} for row, known in takers if known]
        if notes:
            self._connection.execute(_NOTE, notes)

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

    def _write_steps(self, rows: Iterable[Row]) -> None:
        for row in rows:
            known = self._taker(row)
            if known is None:
                continue
            known.may_wait = row.kind is RowKind.STEP
            if known.may_wait:
                insert_step(self._connection, known.id, row.values)
            else:
                clear_steps(self._connection, [known.id])
            self._announce(known, TaskEvent.STEPS)
            self._announce_node(known, gathered=False)

    def _end_steps(self, rows: Iterable[Row]) -> None:
        """Clear the steps of tasks that are over: nobody is waited for there (QE-03, QE-04)."""
        tasks = (self._known.get(row.uid) for row in rows)
        over = {one.id: one for one in tasks if one and one.may_wait and one.status is not None}
        if not over:
            return
        for number in clear_steps(self._connection, over):
            self._announce(over[number], TaskEvent.STEPS)
            self._announce_node(over[number], gathered=False)

    def _taker(self, row: Row) -> KnownTask | None:
        """Return the task that a log line or a run belongs to, which may be over."""
        known = self._known.get(row.uid)
        if known is None:
            row.outcome = Durability.REFUSED
            self.counts.unknown += 1
        return known

    # What devices keep

    def _keep_states(self, rows: Iterable[Row]) -> None:
        last = {(row.values["plugin_id"], row.values["key"]): row.values["value"] for row in rows}
        for (plugin_id, key), value in last.items():
            if value is None:
                place = {"b_plugin_id": plugin_id, "b_key": key}
                self._connection.execute(_FORGET, place)
            else:
                keep_state(self._connection, plugin_id, key, value)

    # What is told

    def _announce(self, known: KnownTask, event: TaskEvent, *, gathered: bool = False) -> None:
        status = known.status or RecordStatus.PENDING
        news = Announcement(known.id, known.uid, event, status, gathered)
        single = event is TaskEvent.STEPS and not gathered
        if single or not self._announcements or self._announcements[-1] != news:
            self._announcements.append(news)

    def _announce_node(self, known: KnownTask, *, gathered: bool = True) -> None:
        """Tell whoever follows the command that a node of its tree came or went (IN-08)."""
        if known.root_id is not None:
            number = known.root_id
            root = self._by_number.get(number)
            if root is None and self._guess is not None:
                root = self._guess.find_number(number)
            root = root or self._look_at(number)
            self._announce(root, TaskEvent.STEPS, gathered=gathered)

    def _look_at(self, number: int) -> KnownTask:
        """Learn of a command that no row of the batch is about."""
        task = ProcessingTask
        columns = select(task.uid, task.started_at, task.finished_at, task.task_status)
        uid, started_at, finished_at, status = self._connection.execute(
            columns.where(task.id == number)
        ).one()
        over = RecordStatus(status or RecordStatus.UNKNOWN) if finished_at else None
        self._by_number[number] = KnownTask(number, uid, None, started_at, over)
        return self._by_number[number]
