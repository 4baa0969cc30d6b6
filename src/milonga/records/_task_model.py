"""The record of a task: one command, or one node of its tree."""

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    inspect,
    select,
    text,
)
from sqlalchemy.ext.orderinglist import ordering_list
from sqlalchemy.orm import (
    Mapped,
    Session,
    WriteOnlyMapped,
    mapped_column,
    object_session,
    relationship,
)

from milonga.records._clock import utc_now
from milonga.records._sessions import keep, session_of
from milonga.records._step_model import Step, TaskLogLine, next_step_id
from milonga.records._tables import NAME, SCHEMA_VERSION, UID, Base, in_words
from milonga.records._tracked import track_changes
from milonga.records._types import JSON_COLUMN, UTCDateTime
from milonga.records._words import (
    CAUSES,
    TERMINAL_WORDS,
    Phase,
    RecordStatus,
    Situation,
    situation_of_record,
)

if TYPE_CHECKING:
    from milonga.records._file_model import TaskFile, TaskLink
    from milonga.records._subscription_model import TaskUpdateSubscription

__all__ = ["ProcessingTask", "TaskRun"]


def _moment(**options: Any) -> Mapped[datetime | None]:
    return mapped_column(UTCDateTime, default=None, **options)


def _children(**options: Any) -> Any:
    return relationship(
        cascade="all, delete-orphan", passive_deletes=True, init=False, repr=False, **options
    )


