"""Who wants to hear of a task, and what is on its way to them."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, Text, or_, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from milonga.records._clock import utc_now
from milonga.records._file_model import number_of
from milonga.records._sessions import session_of
from milonga.records._tables import HREF, UID, Base, in_words
from milonga.records._types import UTCDateTime

if TYPE_CHECKING:
    from milonga.records._task_model import ProcessingTask

__all__ = ["OutboxMessage", "TaskEvent", "TaskUpdateSubscription", "WebhookRef"]


class TaskEvent(StrEnum):
    """What a subscriber can be told of (QW-03, IN-08)."""

    STATUS = "status"  # the task is over
    STEPS = "steps"  # a step was added or cleared, or a node of the tree opened or ended
    DETAILS = "details"  # progress or log


class WebhookRef(NamedTuple):
    """Where to call, and what to name there (QL-14)."""

    webhook_href: str
    task_href: str


class TaskUpdateSubscription(Base):
    """A wish to be called when a task changes; no `event_type` means all events."""

    __tablename__ = "task_update_subscription"
    __table_args__ = (
        CheckConstraint(in_words("event_type", tuple(TaskEvent)), "event"),
        Index(None, "task_id"),
        Index(
            "uq_task_update_subscription_event",
            *("task_id", "webhook_href", "event_type"),
            unique=True,
            sqlite_where=text("event_type IS NOT NULL"),
            postgresql_where=text("event_type IS NOT NULL"),
        ),
        Index(
            "uq_task_update_subscription_all",
            *("task_id", "webhook_href"),
            unique=True,
            sqlite_where=text("event_type IS NULL"),
            postgresql_where=text("event_type IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    task_id: Mapped[int | None] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), init=False
    )
    webhook_href: Mapped[str] = mapped_column(HREF)
    task_href: Mapped[str] = mapped_column(HREF)
    event_type: Mapped[str | None] = mapped_column(String(64), default=None)

    task: Mapped["ProcessingTask | None"] = relationship(
        back_populates="subscriptions", init=False, repr=False
    )

    @classmethod
    def get_by_task_and_event(
        cls,
        task: "ProcessingTask | int",
        event: str | None = None,
        *,
        session: Session | None = None,
    ) -> list[WebhookRef]:
        """Return whom to call for an event, each once; without an event, all (QL-12)."""
        wanted: list[Any] = [cls.task_id == number_of(task)]
        if event is not None:
            wanted.append(or_(cls.event_type.is_(None), cls.event_type == event))
        rows = session_of(task, session).execute(
            select(cls.webhook_href, cls.task_href).where(*wanted).distinct()
        )
        return sorted(WebhookRef(*row) for row in rows)

    @classmethod
    def get_by_task_and_subscriber(
        cls,
        task: "ProcessingTask | int",
        webhook: str,
        event: str | EllipsisType | None = ...,
        *,
        session: Session | None = None,
    ) -> Sequence["TaskUpdateSubscription"]:
        """Return the subscriptions of one hook (QL-13).

        Parameters
        ----------
        task : ProcessingTask or int
            The task.
        webhook : str
            The hook's address.
        event : str or None, optional
            A text: only that event; None: only the one for all events; left out: all of them.
        session : Session, optional
            Where to look; default: the session of the task, or the one around.
        """
        wanted: list[Any] = [cls.task_id == number_of(task), cls.webhook_href == webhook]
        if event is not ...:
            wanted.append(cls.event_type.is_(None) if event is None else cls.event_type == event)
        found = session_of(task, session).scalars(select(cls).where(*wanted).order_by(cls.id))
        return found.all()


class OutboxMessage(Base):
    """A message to a hook that has not been delivered yet.

    It is written in the transaction of the change that it tells of, so that neither is there
    without the other. Its number is its place in the order of messages, its `owner` the server that
    the task belongs to.
    """

    __tablename__ = "webhook_outbox"
    __table_args__ = (
        Index(None, "task_id", "webhook_href", "id"),
        Index(None, "due_at"),
        Index(
            "uq_webhook_outbox_details",
            *("task_id", "webhook_href"),
            unique=True,
            sqlite_where=text("event = 'details' AND leased_until IS NULL"),
            postgresql_where=text("event = 'details' AND leased_until IS NULL"),
        ),
        {"sqlite_autoincrement": True},  # a number must not come back: receivers count by it
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    task_id: Mapped[int] = mapped_column(ForeignKey("processing_task.id", ondelete="CASCADE"))
    uid: Mapped[str] = mapped_column(UID)
    webhook_href: Mapped[str] = mapped_column(HREF)
    task_href: Mapped[str] = mapped_column(HREF)
    event: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(100))
    due_at: Mapped[datetime] = mapped_column(UTCDateTime)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, default_factory=utc_now)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    last_error: Mapped[str] = mapped_column(Text, default="")
    leased_until: Mapped[datetime | None] = mapped_column(UTCDateTime, default=None)
    owner: Mapped[str | None] = mapped_column(String(255), default=None)
