"""How long a device's commands and their steps took of late, when they went well."""

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from milonga.records._store import RecordStore
from milonga.records._task_model import ProcessingTask
from milonga.records._words import RecordStatus

__all__ = ["recent_durations"]

COMMANDS_READ = 500
"""How many of a device's last successful commands are looked at."""

RUNS_READ = 5
"""How many of them of each command count."""

_Task = ProcessingTask

Duration = tuple[str, str, float]
"""The command, the way from it down to a step (empty for the command itself), and seconds."""


def recent_durations(store: RecordStore, device: str) -> list[Duration]:
    """Return how long a device's last successful commands took, the oldest first.

    Parameters
    ----------
    store : RecordStore
        The store.
    device : str
        Name of the device.
    """
    with store.reading() as session:
        return list(_durations(session, device))


def _durations(session: Session, device: str) -> Iterator[Duration]:
    roots = session.execute(
        select(_Task.id, _Task.uid, _Task.command)
        .where(
            _Task.device == device,
            _Task.parent_id.is_(None),
            _Task.task_status == RecordStatus.SUCCESS.value,
        )
        .order_by(_Task.started_at.desc(), _Task.id.desc())
        .limit(COMMANDS_READ)
    ).all()
    runs: Counter[str] = Counter()
    wanted: dict[int, tuple[str, str]] = {}
    for number, uid, command in roots:
        if command is None:
            continue
        runs[command] += 1
        if runs[command] <= RUNS_READ:
            wanted[number] = (uid, command)
    rows = session.execute(
        select(_Task.id, _Task.root_id, _Task.uid, _Task.running_at, _Task.finished_at)
        .where(
            _Task.id.in_(wanted) | _Task.root_id.in_(wanted),
            _Task.task_status == RecordStatus.SUCCESS.value,
        )
        .order_by(_Task.id)
    )
    for number, root, uid, began, ended in rows:
        if began is None or ended is None:
            continue
        root_uid, command = wanted[root or number]
        way = uid.removeprefix(root_uid).removeprefix("/")
        yield command, way, max(0.0, (ended - began).total_seconds())
