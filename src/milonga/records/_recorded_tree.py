"""The tree of a command as its records tell it, through all devices that have records here."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from milonga.errors import RecordNotFound
from milonga.records._reports import REMARKS
from milonga.records._store import RecordStore
from milonga.records._task_model import ProcessingTask, TaskRun

__all__ = ["MAX_DEVICES", "recorded_tree"]

MAX_DEVICES = 16
"""Devices below one another through which a tree is followed."""

_Task = ProcessingTask


def recorded_tree(store: RecordStore, task: int | str) -> dict[str, Any]:
    """Return the tree of a command, or of a node.

    A node that commanded another device has below it the tree of that command, if the store has
    it too.

    Parameters
    ----------
    store : RecordStore
        The store.
    task : int or str
        Number or unique name of the task.

    Returns
    -------
    dict
        With the keys of `milonga.tasks.BaseTask.snapshot`; and `uid`, `device` of a command,
        `run_uids` of a plan, and `stalls`, the times of a leaf of which nothing was heard.

    Raises
    ------
    RecordNotFound
        If there is no such task.
    """
    with store.reading() as session:
        tree = _tree(session, task, ())
    if tree is None:
        raise RecordNotFound(f"tree: found no record of {task!r}")
    return tree


def _tree(session: Session, task: int | str, above: tuple[str, ...]) -> dict[str, Any] | None:
    by = _Task.id if isinstance(task, int) else _Task.uid
    top = session.scalar(select(_Task).where(by == task))
    if top is None:
        return None
    root = top.root_id or top.id
    rows = session.scalars(
        select(_Task)
        .where(or_(_Task.id == root, _Task.root_id == root))
        .order_by(_Task.position, _Task.id)
    ).all()
    runs = _runs(session, root)
    below: dict[int | None, list[ProcessingTask]] = defaultdict(list)
    for row in rows:
        below[row.parent_id].append(row)
    return _node(session, top, below, runs, (*above, top.uid))


def _runs(session: Session, root: int) -> dict[int, list[str]]:
    query = (
        select(TaskRun.task_id, TaskRun.run_uid)
        .join(_Task, TaskRun.task_id == _Task.id)
        .where(or_(_Task.id == root, _Task.root_id == root))
    )
    found: dict[int, list[str]] = defaultdict(list)
    for number, run_uid in session.execute(query):
        found[number].append(run_uid)
    return found


def _node(
    session: Session,
    row: ProcessingTask,
    below: dict[int | None, list[ProcessingTask]],
    runs: dict[int, list[str]],
    above: tuple[str, ...],
) -> dict[str, Any]:
    children = [_node(session, child, below, runs, above) for child in below[row.id]]
    # no command is below itself, whatever records of somebody else may say
    if row.command_id and row.command_id not in above and len(above) <= MAX_DEVICES:
        other = _tree(session, row.command_id, above)
        children += other["children"] if other is not None else []
    words = row.situation.words
    is_command = row.parent_id is None
    node: dict[str, Any] = {
        "uid": row.uid,
        "name": row.task_name,
        "type": row.kind,
        "target": None if is_command else row.device,
        "command": row.command,
        "command_id": row.uid if is_command else row.command_id,
        "argument": row.parameters or None,
        "status": words.task_status.name,
        "result_code": row.result_code or words.result_code.name,
        "message": row.message,
        "cause": row.cause,
        "progress": round(row.progress_percent or 0),
        "started": _moment(row.running_at),
        "finished": _moment(row.finished_at),
    }
    if is_command:
        node["device"] = row.device
    node |= _remarks(row)
    if runs.get(row.id):
        node["run_uids"] = runs[row.id]
    return node | {"children": children}


def _remarks(row: ProcessingTask) -> dict[str, Any]:
    data = row.data if isinstance(row.data, Mapping) else {}
    remarks = {key: data[key] for key in REMARKS if key in data}
    stalls = remarks.get("stalls")
    if stalls and row.finished_at is None and "until" not in stalls[-1]:
        remarks["stalled"] = True
    return remarks


def _moment(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None
