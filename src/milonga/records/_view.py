"""A task as JSON, in the shape of QHAna's REST resource (QA-01 to QA-04)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import object_session

from milonga.records._file_model import TEMP_FILE, TaskFile
from milonga.records._log_view import LogPage, log_page
from milonga.records._step_model import Step
from milonga.records._task_model import ProcessingTask
from milonga.records._tracked import plain

__all__ = ["FileHref", "TaskHref", "summary_view", "task_href", "task_view"]

FileHref = Callable[[TaskFile], str]
"""Gives the address at which a file can be had."""

TaskHref = Callable[[ProcessingTask], str]
"""Gives the address of a task."""


def task_href(task: ProcessingTask) -> str:
    """Return the address of a task where nobody gives a better one."""
    return f"/tasks/{task.id}/"


def task_view(
    task: ProcessingTask, *, href: TaskHref = task_href, file_href: FileHref | None = None
) -> dict[str, Any]:
    """Return all that a client may know of a task.

    Parameters
    ----------
    task : ProcessingTask
        A task whose session is open.
    href, file_href : callable, optional
        Addresses of tasks and of files; without the latter, files have none and are left out.

    Returns
    -------
    dict
        `status`, `log`, `links`; `progress` and `steps` if there are any; `outputs` once the task
        is over; and what `summary_view` has. Of a long log there are the last lines, see
        `log_page`; `entries` has them with their times, `earlierEntries` how many come before, and
        `logCursor` where they end.
    """
    view = summary_view(task) | _log(task) | {"error": task.error}
    view |= {"parameters": task.parameters, "data": plain(task.data)}
    progress = _progress(task)
    if progress is not None:
        view["progress"] = progress
    steps = _steps(task)
    if steps:
        view["steps"] = steps
    if task.is_finished and file_href is not None:
        view["outputs"] = [_output(file, file_href) for file in task.outputs if _is_output(file)]
    elif task.is_finished:
        view["outputs"] = []
    view["links"] = [{"type": "subscribe", "href": href(task)}] + [
        {"type": link.type, "href": link.href} for link in task.links
    ]
    view["runs"] = [run.run_uid for run in task.runs]
    view["parent"] = _uid(task, task.parent_id)
    view["root"] = _uid(task, task.root_id)
    return view


def _log(task: ProcessingTask) -> dict[str, Any]:
    """Return the last lines of the log, and how many come before them."""
    session = object_session(task)
    page = LogPage([], 0, None) if session is None else log_page(session, task.id)
    return {
        "log": page.text(),
        "entries": page.entries(),
        "earlierEntries": page.left_out,
        "logCursor": page.earlier,
    }


def _steps(task: ProcessingTask) -> list[dict[str, Any]]:
    """Return the steps of a task; those of a command are also those of the nodes of its tree."""
    session = object_session(task)
    found = list(task.steps)
    if session is not None and task.parent_id is None:
        below = select(Step).join(ProcessingTask, Step.id == ProcessingTask.id)
        found += session.scalars(
            below.where(ProcessingTask.root_id == task.id).order_by(Step.id, Step.number)
        )
    return [
        {
            "href": step.href,
            "uiHref": step.ui_href,
            "stepId": step.step_id,
            "cleared": step.cleared,
        }
        for step in found
    ]


def summary_view(task: ProcessingTask) -> dict[str, Any]:
    """Return what a list says of a task."""
    return {
        "id": task.id,
        "uid": task.uid,
        "name": task.task_name,
        "status": task.status.value,
        "phase": task.phase,
        "cause": task.cause,
        "resultCode": task.result_code,
        "healthState": task.health_state,
        "message": task.message,
        "device": task.device,
        "command": task.command,
        "commandId": task.command_id,
        "kind": task.kind,
        "attempt": task.attempt,
        "issuer": task.issuer,
        "origin": task.origin,
        "startedAt": _moment(task.started_at),
        "queuedAt": _moment(task.queued_at),
        "runningAt": _moment(task.running_at),
        "finishedAt": _moment(task.finished_at),
        "deadlineAt": _moment(task.deadline_at),
        "recordedLate": task.recorded_late,
    }


def _moment(value: datetime | None) -> str | None:
    return value.isoformat() if value else None


def _progress(task: ProcessingTask) -> dict[str, Any] | None:
    """Return the progress, which may be 0 and need not be whole (C-9)."""
    if task.progress_value is None:
        return None
    return {
        "value": task.progress_value,
        "start": task.progress_start,
        "target": task.progress_target,
        "unit": task.progress_unit,
    }


def _is_output(file: TaskFile) -> bool:
    return bool(file.file_type and file.mimetype) and file.file_type != TEMP_FILE


def _output(file: TaskFile, href: FileHref) -> dict[str, Any]:
    output = {"dataType": file.file_type, "contentType": file.mimetype, "href": href(file)}
    return output | ({"name": file.file_name} if file.file_name else {})


def _uid(task: ProcessingTask, number: int | None) -> str | None:
    session = object_session(task)
    if number is None or session is None:
        return None
    return session.scalar(select(ProcessingTask.uid).where(ProcessingTask.id == number))
