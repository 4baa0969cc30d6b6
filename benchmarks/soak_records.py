"""Whether the records of a soak say what its clients have seen, and nothing else."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from milonga.control_model import ResultCode, TaskStatus
from milonga.records import ProcessingTask, RecordStore, TaskFilter, count_tasks, walk

__all__ = ["Told", "await_ends", "find_inconsistent", "finished_in_table"]

SETTLING = 30.0
"""Seconds that commands which nobody has waited for have to end, such as those below others."""


_REFUSED = "Queue is being aborted"
"""Of a call that came during an Abort: SKA devices list it, although its caller got no id."""


@dataclass(frozen=True)
class Told:
    """How a command ended, as somebody has seen it on the wire."""

    status: TaskStatus
    code: ResultCode
    message: str


def finished_in_table(texts: Iterable[str]) -> dict[str, Told]:
    """Return how commands that were accepted have ended, by what ``lrcFinished`` has."""
    ends = {entry["uid"]: _told(entry) for entry in map(json.loads, texts)}
    return {uid: told for uid, told in ends.items() if told.message != _REFUSED}


def _told(entry: Mapping[str, Any]) -> Told:
    status, (code, message) = entry["status"], entry["result"]
    known = TaskStatus[status] if isinstance(status, str) else TaskStatus(status)
    return Told(known, ResultCode(code), str(message))


@dataclass(frozen=True)
class _Row:
    """What is compared of a task's record."""

    id: int
    uid: str
    parent_id: int | None
    root_id: int | None
    finished_at: datetime | None
    told: Told

    @classmethod
    def of(cls, task: ProcessingTask) -> Self:
        words = task.situation.words
        code = ResultCode.__members__.get(task.result_code or "", ResultCode.UNKNOWN)
        return cls(
            task.id,
            task.uid,
            task.parent_id,
            task.root_id,
            task.finished_at,
            Told(words.task_status, code, task.message),
        )


def await_ends(store: RecordStore, seconds: float = SETTLING) -> None:
    """Wait until all that is recorded has ended, but no longer than so many seconds."""
    open_tasks = TaskFilter(status="PENDING", roots_only=False)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with store.reading() as session:
            if not count_tasks(session, open_tasks):
                return
        time.sleep(0.2)


def find_inconsistent(store: RecordStore, seen: Iterable[tuple[str, Told | None]]) -> list[str]:
    """Return what is wrong with the records, a line each.

    Parameters
    ----------
    store : RecordStore
        The records, of commands that have ended.
    seen : iterable of (str, Told or None)
        Ids of commands that were accepted, and how each has ended, as far as somebody has seen it;
        an id may come more than once.
    """
    with store.reading() as session:
        rows = {task.id: _Row.of(task) for task in walk(session, TaskFilter(roots_only=False))}
    return [*_wrong_in_trees(rows), *_wrong_by_wire(rows, seen)]


def _wrong_in_trees(rows: Mapping[int, _Row]) -> Iterator[str]:
    for row in rows.values():
        if row.finished_at is None:
            yield f"{row.uid}: is open"
            continue
        is_node = "/" in row.uid
        above = [number for number in (row.parent_id, row.root_id) if number is not None]
        if is_node != bool(above) or not all(number in rows for number in above):
            yield f"{row.uid}: what is above it is not there"
            continue
        ends = [rows[number].finished_at for number in above]
        if any(end is not None and end < row.finished_at for end in ends):
            yield f"{row.uid}: ended after what is above it"


def _wrong_by_wire(
    rows: Mapping[int, _Row], seen: Iterable[tuple[str, Told | None]]
) -> Iterator[str]:
    roots: dict[str, list[_Row]] = {}
    for row in rows.values():
        if row.parent_id is None:
            roots.setdefault(row.uid, []).append(row)
    for uid, told in dict.fromkeys(seen):
        found = roots.get(uid, [])
        if len(found) != 1:
            yield f"{uid}: has {len(found)} records, expected one"
        elif told is not None and _plain(found[0].told) != _plain(told):
            yield f"{uid}: recorded {found[0].told}, seen {told}"


def _plain(told: Told) -> tuple[TaskStatus, ResultCode, str]:
    """Write a message as Tango carries it."""
    text = told.message.encode("latin-1", "backslashreplace").decode("latin-1")
    return told.status, told.code, text
