"""Who writes records, and the tasks of servers that are gone (QE-10)."""

import logging
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import aliased

from milonga.control_model import HealthState, ResultCode
from milonga.records._clock import in_utc
from milonga.records._events import Announcement, insert_ignoring
from milonga.records._owner_model import RecordOwner
from milonga.records._step_model import Step
from milonga.records._store import RecordStore, Transaction
from milonga.records._subscription_model import TaskEvent
from milonga.records._tables import table_of
from milonga.records._task_model import ProcessingTask
from milonga.records._words import Phase, RecordStatus

__all__ = ["close_abandoned", "close_lost", "take_over"]

_logger = logging.getLogger(__name__)


def take_over(
    store: RecordStore, owner: str, *, keep_open: bool = False, signs: bool = False
) -> int:
    """Sign in a server, and close what its earlier self left open.

    Two servers must not have the same name at one time; Tango's database sees to that.

    Parameters
    ----------
    store : RecordStore
        The store.
    owner : str
        Name of the server, the same after each restart.
    keep_open : bool
        Whether to leave that open, for somebody who can find out what became of it.
    signs : bool, optional
        Whether the server signs its messages to hooks.

    Returns
    -------
    int
        Tasks that were closed as LOST.
    """
    now = store.clock()
    fresh = {
        "incarnation": uuid.uuid4().hex,
        "started_at": now,
        "heartbeat_at": now,
        "signs": signs,
    }
    with store.writing() as transaction:
        connection = transaction.connection
        last = connection.scalar(select(RecordOwner.heartbeat_at).where(RecordOwner.name == owner))
        connection.execute(insert_ignoring(connection, RecordOwner), {"name": owner, **fresh})
        connection.execute(update(RecordOwner).where(RecordOwner.name == owner).values(fresh))
        if keep_open:
            return 0
        heard = f", last heard of at {in_utc(last):%Y-%m-%d %H:%M:%S} UTC" if last else ""
        of_owner = ProcessingTask.owner == owner
        return _close(transaction, of_owner, f"lost on restart of {owner}{heard}", now)


def close_lost(store: RecordStore, silent_for: float) -> int:
    """Close the tasks of servers that have not been heard of for long; return how many.

    Parameters
    ----------
    store : RecordStore
        The store.
    silent_for : float
        Seconds without a heartbeat after which a server is taken for gone. It must be longer than
        any time for which a server that lives may fail to reach the store.
    """
    now = store.clock()
    with store.writing() as transaction:
        silent = select(RecordOwner.name).where(
            RecordOwner.heartbeat_at < now - timedelta(seconds=silent_for)
        )
        owners = [*transaction.connection.scalars(silent)]
        text = f"lost: {', '.join(owners)} not heard of for {silent_for:.4g} s"
        return _close(transaction, ProcessingTask.owner.in_(owners), text, now) if owners else 0


def close_abandoned(
    store: RecordStore, owner: str, devices: Iterable[str], before: datetime
) -> int:
    """Close the commands of devices that a server has no more; return how many tasks.

    A device takes up what it had not finished when its server is back; one that was renamed or
    removed does not.

    Parameters
    ----------
    store : RecordStore
        The store.
    owner : str
        Name of the server.
    devices : iterable of str
        The devices that it has.
    before : datetime
        Only what was submitted before.
    """
    task, root = ProcessingTask, aliased(ProcessingTask)
    abandoned = select(root.id).where(
        root.owner == owner,
        root.parent_id.is_(None),
        root.finished_at.is_(None),
        root.device.is_not(None),
        root.device.not_in([*devices]),
        root.started_at < before,
    )
    now, text = store.clock(), f"lost: {owner} has no such device any more"
    with store.writing() as transaction:
        numbers = [*transaction.connection.scalars(abandoned)]
        of_them = or_(task.id.in_(numbers), task.root_id.in_(numbers))
        return _close(transaction, of_them, text, now) if numbers else 0


def _close(
    transaction: Transaction, condition: ColumnElement[bool], text: str, now: datetime
) -> int:
    """Close open tasks; nobody can know how they ended."""
    connection, task = transaction.connection, ProcessingTask
    left = select(task.id, task.uid, task.started_at).where(task.finished_at.is_(None), condition)
    rows = connection.execute(left.order_by(task.id).with_for_update()).all()
    for number, uid, started_at in rows:
        connection.execute(
            update(table_of(task))
            .where(task.id == number)
            .values(
                finished_at=max(now, started_at),
                task_status=RecordStatus.LOST.value,
                phase=Phase.FINISHED.value,
                result_code=ResultCode.UNKNOWN.name,
                health_state=HealthState.FAILED.name,
                message=f"{text}; its outcome is unknown",
                version=task.version + 1,
            )
        )
        connection.execute(update(table_of(Step)).where(Step.id == number).values(cleared=True))
        transaction.announcements.append(
            Announcement(number, uid, TaskEvent.STATUS, RecordStatus.LOST)
        )
    if rows:
        _logger.warning("%d task(s) closed as LOST: %s", len(rows), text)
    return len(rows)
