"""Write records to a text stream, as JSON lines or CSV."""

import csv
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from sqlalchemy import select
from sqlalchemy.orm import Session

from milonga.records._query import TaskFilter, walk
from milonga.records._step_model import TaskLogLine
from milonga.records._store import RecordStore
from milonga.records._task_model import ProcessingTask
from milonga.records._tracked import plain
from milonga.records._types import dump_json
from milonga.records._view import summary_view

__all__ = ["CSV_COLUMNS", "export_csv", "export_jsonl"]

CSV_COLUMNS = (
    *("uid", "parent", "root", "name", "kind", "device", "command", "commandId", "status", "cause"),
    *("resultCode", "healthState", "message", "issuer", "origin", "attempt", "startedAt"),
    *("queuedAt", "runningAt", "finishedAt", "deadlineAt", "recordedLate", "parameters", "data"),
)


def export_jsonl(store: RecordStore, stream: TextIO, wanted: TaskFilter | None = None) -> int:
    """Write one JSON object for each record, with its log, oldest first.

    Parameters
    ----------
    store : RecordStore
        The store.
    stream : text stream
        Where to.
    wanted : TaskFilter, optional
        Which records; default: all, the nodes of trees as well.

    Returns
    -------
    int
        Records that were written.
    """
    with store.reading() as session:
        count = 0
        for row in _rows(session, wanted, _with_log(session)):
            stream.write(dump_json(row) + "\n")
            count += 1
    return count


def export_csv(store: RecordStore, stream: TextIO, wanted: TaskFilter | None = None) -> int:
    """Write a table of records with the columns `CSV_COLUMNS`; see `export_jsonl`."""
    writer = csv.DictWriter(stream, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    with store.reading() as session:
        count = 0
        for row in _rows(session, wanted, lambda _: {}):
            writer.writerow(row | {"data": dump_json(row["data"])})
            count += 1
    return count


def _rows(
    session: Session,
    wanted: TaskFilter | None,
    more: Callable[[ProcessingTask], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    for task in walk(session, wanted or TaskFilter(roots_only=False)):
        yield {
            **summary_view(task),
            "parent": _uid(session, task.parent_id),
            "root": _uid(session, task.root_id),
            "parameters": task.parameters,
            "data": plain(task.data),
            **more(task),
        }
        session.expunge(task)


def _uid(session: Session, number: int | None) -> str | None:
    if number is None:
        return None
    return session.scalar(select(ProcessingTask.uid).where(ProcessingTask.id == number))


def _with_log(session: Session) -> Callable[[ProcessingTask], dict[str, Any]]:
    def more(task: ProcessingTask) -> dict[str, Any]:
        lines = select(TaskLogLine.text).where(TaskLogLine.task_id == task.id)
        return {
            "error": task.error,
            "log": "\n".join(session.scalars(lines.order_by(TaskLogLine.id))),
        }

    return more
