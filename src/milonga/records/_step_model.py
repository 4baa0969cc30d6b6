"""Steps of a task that wait for a person, and the lines of its log."""

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from milonga.records._clock import utc_now
from milonga.records._tables import HREF, NAME, Base
from milonga.records._types import UTCDateTime

if TYPE_CHECKING:
    from milonga.records._task_model import ProcessingTask

__all__ = ["Step", "TaskLogLine", "next_step_id"]


class Step(Base):
    """A point at which a task waits for input; numbered from 0 by its place."""

    __tablename__ = "task_step"
    __table_args__ = (
        CheckConstraint("number >= 0", "number"),
        Index(
            "uq_task_step_open",
            "id",
            unique=True,
            sqlite_where=text("cleared = 0"),
            postgresql_where=text("NOT cleared"),
        ),
    )

    id: Mapped[int] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), primary_key=True, init=False
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    step_id: Mapped[str] = mapped_column(NAME)
    href: Mapped[str] = mapped_column(HREF)
    ui_href: Mapped[str] = mapped_column(HREF)
    cleared: Mapped[bool] = mapped_column(Boolean, default=False)

    task: Mapped["ProcessingTask"] = relationship(back_populates="steps", init=False, repr=False)


def next_step_id(before: str | None, step_id: str) -> str:
    """Join the name of a step to that of the step before, unless it begins with it.

    Examples
    --------
    >>> next_step_id("tune", "scan"), next_step_id("tune", "tune.scan"), next_step_id(None, "tune")
    ('tune.scan', 'tune.scan', 'tune')
    """
    if not before or step_id == before or step_id.startswith(f"{before}."):
        return step_id
    return f"{before}.{step_id}"


class TaskLogLine(Base):
    """One entry of a task's log."""

    __tablename__ = "task_log_line"
    __table_args__ = (Index(None, "task_id", "id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    task_id: Mapped[int] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), init=False
    )
    text: Mapped[str] = mapped_column(Text)
    level: Mapped[str] = mapped_column(String(16), default="INFO")
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default_factory=utc_now)
