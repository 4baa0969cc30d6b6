"""Find records: by time, device, command, status, user and run; page by page."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel
from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from milonga.errors import ArgumentError
from milonga.records._clock import in_utc
from milonga.records._task_model import ProcessingTask, TaskRun
from milonga.records._words import Cause, RecordStatus, read_status

__all__ = ["MAX_PAGE", "Page", "TaskFilter", "count_tasks", "find_page", "walk"]

MAX_PAGE = 1000
"""Records on one page."""

BAD = "BAD"
"""The word for what has ended and is no success: partial, failed in any way, or lost."""

_FILTER_WORDS = (set(Cause) - {Cause.ERROR}) | {BAD}

_Task = ProcessingTask


class TaskFilter(BaseModel):
    """Which records to list; what is None does not matter. Names may be in camel case.

    Parameters
    ----------
    device, command, issuer, run_uid : str, optional
        Whom the task commands (in any case, as for Tango), with what, who asked (``user@host``, or
        only the user), and the uid of a run that it made.
    status : str, optional
        A status, or the cause of one, such as ABORTED; or BAD, whatever has ended and is no
        SUCCESS.
    started_after, started_before : datetime, optional
        Bounds of `started_at`: the first is included, the second is not.
    parent_uid : str, optional
        Only the children of this task.
    roots_only : bool, optional
        Whether to leave out the nodes below commands.
    limit : int, optional
        Records on the page.
    cursor : str, optional
        `Page.next` of the page before.

    Examples
    --------
    >>> TaskFilter.model_validate_json('{"status": "aborted", "startedAfter": "2030-01-01T00:00Z"}')
    ... # doctest: +ELLIPSIS
    TaskFilter(... status='ABORTED', ...)
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    device: str | None = None
    command: str | None = None
    issuer: str | None = None
    run_uid: str | None = None
    status: str | None = None
    started_after: AwareDatetime | None = None
    started_before: AwareDatetime | None = None
    parent_uid: str | None = None
    roots_only: bool = True
    limit: int = Field(default=100, ge=1, le=MAX_PAGE)
    cursor: str | None = None

    @field_validator("status")
    @classmethod
    def _is_status(cls, value: str | None) -> str | None:
        if value is None or value.upper() in _FILTER_WORDS:
            return value.upper() if value else None
        try:
            return read_status(value).value
        except ValueError:
            known = ", ".join(dict.fromkeys((*RecordStatus, *sorted(_FILTER_WORDS))))
            raise ValueError(f"found {value!r}, expected one of {known}") from None


@dataclass(frozen=True, slots=True)
class Page:
    """Records, the newest first, and where the next page begins; None if there is none."""

    tasks: list[ProcessingTask]
    next: str | None


def find_page(session: Session, wanted: TaskFilter) -> Page:
    """Return one page of records.

    A page begins after the last record of the page before, not at a number, so that it costs the
    same however far down it is, and nothing is shown twice when records come in between.

    Raises
    ------
    ArgumentError
        If the cursor is none of ours.
    """
    query = _matching(session, select(_Task), wanted)
    if wanted.cursor is not None:
        moment, number = _read_cursor(wanted.cursor)
        query = query.where(
            or_(
                _Task.started_at < moment,
                and_(_Task.started_at == moment, _Task.id < number),
            ),
            _Task.started_at <= moment,
        )
    newest = query.order_by(_Task.started_at.desc(), _Task.id.desc()).limit(wanted.limit + 1)
    tasks = [*session.scalars(newest)]
    more = len(tasks) > wanted.limit
    tasks = tasks[: wanted.limit]
    return Page(tasks, _cursor(tasks[-1]) if more else None)


def count_tasks(session: Session, wanted: TaskFilter) -> int:
    """Return how many records match; it looks at each of them."""
    query = _matching(session, select(func.count()).select_from(_Task), wanted)
    return session.scalar(query) or 0


def walk(session: Session, wanted: TaskFilter) -> Iterator[ProcessingTask]:
    """Yield all records that match, oldest first, some hundred in memory at a time."""
    query = _matching(session, select(_Task), wanted).order_by(_Task.started_at, _Task.id)
    yield from session.scalars(query.execution_options(yield_per=500))


def _matching(session: Session, query: Select[Any], wanted: TaskFilter) -> Select[Any]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.device is not None:
        conditions.append(_is_at(session, wanted.device))
    if wanted.command is not None:
        conditions.append(_Task.command == wanted.command)
    if wanted.issuer is not None:
        conditions.append(_is_issued_by(wanted.issuer))
    if wanted.status is not None:
        conditions.append(_has_status(wanted.status))
    if wanted.started_after is not None:
        conditions.append(_Task.started_at >= wanted.started_after)
    if wanted.started_before is not None:
        conditions.append(_Task.started_at < wanted.started_before)
    if wanted.run_uid is not None:
        made = select(TaskRun.task_id).where(TaskRun.run_uid == wanted.run_uid)
        conditions.append(_Task.id.in_(made))
    if wanted.parent_uid is not None:
        parent = select(_Task.id).where(_Task.uid == wanted.parent_uid).scalar_subquery()
        conditions.append(_Task.parent_id == parent)
    elif wanted.roots_only and wanted.run_uid is None:
        conditions.append(_Task.parent_id.is_(None))
    return query.where(*conditions)


def _is_at(session: Session, device: str) -> ColumnElement[bool]:
    """Match a device however its name is written, with its index still of use.

    The names that there are come from that index as well, a step for each: a comparison of all
    records in small letters would look at each record.
    """
    first = select(func.min(_Task.device).label("device")).cte("names", recursive=True)
    after = select(func.min(_Task.device)).where(_Task.device > first.c.device).scalar_subquery()
    names = first.union_all(select(after).where(first.c.device.is_not(None)))
    same = select(names.c.device).where(func.lower(names.c.device) == func.lower(device))
    found = session.scalars(same).all()
    return _Task.device == found[0] if len(found) == 1 else _Task.device.in_(found)


def _is_issued_by(issuer: str) -> ColumnElement[bool]:
    if "@" in issuer:
        return _Task.issuer == issuer
    return or_(_Task.issuer == issuer, _Task.issuer.startswith(f"{issuer}@", autoescape=True))


def _has_status(word: str) -> ColumnElement[bool]:
    over = _Task.finished_at.is_not(None)
    if word == BAD:
        return and_(over, func.coalesce(_Task.task_status, "") != RecordStatus.SUCCESS.value)
    if word == RecordStatus.PENDING:
        return _Task.finished_at.is_(None)
    if word == RecordStatus.UNKNOWN:
        return and_(over, _Task.task_status.is_(None))
    if word in set(Cause):
        status = RecordStatus.SUCCESS if word == Cause.STOPPED else RecordStatus.FAILURE
        return and_(_Task.task_status == status.value, _Task.cause == word, over)
    return and_(_Task.task_status == word, over)


def _cursor(task: ProcessingTask) -> str:
    text = f"{task.started_at.isoformat()} {task.id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, int]:
    try:
        moment, number = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        return in_utc(datetime.fromisoformat(moment)), int(number)
    except (ValueError, binascii.Error, UnicodeError) as error:
        raise ArgumentError(
            f"cursor: found {cursor!r}, expected `next` of the page before"
        ) from error
