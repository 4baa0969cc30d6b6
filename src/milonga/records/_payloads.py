"""The operations on records as functions from JSON to JSON, for commands of a device (QA-08)."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from milonga.errors import ArgumentError
from milonga.records._events import insert_ignoring
from milonga.records._explain import explain
from milonga.records._lifecycle import TaskKey, find_task
from milonga.records._log_view import LogFilter, log_page
from milonga.records._plainly import told_plainly
from milonga.records._query import TaskFilter, find_page
from milonga.records._store import RecordStore
from milonga.records._subscription_model import TaskEvent, TaskUpdateSubscription
from milonga.records._task_model import ProcessingTask
from milonga.records._types import dump_json
from milonga.records._view import FileHref, TaskHref, summary_view, task_href, task_view

__all__ = ["MAX_SUBSCRIPTIONS", "RecordCommands"]

_Model = TypeVar("_Model", bound=BaseModel)

MAX_SUBSCRIPTIONS = 100
"""Subscriptions that one task may have."""


class _Wish(BaseModel):
    """The payload of a subscription."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)

    webhook_href: Annotated[AnyHttpUrl, Field(max_length=500)]
    event: TaskEvent | None = None


class _Command(_Wish):
    """The payload that QHAna's clients post to a task."""

    command: Literal["subscribe", "unsubscribe"]


class _WishFor(_Wish):
    """The payload of a command, which has to name the task."""

    uid: str


class RecordCommands:
    """What clients may ask of records; payloads and answers are JSON texts.

    Parameters
    ----------
    store : RecordStore
        The store.
    href, file_href : callable, optional
        Addresses of tasks and files.
    check_webhook : callable, optional
        Raises for an address that must not be called.

    Raises
    ------
    ArgumentError
        By each method, for a payload that is not valid; the text names field, value and what was
        expected.
    RecordNotFound
        By each method, for a task that is not there.
    RecordsError
        By each method, if the store does not answer.
    """

    def __init__(
        self,
        store: RecordStore,
        *,
        href: TaskHref = task_href,
        file_href: FileHref | None = None,
        check_webhook: Callable[[str], object] | None = None,
    ) -> None:
        self._store = store
        self._href = href
        self._file_href = file_href
        self._check_webhook = check_webhook

    def get_task(self, task: TaskKey) -> str:
        """Return a task, by its number or unique name (QA-01)."""
        with self._reading() as session:
            return dump_json(self._view(find_task(session, task)))

    def get_log(self, payload: str) -> str:
        """Return a page of a task's log, by a `LogFilter`: the last one, or one before it."""
        wanted = _parsed(LogFilter, payload)
        with self._reading() as session:
            number = find_task(session, wanted.uid).id
            page = log_page(session, number, wanted.before, wanted.limit)
            told = {"earlierEntries": page.left_out, "logCursor": page.earlier}
            return dump_json({"entries": page.entries()} | told)

    def list_tasks(self, payload: str = "{}") -> str:
        """Return a page of tasks that match a `TaskFilter`, newest first."""
        wanted = _parsed(TaskFilter, payload or "{}")
        with self._reading() as session:
            page = find_page(session, wanted)
            return dump_json(
                {"tasks": [summary_view(task) for task in page.tasks], "next": page.next}
            )

    def explain(self, task: TaskKey) -> str:
        """Return why a task failed, or what it waits for."""
        with self._reading() as session:
            return dump_json(explain(session, task).as_json())

    def subscribe(self, payload: str) -> str:
        """Subscribe to a task named by ``uid``, and return it as it is now (QA-05)."""
        wish = _parsed(_WishFor, payload)
        return self._subscribe(wish.uid, wish)

    def unsubscribe(self, payload: str) -> str:
        """End a subscription to a task named by ``uid``, and return the task (QA-07)."""
        wish = _parsed(_WishFor, payload)
        return self._unsubscribe(wish.uid, wish)

    def post_task(self, task: TaskKey, payload: str) -> str:
        """Do what a client posted to a task: ``subscribe`` or ``unsubscribe`` (QA-05)."""
        command = _parsed(_Command, payload)
        known = {"subscribe": self._subscribe, "unsubscribe": self._unsubscribe}
        return known[command.command](task, command)

    def _subscribe(self, key: TaskKey, wish: _Wish) -> str:
        webhook = str(wish.webhook_href)
        if self._check_webhook is not None:
            self._check_webhook(webhook)
        subscription = TaskUpdateSubscription
        with told_plainly(), self._store.session() as session:
            task = find_task(session, key, locked=True)
            count = session.scalar(select(func.count()).where(subscription.task_id == task.id))
            known = subscription.get_by_task_and_subscriber(
                task, webhook, wish.event, session=session
            )
            if not known and (count or 0) >= MAX_SUBSCRIPTIONS:
                raise ArgumentError(
                    f"subscribe: task {task.uid} has {count} subscriptions, "
                    f"expected < {MAX_SUBSCRIPTIONS}"
                )
            # The unique index decides, not the look before: two may come at the same time (C-14).
            row = {
                "task_id": task.id,
                "webhook_href": webhook,
                "task_href": self._href(task),
                "event_type": wish.event.value if wish.event else None,
            }
            connection = session.connection()
            connection.execute(insert_ignoring(connection, subscription), row)
            session.commit()
            return dump_json(self._view(task))

    def _unsubscribe(self, key: TaskKey, wish: _Wish) -> str:
        subscription = TaskUpdateSubscription
        with told_plainly(), self._store.session() as session:
            task = find_task(session, key, locked=True)
            theirs = delete(subscription).where(
                subscription.task_id == task.id,
                subscription.webhook_href == str(wish.webhook_href),
            )
            if "event" in wish.model_fields_set:
                theirs = theirs.where(
                    subscription.event_type.is_(None)
                    if wish.event is None
                    else subscription.event_type == wish.event.value
                )
            session.execute(theirs)
            session.commit()
            return dump_json(self._view(task))

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with told_plainly(), self._store.reading() as session:
            yield session

    def _view(self, task: ProcessingTask) -> dict[str, Any]:
        return task_view(task, href=self._href, file_href=self._file_href)


def _parsed(model: type[_Model], payload: str) -> _Model:
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise ArgumentError("; ".join(map(_problem, error.errors()))) from error


def _problem(problem: Mapping[str, Any]) -> str:
    where = ".".join(map(str, problem["loc"])) or "payload"
    text = str(problem["msg"]).removeprefix("Value error, ")
    said = text.startswith("found ")  # by our own validators
    return f"{where}: {text}" if said else f"{where}: found {problem['input']!r:.80}; {text}"
