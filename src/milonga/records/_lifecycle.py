"""What happens to tasks that a program drives step by step, each in a transaction of its own.

These are QHAna's celery tasks as functions. Whoever runs commands uses the `Recorder`, which
writes the same columns and does not wait.
"""

import logging
import traceback
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.orm import Session

from milonga.control_model import HealthState, ResultCode
from milonga.errors import RecordNotFound
from milonga.records._events import Announcement
from milonga.records._step_model import Step
from milonga.records._store import RecordStore
from milonga.records._subscription_model import TaskEvent
from milonga.records._task_model import ProcessingTask
from milonga.records._words import Phase, Situation

__all__ = [
    "add_step",
    "clear_step",
    "find_task",
    "save_task_error",
    "save_task_result",
    "start_task",
]

_logger = logging.getLogger(__name__)
TaskKey = int | str


def find_task(session: Session, task: TaskKey, *, locked: bool = False) -> ProcessingTask:
    """Return the task of a number or of a unique name.

    Raises
    ------
    RecordNotFound
        If there is none.
    """
    column = ProcessingTask.id if isinstance(task, int) else ProcessingTask.uid
    query = select(ProcessingTask).where(column == task)
    found = session.scalar(query.with_for_update(of=ProcessingTask) if locked else query)
    if found is None:
        raise RecordNotFound(f"task: found no record of {task!r}")
    return found


def start_task(store: RecordStore, task_name: str, parameters: str = "") -> int:
    """Make the record of a task, before its work is queued, and return its number (QE-01)."""
    with store.session() as session:
        task = ProcessingTask(task_name, parameters)
        task.queued_at = task.started_at
        task.save(commit=True, session=session)
        return task.id


def save_task_result(store: RecordStore, task_log: str | None, db_id: TaskKey) -> bool:
    """Write down that a task went well (QE-03).

    Parameters
    ----------
    store : RecordStore
        The store.
    task_log : str or None
        Appended to the log.
    db_id : int or str
        Number or unique name of the task.

    Returns
    -------
    bool
        Whether it was written: False if the task was over before, whose outcome stays (QE-09).

    Raises
    ------
    TypeError
        If the log is no text.
    RecordNotFound
        If there is no such task; it is a `KeyError`.
    """
    if not isinstance(task_log, str | None):
        raise TypeError(f"task_log: found {type(task_log).__name__}, expected a text or None")

    def end(task: ProcessingTask) -> None:
        if task.progress_value is not None:
            task.progress_value = task.progress_target
        if task_log:
            task.add_task_log_entry(task_log)

    return _end(store, db_id, Situation.DONE, end)


def save_task_error(store: RecordStore, error: BaseException | str, db_id: TaskKey) -> bool:
    """Write down that a task failed, with the trace of the error as log (QE-04).

    An unknown task is only logged: this is called when something has gone wrong already.

    Returns
    -------
    bool
        Whether it was written.
    """
    text = error
    if isinstance(error, BaseException):
        text = "".join([repr(error), "\n", *traceback.format_exception(error)]).rstrip()

    def end(task: ProcessingTask) -> None:
        task.error = str(text)
        task.message = str(error)
        task.add_task_log_entry(str(text))

    try:
        return _end(store, db_id, Situation.ERROR, end)
    except RecordNotFound:
        _logger.exception("an unknown task failed: %s", text)
        return False


def _end(
    store: RecordStore,
    key: TaskKey,
    situation: Situation,
    end: Callable[[ProcessingTask], None],
) -> bool:
    with store.session() as session:
        task = find_task(session, key, locked=True)
        if task.is_finished:
            _logger.warning(
                "task %s: outcome %s refused, it was over with %s",
                *(task.uid, situation.name, task.status),
            )
            return False
        step_open = task.has_uncleared_step
        task.clear_previous_step()
        end(task)
        words = situation.words
        task.finished_at = max(store.clock(), task.started_at)
        task.phase = Phase.FINISHED.value
        task.task_status = words.status.value
        task.cause = words.cause.value if words.cause else None
        task.result_code = ResultCode(words.result_code).name
        task.health_state = HealthState(words.health).name if words.health else None
        events = [TaskEvent.STATUS, TaskEvent.DETAILS]
        _commit(store, session, task, events + [TaskEvent.STEPS] * step_open)
        return True


def add_step(
    store: RecordStore,
    task_log: str | None,
    db_id: TaskKey,
    step_id: str,
    href: str,
    ui_href: str,
    prog_value: float | None = None,
    prog_start: float = 0,
    prog_target: float = 100,
    prog_unit: str = "%",
) -> Step:
    """Let a task wait for input (QE-05).

    Parameters
    ----------
    store : RecordStore
        The store.
    task_log : str or None
        Appended to the log.
    db_id : int or str
        Number or unique name of the task.
    step_id, href, ui_href : str
        As in `ProcessingTask.add_next_step`.
    prog_value, prog_start, prog_target, prog_unit : optional
        The progress; without a value it is the number of steps done, of those known.

    Raises
    ------
    RecordNotFound
        If there is no such task.
    AssertionError
        If the step before has not been cleared, or the task is over.
    """
    with store.session() as session:
        task = find_task(session, db_id, locked=True)
        if task.is_finished:
            raise AssertionError(f"task {task.uid}: it is over, expected one that goes on")
        done = len(task.steps)
        step = task.add_next_step(href, ui_href, step_id)
        if prog_value is None:
            prog_value, prog_start, prog_target, prog_unit = done, 0, done + 1, ""
        task.progress_value, task.progress_start = prog_value, prog_start
        task.progress_target, task.progress_unit = prog_target, prog_unit
        if task_log:
            task.add_task_log_entry(task_log)
        _commit(store, session, task, [TaskEvent.STEPS, TaskEvent.DETAILS])
        return step


def clear_step(store: RecordStore, db_id: TaskKey) -> Step | None:
    """Mark the current step of a task as cleared, and return it; None if there is none (QE-06)."""
    with store.session() as session:
        task = find_task(session, db_id, locked=True)
        was_open = task.has_uncleared_step
        step = task.clear_previous_step()
        if was_open:
            _commit(store, session, task, [TaskEvent.STEPS])
        return step


def _commit(
    store: RecordStore, session: Session, task: ProcessingTask, events: list[TaskEvent]
) -> None:
    """Commit together with the messages to hooks; then tell the listeners (QE-07)."""
    session.flush()
    news = [Announcement(task.id, task.uid, event, task.status) for event in events]
    posted = store.post(session.connection(), news)
    session.commit()
    store.tell(news, posted)
