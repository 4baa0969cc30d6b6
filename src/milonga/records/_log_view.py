"""The log of a task in pages, as it may be longer than anybody wants to be answered at once."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from milonga.records._step_model import TaskLogLine

__all__ = ["MAX_ENTRIES", "MAX_LOG", "LogFilter", "LogPage", "log_page"]

MAX_ENTRIES = 200
"""Lines of a log that are shown with a task."""

MAX_LOG = 256 * 1024
"""Characters of a page of a log; one line is shown however long it is."""

MAX_LINES = 1000
"""Lines of a page."""


class LogFilter(BaseModel):
    """Which lines of a log to show; names may be in camel case.

    Parameters
    ----------
    uid : str
        Of which task.
    before : int, optional
        `LogPage.earlier` of the page after it; without it, the last page.
    limit : int, optional
        Lines on the page.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    uid: str
    before: int | None = Field(default=None, ge=0, lt=2**63)
    limit: int = Field(default=MAX_LINES, ge=1, le=MAX_LINES)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of a log, in order.

    Parameters
    ----------
    lines : list of TaskLogLine
        The lines.
    left_out : int
        How many come before them.
    earlier : int or None
        Where the page before ends; None if there is none.
    """

    lines: list[TaskLogLine]
    left_out: int
    earlier: int | None

    def text(self) -> str:
        """Return the lines as one text, which says what is left out."""
        head = [f"… ({self.left_out} earlier lines are left out)"] if self.left_out else []
        return "\n".join([*head, *(line.text for line in self.lines)])

    def entries(self) -> list[dict[str, Any]]:
        """Return the lines with their times and levels."""
        return [
            {"at": _moment(line.created_at), "level": line.level, "text": line.text}
            for line in self.lines
        ]


def log_page(
    session: Session, number: int, before: int | None = None, limit: int = MAX_ENTRIES
) -> LogPage:
    """Return the last lines of a task's log, or the last before some line.

    Parameters
    ----------
    session : Session
        Where to look.
    number : int
        The task's.
    before : int, optional
        `LogPage.earlier` of another page.
    limit : int, optional
        How many, if they have not more than `MAX_LOG` characters.
    """
    line = TaskLogLine
    wanted = [line.task_id == number, *([line.id < before] if before is not None else [])]
    # Ids first: the texts of lines that do not fit are not read.
    sizes = select(line.id, func.length(line.text)).where(*wanted)
    shown: list[int] = []
    room = MAX_LOG
    for found, size in session.execute(sizes.order_by(line.id.desc()).limit(limit)):
        room -= size
        if shown and room < 0:
            break
        shown.append(found)
    if not shown:
        return LogPage([], 0, None)
    first = min(shown)
    lines = session.scalars(
        select(line).where(line.task_id == number, line.id.in_(shown)).order_by(line.id)
    )
    left_out = select(func.count()).where(line.task_id == number, line.id < first)
    count = session.scalar(left_out) or 0
    return LogPage([*lines], count, first if count else None)


def _moment(value: datetime) -> str:
    return value.isoformat()
