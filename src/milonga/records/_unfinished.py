"""What a device has to know when it is back: what it had finished, and what not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select

from milonga.control_model import ResultCode
from milonga.records._store import RecordStore
from milonga.records._task_model import ProcessingTask
from milonga.records._words import Phase, Situation

__all__ = [
    "FinishedCommand",
    "RecordedNode",
    "UnfinishedCommand",
    "find_finished",
    "find_unfinished",
]


@dataclass(frozen=True, slots=True)
class RecordedNode:
    """What is written of one node of a command's tree.

    Parameters
    ----------
    uid : str
        Its unique name.
    situation : Situation
        How it stood when it was written last.
    result_code : ResultCode
        What it reported, if it had ended.
    message : str
        The text of its result.
    command_id : str or None
        The id that the device it commands gave.
    has_begun : bool
        Whether it had begun.
    """

    uid: str
    situation: Situation
    result_code: ResultCode
    message: str
    command_id: str | None
    has_begun: bool


@dataclass(frozen=True, slots=True)
class UnfinishedCommand:
    """A command of a device whose end is not written.

    Parameters
    ----------
    uid : str
        The command's id.
    command : str
        Its name.
    argument : str or None
        Its argument.
    submitted_at : datetime
        When it was accepted.
    has_begun : bool
        Whether it had begun to run, or waited in the queue.
    data : JSON value
        What was kept with its record.
    nodes : mapping
        What is written of the nodes of its tree, without the root, by unique name.
    """

    uid: str
    command: str
    argument: str | None
    submitted_at: datetime
    has_begun: bool
    data: Any
    nodes: Mapping[str, RecordedNode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinishedCommand:
    """A command of a device that has ended.

    Parameters
    ----------
    uid, command : str
        Its id and its name.
    situation : Situation
        How it ended.
    result_code, message : ResultCode, str
        Its result.
    submitted_at, finished_at : datetime
        When it was accepted, and when it ended.
    started_at : datetime or None
        When it began to run, if it did.
    """

    uid: str
    command: str
    situation: Situation
    result_code: ResultCode
    message: str
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime


def find_finished(store: RecordStore, device: str, limit: int) -> list[FinishedCommand]:
    """Return the last commands that a device has finished, oldest first.

    Parameters
    ----------
    store : RecordStore
        The store.
    device : str
        The device's name.
    limit : int
        How many.
    """
    task = ProcessingTask
    with store.reading() as session:
        last = session.scalars(
            select(task)
            .where(task.finished_at.is_not(None), task.parent_id.is_(None), task.device == device)
            .order_by(task.started_at.desc(), task.id.desc())
            .limit(limit)
        ).all()
        found = [
            FinishedCommand(
                uid=row.uid,
                command=row.command or row.task_name,
                situation=row.situation,
                result_code=_code(row),
                message=row.message,
                submitted_at=row.queued_at or row.started_at,
                started_at=row.running_at,
                finished_at=row.finished_at,
            )
            for row in last
            if row.finished_at is not None
        ]
    return sorted(found, key=lambda command: command.finished_at)


def find_unfinished(store: RecordStore, device: str) -> list[UnfinishedCommand]:
    """Return the commands that a device has not finished, in the order of their submission.

    To be called before the device takes new ones.

    Parameters
    ----------
    store : RecordStore
        The store.
    device : str
        The device's name.
    """
    task = ProcessingTask
    with store.reading() as session:
        roots = session.scalars(
            select(task)
            .where(task.finished_at.is_(None), task.parent_id.is_(None), task.device == device)
            .order_by(task.id)
        ).all()
        return [
            UnfinishedCommand(
                uid=root.uid,
                command=root.command or root.task_name,
                argument=root.parameters or None,
                submitted_at=root.queued_at or root.started_at,
                has_begun=root.phase != Phase.QUEUED,
                data=root.data,
                nodes={
                    node.uid: _recorded(node)
                    for node in session.scalars(
                        select(task).where(task.root_id == root.id, task.id != root.id)
                    )
                },
            )
            for root in roots
        ]


def _recorded(node: ProcessingTask) -> RecordedNode:
    return RecordedNode(
        uid=node.uid,
        situation=node.situation,
        result_code=_code(node),
        message=node.message,
        command_id=node.command_id,
        has_begun=node.phase != Phase.QUEUED,
    )


def _code(row: ProcessingTask) -> ResultCode:
    return ResultCode.__members__.get(row.result_code or "", ResultCode.UNKNOWN)
