"""Who writes records, and the tasks of servers that are gone (QE-10)."""

import logging
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import select, update

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

__all__ = ["close_lost", "take_over"]

_logger = logging.getLogger(__name__)


def take_over(store: RecordStore, owner: str) -> int:
    """Sign in a server, and close what its earlier self left open.

    Two servers must not have the same name at one time; Tango's database sees to that.

    Parameters
    ----------
    store : RecordStore
        The store.
    owner : str
        Name of the server, the same after each restart.

    Returns
    -------
    int
        Tasks that were closed as LOST.
    """
    now = store.clock()
    fresh = {"incarnation": uuid.uuid4().hex, "started_at": now, "heartbeat_at": now}
    with store.writing() as transaction:
        connection = transaction.connection
        last = connection.scalar(select(RecordOwner.heartbeat_at).where(RecordOwner.name == owner))
        connection.execute(insert_ignoring(connection, RecordOwner), {"name": owner, **fresh})
        connection.execute(update(RecordOwner).where(RecordOwner.name == owner).values(fresh))
        heard = f", last heard of at {in_utc(last):%Y-%m-%d %H:%M:%S} UTC" if last else ""
        return _close(transaction, [owner], f"lost on restart of {owner}{heard}", now)


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
        return _close(transaction, owners, text, now) if owners else 0


def _close(transaction: Transaction, owners: Iterable[str], text: str, now: datetime) -> int:
    """Close all open tasks of `owners`; nobody can know how they ended."""
    connection, task = transaction.connection, ProcessingTask
    left = select(task.id, task.uid, task.started_at).where(
        task.finished_at.is_(None), task.owner.in_([*owners])
    )
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