class ProcessingTask(Base):
    """What is known of one task: a command, or a node of the tree that a command became.

    The columns of QHAna's record keep their names and meanings; the tree, the command's outcome
    and its times are added. A task belongs to the session that it was read from, and to the
    thread of that session.

    Parameters
    ----------
    task_name : str
        What the task does.
    uid : str, optional
        Unique name that exists before the row does: the id of the long-running command, or
        `node_uid` of a node. Default: a new random one.
    parameters : str, optional
        The argument, as the client sent it.
    data : JSON value, optional
        Anything; changes inside it are stored as well.
    parent_id, root_id : int, optional
        The node above, and the command that the node belongs to; both None for a command.

    Attributes
    ----------
    status : RecordStatus
        PENDING until `finished_at` is set.
    device, command, command_id : str or None
        Whom the task commands, and the id that this one gave to the command.
    kind, position, attempt : str, int, int
        The node's type, its place among its siblings, and which try this is, from 1.
    issuer, origin : str or None
        Who asked for it, and from where.
    owner, heartbeat_at : str or None, datetime or None
        Which server runs it, and when the record last heard of it.
    started_at, queued_at, running_at, finished_at, deadline_at : datetime or None
        When the record was made, the command queued, begun and over, and when it must be over.
    recorded_late : bool
        Whether the database was away when the record should have been made.
    version : int
        Counts the writes; a session that writes over somebody else's write is refused.
    """

    __tablename__ = "processing_task"
    __table_args__ = (
        CheckConstraint(in_words("task_status", (*TERMINAL_WORDS, "PENDING")), "status"),
        CheckConstraint(in_words("cause", CAUSES), "cause"),
        CheckConstraint(in_words("phase", tuple(Phase)), "phase"),
        CheckConstraint("finished_at IS NULL OR finished_at >= started_at", "times"),
        CheckConstraint("attempt >= 1", "attempt"),
        Index(None, "started_at", "id"),
        Index(None, "parent_id", "started_at"),
        Index(None, "root_id"),
        Index(None, "task_status", "started_at"),
        Index(None, "device", "started_at"),
        Index(None, "command", "started_at"),
        Index(None, "issuer", "started_at"),
        Index(
            "ix_processing_task_open",
            *("owner", "started_at"),
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},  # a number must not come back: files are stored under it
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, init=False)
    task_name: Mapped[str] = mapped_column(NAME)
    parameters: Mapped[str] = mapped_column(Text, default="")
    uid: Mapped[str] = mapped_column(UID, unique=True, default_factory=lambda: uuid.uuid4().hex)
    data: Mapped[Any] = mapped_column(JSON_COLUMN, nullable=False, default_factory=dict)
    started_at: Mapped[datetime] = mapped_column(UTCDateTime, default_factory=utc_now)
    finished_at: Mapped[datetime | None] = _moment()
    multi_step: Mapped[bool] = mapped_column(Boolean, default=False)
    current_step: Mapped[int] = mapped_column(Integer, default=-1)
    progress_value: Mapped[float | None] = mapped_column(Float, default=None)
    progress_start: Mapped[float] = mapped_column(Float, default=0)
    progress_target: Mapped[float] = mapped_column(Float, default=100)
    progress_unit: Mapped[str] = mapped_column(String(100), default="%")
    task_status: Mapped[str | None] = mapped_column(String(100), default=None)

    parent_id: Mapped[int | None] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), default=None
    )
    root_id: Mapped[int | None] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), default=None
    )
    kind: Mapped[str] = mapped_column(String(32), default="command")
    position: Mapped[int] = mapped_column(Integer, default=0)
    device: Mapped[str | None] = mapped_column(String(255), default=None)
    command: Mapped[str | None] = mapped_column(String(255), default=None)
    command_id: Mapped[str | None] = mapped_column(UID, default=None)
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    phase: Mapped[str] = mapped_column(String(16), default=Phase.QUEUED.value)
    cause: Mapped[str | None] = mapped_column(String(16), default=None)
    result_code: Mapped[str | None] = mapped_column(String(16), default=None)
    health_state: Mapped[str | None] = mapped_column(String(16), default=None)
    message: Mapped[str] = mapped_column(Text, default="")
    error: Mapped[str] = mapped_column(Text, default="")
    issuer: Mapped[str | None] = mapped_column(String(255), default=None)
    origin: Mapped[str | None] = mapped_column(String(255), default=None)
    owner: Mapped[str | None] = mapped_column(String(255), default=None)
    queued_at: Mapped[datetime | None] = _moment()
    running_at: Mapped[datetime | None] = _moment()
    deadline_at: Mapped[datetime | None] = _moment()
    heartbeat_at: Mapped[datetime | None] = _moment()
    recorded_late: Mapped[bool] = mapped_column(Boolean, default=False)
    schema_version: Mapped[int] = mapped_column(Integer, init=False, default=SCHEMA_VERSION)
    version: Mapped[int] = mapped_column(Integer, init=False)

    steps: Mapped[list[Step]] = _children(
        order_by=Step.number, collection_class=ordering_list("number"), back_populates="task"
    )
    log_lines: WriteOnlyMapped[TaskLogLine] = _children(order_by=TaskLogLine.id)
    outputs: Mapped[list["TaskFile"]] = _children(back_populates="task")
    links: Mapped[list["TaskLink"]] = _children(back_populates="task", lazy="selectin")
    subscriptions: Mapped[list["TaskUpdateSubscription"]] = _children(back_populates="task")
    runs: Mapped[list["TaskRun"]] = _children()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy reads it

    @property
    def is_finished(self) -> bool:
        """Whether the task is over (QL-01)."""
        return self.finished_at is not None

    @property
    def is_ok(self) -> bool:
        """Whether the task is over and all of it went well (QL-02)."""
        return self.is_finished and self.task_status == RecordStatus.SUCCESS

    @property
    def status(self) -> RecordStatus:
        """PENDING until the task is over; UNKNOWN if it is over and nobody wrote how (QL-03)."""
        if not self.is_finished:
            return RecordStatus.PENDING
        return RecordStatus(self.task_status) if self.task_status else RecordStatus.UNKNOWN

    @property
    def situation(self) -> Situation:
        """How the task stands, in the vocabulary that knows all others."""
        return situation_of_record(
            Phase.FINISHED if self.is_finished else self.phase, self.task_status, self.cause
        )

    @property
    def progress_percent(self) -> float | None:
        """How far the task is, from 0 to 100; None if that is not known (QE-08)."""
        if self.progress_value is None:
            return None
        span = self.progress_target - self.progress_start
        return 100.0 if span == 0 else 100.0 * (self.progress_value - self.progress_start) / span

    @property
    def has_uncleared_step(self) -> bool:
        """Whether a step waits for input (QL-05)."""
        return any(not step.cleared for step in self.steps)

    @property
    def task_log(self) -> str:
        """The log, one entry per line."""
        session = object_session(self)
        if session is None:
            return "\n".join(line.text for line in inspect(self).attrs.log_lines.history.added)
        session.flush()
        lines = select(TaskLogLine.text).where(TaskLogLine.task_id == self.id)
        return "\n".join(session.scalars(lines.order_by(TaskLogLine.id)))

    def add_next_step(self, href: str, ui_href: str, step_id: str, commit: bool = False) -> Step:
        """Add a step that waits for input (QL-06).

        Parameters
        ----------
        href, ui_href : str
            Where the input goes, and where a person gives it.
        step_id : str
            Name of the step. It is joined to the name of the step before by a dot, unless it
            begins with that name.
        commit : bool, optional
            Whether to commit the session.

        Raises
        ------
        AssertionError
            If the step before has not been cleared.
        """
        before = self.steps[-1] if self.steps else None
        if before is not None and not before.cleared:
            raise AssertionError(
                f"task {self.uid}: step {before.step_id!r} must be cleared before a new one"
            )
        step = Step(
            step_id=next_step_id(before.step_id if before else None, step_id),
            href=href,
            ui_href=ui_href,
        )
        self.multi_step = True
        self.current_step = len(self.steps)
        self.steps.append(step)
        keep(self, commit)
        return step

    def clear_previous_step(self, commit: bool = False) -> Step | None:
        """Mark the current step as cleared, and return it; None if there is none (QL-07)."""
        step = self.steps[-1] if self.steps else None
        if step is not None and not step.cleared:
            step.cleared = True
            keep(self, commit)
        return step

    def add_task_log_entry(self, entry: str, commit: bool = False) -> None:
        """Append to the log; the lines before are not read or written again (QL-08)."""
        self.log_lines.add(TaskLogLine(text=entry))
        keep(self, commit)

    def save(self, commit: bool = False, *, session: Session | None = None) -> None:
        """Add the task to a session, by default that of the ``with store.session()`` around."""
        session_of(self, session).add(self)
        keep(self, commit)

    @classmethod
    def get_by_id(cls, id_: int, *, session: Session | None = None) -> "ProcessingTask | None":
        """Return the task of a number, or None."""
        return session_of(None, session).get(cls, id_)

    @classmethod
    def get_by_uid(cls, uid: str, *, session: Session | None = None) -> "ProcessingTask | None":
        """Return the task of a unique name, or None."""
        return session_of(None, session).scalar(select(cls).where(cls.uid == uid))


class TaskRun(Base):
    """A run of an experiment that a task made, by the uid in its start document."""

    __tablename__ = "task_run"
    __table_args__ = (Index(None, "run_uid"),)

    task_id: Mapped[int] = mapped_column(
        ForeignKey("processing_task.id", ondelete="CASCADE"), primary_key=True, init=False
    )
    run_uid: Mapped[str] = mapped_column(String(64), primary_key=True)


track_changes(ProcessingTask.data)
