"""Let records go that are old, too many or too large.

A command goes with its whole tree and its analyses, and only when all of it is over: nothing that
runs is dropped, nor anything above it (QE-11). Files go first; a crash in between leaves rows whose
files are gone, which the next round drops, never files that nobody knows of.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, cast, delete, func, literal_column, or_, select
from sqlalchemy.orm import Session

from milonga.records._analysis_model import Analysis
from milonga.records._events import insert_ignoring
from milonga.records._file_model import TaskFile
from milonga.records._state_model import PluginState, keep_state
from milonga.records._step_model import TaskLogLine
from milonga.records._store import RecordStore
from milonga.records._task_model import ProcessingTask

__all__ = ["Retention", "claim_round", "retain"]

_logger = logging.getLogger(__name__)
_Task = ProcessingTask

_PLUGIN = "milonga.records"
_SQLITE_SIZE = (
    "(SELECT page_count FROM pragma_page_count()) * (SELECT page_size FROM pragma_page_size())"
)

_ROW_BYTES = 1024
"""What a row weighs beside its texts, with its places in the indexes."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How much is kept; None sets no bound.

    Parameters
    ----------
    max_age : float, optional
        Seconds since a command ended.
    max_count : int, optional
        Commands, each with the nodes of its tree.
    max_bytes : int, optional
        Bytes of records and of their files. Records are estimated by the length of their texts,
        which is the same for every database and does not wait for one to give space back.
    batch : int, optional
        Commands that are dropped in one transaction.
    """

    max_age: float | None = None
    max_count: int | None = None
    max_bytes: int | None = None
    batch: int = 100


def retain(
    store: RecordStore,
    retention: Retention,
    drop_file: Callable[[TaskFile], object] | None = None,
) -> int:
    """Drop the oldest commands until the rest is within the bounds; return how many went.

    Parameters
    ----------
    store : RecordStore
        The store.
    retention : Retention
        How much is kept.
    drop_file : callable, optional
        Deletes the bytes of a file; when it raises, the file's command stays.
    """
    with store.reading() as session:
        victims = _victims(session, store, retention)
    gone = 0
    for start in range(0, len(victims), retention.batch):
        batch = victims[start : start + retention.batch]
        if drop_file is not None:
            batch = _without_files(store, batch, drop_file)
        with store.writing() as transaction:
            in_batch = or_(_Task.id.in_(batch), _Task.root_id.in_(batch))
            tasks = select(_Task.id).where(in_batch)
            transaction.connection.execute(delete(Analysis).where(Analysis.task_id.in_(tasks)))
            transaction.connection.execute(delete(_Task).where(_Task.id.in_(batch)))
        gone += len(batch)
    return gone


def claim_round(store: RecordStore, every: float) -> bool:
    """Tell whether it is this process that has to look after the store now.

    The processes that share a store need not do the same one after the other.

    Parameters
    ----------
    store : RecordStore
        The store.
    every : float
        Seconds for which nobody else has to.
    """
    now, key = store.clock(), {"plugin_id": _PLUGIN, "key": "last round"}
    mine = PluginState.plugin_id == key["plugin_id"], PluginState.key == key["key"]
    with store.writing() as transaction:
        connection = transaction.connection
        connection.execute(insert_ignoring(connection, PluginState), key | {"value": ""})
        last = connection.scalar(select(PluginState.value).where(*mine).with_for_update())
        if last and 0 <= (now - datetime.fromisoformat(last)).total_seconds() < every:
            return False
        keep_state(connection, **key, value=now.isoformat())
    return True


def _victims(session: Session, store: RecordStore, retention: Retention) -> list[int]:
    """Return the numbers of the commands to drop, oldest first."""
    open_trees = select(func.coalesce(_Task.root_id, _Task.id)).where(_Task.finished_at.is_(None))
    over = select(_Task.id, _Task.finished_at).where(
        _Task.parent_id.is_(None), _Task.id.not_in(open_trees)
    )
    rows = session.execute(over.order_by(_Task.started_at, _Task.id)).all()
    removable = [number for number, _ in rows]
    wanted: set[int] = set()
    if retention.max_age is not None:
        oldest = store.clock() - timedelta(seconds=retention.max_age)
        wanted |= {number for number, ended in rows if ended is not None and ended < oldest}
    if retention.max_count is not None:
        count = session.scalar(select(func.count()).where(_Task.parent_id.is_(None))) or 0
        wanted |= set(removable[: max(0, count - retention.max_count)])
    if retention.max_bytes is not None and not _fits(session, retention.max_bytes):
        wanted |= _too_large(session, removable, wanted, retention.max_bytes)
    return [number for number in removable if number in wanted]


def _fits(session: Session, max_bytes: int) -> bool:
    """Tell whether all is within the bound, without a look at each row."""
    postgresql = session.connection().dialect.name == "postgresql"
    own = "pg_database_size(current_database())" if postgresql else _SQLITE_SIZE
    size = session.scalar(select(literal_column(own)))
    files = session.scalar(select(func.coalesce(func.sum(TaskFile.size), 0)))
    return int(size or 0) + int(files or 0) <= max_bytes


def _too_large(
    session: Session, removable: Sequence[int], gone: set[int], max_bytes: int
) -> set[int]:
    """Return the oldest commands whose going brings the rest below `max_bytes`."""
    sizes = _sizes(session)
    total = sum(sizes.values()) - sum(sizes.get(number, 0) for number in gone)
    more: set[int] = set()
    for number in removable:
        if total <= max_bytes:
            break
        if number not in gone:
            more.add(number)
            total -= sizes.get(number, 0)
    return more


def _sizes(session: Session) -> dict[int, int]:
    """Return the bytes of each command's tree, with its logs and files."""
    root = func.coalesce(_Task.root_id, _Task.id)
    texts = (_Task.parameters, _Task.message, _Task.error, cast(_Task.data, Text))
    own: Any = _ROW_BYTES
    for text in texts:
        own += func.length(text)
    sums = (
        select(root, func.sum(own)).group_by(root),
        select(root, func.sum(func.length(TaskLogLine.text) + 100))
        .join(TaskLogLine, TaskLogLine.task_id == _Task.id)
        .group_by(root),
        select(root, func.sum(func.length(cast(Analysis.payload, Text)) + _ROW_BYTES))
        .join(Analysis, Analysis.task_id == _Task.id)
        .group_by(root),
        select(root, func.sum(TaskFile.size))
        .join(TaskFile, TaskFile.task_id == _Task.id)
        .group_by(root),
    )
    sizes: dict[int, int] = {}
    for query in sums:
        for number, size in session.execute(query):
            sizes[number] = sizes.get(number, 0) + int(size or 0)
    return sizes


def _without_files(
    store: RecordStore, batch: Sequence[int], drop_file: Callable[[TaskFile], object]
) -> list[int]:
    """Delete the files of commands; return those of which no file is left."""
    with store.reading() as session:
        root = func.coalesce(_Task.root_id, _Task.id)
        files = select(TaskFile, root).join(_Task, TaskFile.task_id == _Task.id)
        in_batch = or_(_Task.id.in_(batch), _Task.root_id.in_(batch))
        rows = session.execute(files.where(in_batch)).all()
    kept: set[int] = set()
    for file, number in rows:
        try:
            drop_file(file)
        except Exception as error:  # noqa: BLE001 - one file must not keep all the others
            kept.add(number)
            _logger.warning("file %s of a dropped task stays: %s", file.file_name, error)
    return [number for number in batch if number not in kept]
