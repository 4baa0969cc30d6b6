"""Files that a task made, and links to what belongs to it."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from milonga.records._clock import utc_now
from milonga.records._sessions import session_of
from milonga.records._tables import HREF, Base
from milonga.records._types import UTCDateTime

if TYPE_CHECKING:
    from milonga.records._task_model import ProcessingTask

__all__ = ["TEMP_FILE", "TaskFile", "TaskLink", "number_of"]

TEMP_FILE = "temp-file"
"""The type of files that go when their task ends."""


def number_of(task: "ProcessingTask | int") -> int:
    """Return the number of a task that is given as such or by its number."""
    return task if isinstance(task, int) else task.id


def new_tag() -> str:
    """Return a token that nobody can guess: 43 characters that a URL can hold (QF-03)."""
    return secrets.token_urlsafe(32)


class TaskFile(Base):
    """A file that belongs to a task; its bytes are with the storage provider."""

    __tablename__ = "task_file"
    __table_args__ = (
        Index(None, "task_id"),
        Index(None, "file_name"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    task_id: Mapped[int | None] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), init=False
    )
    storage_provider: Mapped[str] = mapped_column(String(64))
    file_name: Mapped[str] = mapped_column(String(500))
    file_storage_data: Mapped[str] = mapped_column(Text)
    security_tag: Mapped[str] = mapped_column(String(64), default_factory=new_tag)
    file_type: Mapped[str | None] = mapped_column(String(255), default=None)
    mimetype: Mapped[str | None] = mapped_column(String(255), default=None)
    size: Mapped[int | None] = mapped_column(BigInteger, default=None)
    sha256: Mapped[str | None] = mapped_column(String(64), default=None)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default_factory=utc_now)
    tag_expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime, default=None)

    task: Mapped["ProcessingTask | None"] = relationship(
        back_populates="outputs", init=False, repr=False
    )

    @classmethod
    def get_task_result_files(
        cls, task: "ProcessingTask | int", *, session: Session | None = None
    ) -> Sequence["TaskFile"]:
        """Return the files of a task but its temporary ones (QL-11, C-19)."""
        own = cls.task_id == number_of(task)
        lasting = or_(cls.file_type.is_(None), cls.file_type != TEMP_FILE)
        return (
            session_of(task, session)
            .scalars(select(cls).where(own, lasting).order_by(cls.id))
            .all()
        )


class TaskLink(Base):
    """A link from a task to something that belongs to it."""

    __tablename__ = "task_link"
    __table_args__ = (Index(None, "task_id"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    task_id: Mapped[int | None] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), init=False
    )
    type: Mapped[str] = mapped_column(String(64))
    href: Mapped[str] = mapped_column(HREF)

    task: Mapped["ProcessingTask | None"] = relationship(
        back_populates="links", init=False, repr=False
    )
