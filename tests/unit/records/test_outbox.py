"""Messages to hooks that wait in the store."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from milonga.records import (
    NewTask,
    RecordCommands,
    Recorder,
    RecorderSettings,
    RecordStore,
    Situation,
    TaskUpdateSubscription,
    WebhookOutbox,
    add_step,
    clear_step,
    save_task_result,
    start_task,
)

SOON = 20.0
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
    assert sent == ["details", "steps", "steps", "steps", "steps", "status"]
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


@pytest.mark.parametrize("together", [True, False])
def test_the_end_of_a_task_is_the_last_that_is_told(store: RecordStore, together: bool) -> None:
    """QW-03: each step is told, and nothing after the end, whatever was written with it."""
    commands, outbox = RecordCommands(store), WebhookOutbox(store)
    with Recorder(store, "srv/1", RecorderSettings(linger=60.0)) as recorder:
        recorder.open(NewTask(uid="c1", task_name="On"))
        assert recorder.flush(SOON)
        commands.subscribe(json.dumps({"uid": "c1", "webhookHref": HOOK}))
        for node in ("c1/a", "c1/b"):
            recorder.open(NewTask(uid=node, task_name="On", parent_uid="c1"))
        if not together:
            assert recorder.flush(SOON)
        recorder.finish("c1", Situation.DONE)
        for node in ("c1/a", "c1/b"):
            recorder.finish(node, Situation.DONE)
        recorder.add_step("c1", "s", "/do")
        recorder.clear_step("c1")
        recorder.log("c1", "that was it")
        assert recorder.flush(SOON)
        recorder.log("c1", "the results are stored")
        assert recorder.flush(SOON)

    sent = []
    while messages := outbox.take(10):
        sent += [message.event for message in messages]
        outbox.delivered([message.id for message in messages])
    of_nodes = 1 if together else 2
    assert sorted(sent) == ["details", "status", *["steps"] * (2 + of_nodes)]
    assert sent[-1] == "status"


def ended_task(store: RecordStore, uid: str, owner: str, *, signs: bool = False) -> None:
    """Have a server end a task that a hook follows."""
    with Recorder(store, owner, RecorderSettings(signs=signs)) as recorder:
        recorder.open(NewTask(uid=uid, task_name="On"))
        assert recorder.flush(SOON)
        wish = {"uid": uid, "webhookHref": HOOK, "event": "status"}
        RecordCommands(store).subscribe(json.dumps(wish))
        recorder.finish(uid, Situation.DONE)
        assert recorder.flush(SOON)


def test_each_server_delivers_what_is_about_its_own_tasks(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QW-05, QW-06: it has the secret and the list of hosts; others only once it is gone."""
    store = open_store(clock)
    ended_task(store, "c1", "srv/1")
    one, two = (WebhookOutbox(store, owner=f"srv/{number}", lease=1.0) for number in (1, 2))

    assert (two.take(10), two.next_due()) == ([], None)
    assert one.next_due() == clock.now
    (own,) = one.take(10)
    assert own.is_own
    clock.advance(61)
    (left,) = two.take(10)
    assert (left.id, left.is_own) == (own.id, False)


def test_what_is_to_be_signed_is_left_by_those_who_cannot(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QW-05: a message without its signature would be refused, or worse, believed."""
    store = open_store(clock)
    ended_task(store, "c1", "srv/1", signs=True)
    clock.advance(61)

    assert WebhookOutbox(store, owner="srv/2").take(10) == []
    (message,) = WebhookOutbox(store, owner="srv/3", signs=True).take(10)
    assert message.uid == "c1"


def test_messages_about_tasks_of_nobody_are_for_everybody(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QE-01: a program that starts tasks need not be a server."""
    store = open_store(clock)
    number = start_task(store, "Configure")
    RecordCommands(store).post_task(number, ask("subscribe", "status"))
    save_task_result(store, None, number)

    (message,) = WebhookOutbox(store, owner="srv/1").take(10)
    assert message.is_own


def test_the_outbox_is_bounded_for_each_hook(
    open_store: Callable[..., RecordStore], caplog: pytest.LogCaptureFixture
) -> None:
    """QW-05: details go first, then the oldest; it is said, and other hooks lose nothing."""
    store = open_store(max_outbox=3, details_interval=0.0)
    commands, outbox = RecordCommands(store), WebhookOutbox(store)
    other = "http://127.0.0.1:2/hook"
    for _ in range(4):
        number = start_task(store, "Configure")
        commands.post_task(number, ask("subscribe"))
        commands.post_task(number, ask("subscribe", "status", other))
        save_task_result(store, "a line", number)

    waiting = [(message.webhook_href, message.event) for message in outbox.take(100)]
    assert waiting == [(HOOK, "status"), (other, "status")] * 3
    assert store.outbox_bound.dropped == 6
    assert f"webhook {HOOK}: " in caplog.text


def test_a_hook_that_fails_is_asked_to_take_what_was_tried_least(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QW-02: a message that it never takes is not the only one that it is offered."""
    store = open_store(clock)
    commands, outbox = RecordCommands(store), WebhookOutbox(store)
    for _ in range(2):
        number = start_task(store, "Configure")
        commands.post_task(number, ask("subscribe", "status"))
        save_task_result(store, None, number)
    first, second = outbox.take(2, only={HOOK})
    for message in (first, second):
        outbox.failed(message.id, "refused", clock.now)
    outbox.failed(first.id, "refused", clock.now)

    assert [message.id for message in outbox.take(1, only={HOOK})] == [second.id]
    assert outbox.take(1, only={"http://127.0.0.1:2/hook"}) == []
    assert (outbox.take(1, without={HOOK}), outbox.next_due(without={HOOK})) == ([], None)
    assert outbox.expire(HOOK, clock.now) == 2
    assert outbox.waiting() == 0
