"""Messages to hooks that wait in the store."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from milonga.records import (
    RecordCommands,
    RecordStore,
    TaskUpdateSubscription,
    WebhookOutbox,
    add_step,
    clear_step,
    save_task_result,
    start_task,
)

HOOK = "http://127.0.0.1:1/hook"


@pytest.fixture
def commands(store: RecordStore) -> RecordCommands:
    """Give the operations."""
    return RecordCommands(store, file_href=lambda file: f"/files/{file.id}/")


def subscriptions(store: RecordStore, number: int) -> list[str | None]:
    """Return the events that the hook subscribed to."""
    with store.reading():
        found = TaskUpdateSubscription.get_by_task_and_subscriber(number, HOOK)
    return [one.event_type for one in found]


def ask(command: str, event: str | None = "", hook: str = HOOK) -> str:
    """Return a payload; without an event if that is an empty text."""
    payload: dict[str, Any] = {"command": command, "webhookHref": hook}
    return json.dumps(payload | ({} if event == "" else {"event": event}))


def test_messages_leave_in_the_order_of_their_task(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QW-03, QW-05: one at a time for each hook and task; details are gathered."""
    store = open_store(clock)
    commands, outbox = RecordCommands(store), WebhookOutbox(store, lease=30)
    number = start_task(store, "Configure")
    commands.post_task(number, ask("subscribe"))
    add_step(store, "one", number, "a", "/do", "/ui")
    clear_step(store, number)
    add_step(store, "two", number, "b", "/do", "/ui")
    save_task_result(store, None, number)

    sent = []
    while messages := outbox.take(10):
        assert len(messages) == 1
        assert outbox.take(10) == []  # leased
        sent.append(messages[0].event)
        outbox.delivered([messages[0].id])
    assert sent == ["details", "steps", "steps", "steps", "status", "steps"]
    assert outbox.next_due() is None


def test_details_wait_to_be_gathered(open_store: Callable[..., RecordStore], clock: Any) -> None:
    """QW-05: at most one a second, and none is held up by them."""
    store = open_store(clock, details_interval=1.0)
    commands, outbox = RecordCommands(store), WebhookOutbox(store)
    number = start_task(store, "Configure")
    commands.post_task(number, ask("subscribe", "details"))
    for _ in range(3):
        add_step(store, "line", number, "a", "/do", "/ui")
        clear_step(store, number)

    assert outbox.take(10) == []
    assert outbox.waiting() == 1
    due = outbox.next_due()
    assert due is not None
    clock.advance((due - clock.now).total_seconds())
    assert [message.event for message in outbox.take(10)] == ["details"]


def test_what_did_not_arrive_is_sent_again(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QW-05: after its wait; after a crash of the deliverer, when its lease is over."""
    store = open_store(clock)
    commands, outbox = RecordCommands(store), WebhookOutbox(store, lease=30)
    number = start_task(store, "Configure")
    commands.post_task(number, ask("subscribe", "status"))
    save_task_result(store, None, number)
    (message,) = outbox.take(10)
    clock.advance(31)
    (again,) = outbox.take(10)
    assert again.id == message.id
    outbox.failed(again.id, "refused", clock.now)
    (third,) = outbox.take(10)
    assert third.attempts == 1
    outbox.given_up(third.id)

    assert outbox.waiting() == 0


def test_the_outbox_is_bounded(open_store: Callable[..., RecordStore]) -> None:
    """QW-05: the oldest messages go."""
    store = open_store(max_outbox=3)
    commands, outbox = RecordCommands(store), WebhookOutbox(store)
    number = start_task(store, "Configure")
    commands.post_task(number, ask("subscribe", "steps"))
    for _ in range(5):
        add_step(store, None, number, "a", "/do", "/ui")
        clear_step(store, number)

    assert outbox.waiting() == 3
