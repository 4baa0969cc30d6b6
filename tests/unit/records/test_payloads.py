"""What clients see of tasks, and may ask of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from milonga.errors import ArgumentError, RecordNotFound, RecordsError
from milonga.records import (
    MAX_SUBSCRIPTIONS,
    ProcessingTask,
    RecordCommands,
    RecordStore,
    TaskFile,
    TaskLink,
    TaskUpdateSubscription,
    add_step,
    save_task_result,
    start_task,
)

HOOK = "http://127.0.0.1:1/hook"


@pytest.fixture
def commands(store: RecordStore) -> RecordCommands:
    """Give the operations."""
    return RecordCommands(store, file_href=lambda file: f"/files/{file.id}/")


def view(commands: RecordCommands, task: int | str) -> dict[str, Any]:
    """Return a task as JSON says it."""
    seen: dict[str, Any] = json.loads(commands.get_task(task))
    return seen


def test_a_task_is_shown_in_the_shape_of_the_original(
    store: RecordStore, commands: RecordCommands
) -> None:
    """QA-01, QA-02, QA-04: camel case; what is not there is left out; subscribe comes first."""
    number = start_task(store, "Configure")
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.links.append(TaskLink("doc", "/doc"))
        session.commit()

    seen = view(commands, number)

    assert (seen["status"], seen["log"]) == ("PENDING", "")
    assert {"progress", "steps", "outputs"}.isdisjoint(seen)
    assert seen["links"] == [
        {"type": "subscribe", "href": f"/tasks/{number}/"},
        {"type": "doc", "href": "/doc"},
    ]
    with pytest.raises(RecordNotFound):
        commands.get_task(99)


@pytest.mark.parametrize("value", [0, 12.5])
def test_progress_is_shown_as_it_is(
    store: RecordStore, commands: RecordCommands, value: float
) -> None:
    """QA-02, C-9: also 0, and what is not whole."""
    number = start_task(store, "Configure")
    add_step(store, None, number, "s", "/do", "/ui", prog_value=value)

    assert view(commands, number)["progress"] == {
        "value": value,
        "start": 0.0,
        "target": 100.0,
        "unit": "%",
    }


def test_outputs_are_shown_when_the_task_is_over(
    store: RecordStore, commands: RecordCommands
) -> None:
    """QA-03: with type and mimetype, and no temporary ones."""
    number = start_task(store, "Configure")
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.outputs += [
            TaskFile("local", "a.png", "a", file_type="plot", mimetype="image/png"),
            TaskFile("local", "b", "b", file_type="plot"),
            TaskFile("local", "c", "c", file_type="temp-file", mimetype="text/plain"),
        ]
        session.commit()
    assert "outputs" not in view(commands, number)
    save_task_result(store, None, number)

    assert view(commands, number)["outputs"] == [
        {"dataType": "plot", "contentType": "image/png", "href": "/files/1/", "name": "a.png"}
    ]


def test_tasks_are_listed_page_by_page(store: RecordStore, commands: RecordCommands) -> None:
    """QA-08: the payload is a filter."""
    numbers = [start_task(store, "Configure") for _ in range(3)]
    first = json.loads(commands.list_tasks('{"limit": 2}'))
    second = json.loads(commands.list_tasks(json.dumps({"limit": 2, "cursor": first["next"]})))

    assert [task["id"] for task in first["tasks"] + second["tasks"]] == numbers[::-1]
    assert second["next"] is None
    assert json.loads(commands.list_tasks(""))["next"] is None


def subscriptions(store: RecordStore, number: int) -> list[str | None]:
    """Return the events that the hook subscribed to."""
    with store.reading():
        found = TaskUpdateSubscription.get_by_task_and_subscriber(number, HOOK)
    return [one.event_type for one in found]


def ask(command: str, event: str | None = "", hook: str = HOOK) -> str:
    """Return a payload; without an event if that is an empty text."""
    payload: dict[str, Any] = {"command": command, "webhookHref": hook}
    return json.dumps(payload | ({} if event == "" else {"event": event}))


def test_subscribing_answers_with_the_task(store: RecordStore, commands: RecordCommands) -> None:
    """QA-05, QA-06, C-14: who subscribes twice is called once."""
    number = start_task(store, "Configure")
    for _ in range(2):
        commands.post_task(number, ask("subscribe"))
        seen = json.loads(commands.post_task(number, ask("subscribe", "status")))

    assert seen["status"] == "PENDING"
    assert subscriptions(store, number) == [None, "status"]


def test_unsubscribing_without_an_event_ends_all(
    store: RecordStore, commands: RecordCommands
) -> None:
    """QA-07, C-13: null is the catch-all, nothing is everything."""
    number = start_task(store, "Configure")
    for event in ("", "status", "steps"):
        commands.post_task(number, ask("subscribe", event))
    commands.post_task(number, ask("unsubscribe", None))
    assert subscriptions(store, number) == ["status", "steps"]
    commands.post_task(number, ask("unsubscribe", "steps"))
    assert subscriptions(store, number) == ["status"]
    commands.post_task(number, ask("subscribe"))
    commands.post_task(number, ask("unsubscribe"))

    assert subscriptions(store, number) == []


def test_the_same_as_commands_of_a_device(store: RecordStore, commands: RecordCommands) -> None:
    """QA-08: the payload names the task."""
    number = start_task(store, "Configure")
    with store.reading():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
    payload = json.dumps({"uid": task.uid, "webhookHref": HOOK, "event": "status"})

    assert json.loads(commands.subscribe(payload))["uid"] == task.uid
    assert subscriptions(store, number) == ["status"]
    commands.unsubscribe(payload)
    assert subscriptions(store, number) == []
    assert json.loads(commands.explain(task.uid))["firstLine"] == "Configure waits to begin"


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ("nonsense", "payload: found"),
        (ask("delete"), "command: found 'delete'"),
        (json.dumps({"command": None, "webhookHref": HOOK}), "command: found None"),
        (ask("subscribe", "everything"), "event: found 'everything'"),
        (ask("subscribe", hook="file:///etc/passwd"), "webhookHref: found"),
        (ask("subscribe", hook="http://127.0.0.1/" + "x" * 500), "webhookHref: found"),
    ],
)
def test_bad_payloads_are_refused_with_the_field(
    store: RecordStore, commands: RecordCommands, payload: str, problem: str
) -> None:
    """QA-05: field, value and what was expected."""
    with pytest.raises(ArgumentError, match=problem):
        commands.post_task(start_task(store, "Configure"), payload)


def test_a_task_has_a_bounded_number_of_subscriptions(
    store: RecordStore, commands: RecordCommands
) -> None:
    """C-14: and addresses are checked by whoever knows which are allowed."""
    number = start_task(store, "Configure")
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.subscriptions += [
            TaskUpdateSubscription(f"{HOOK}{n}", "/") for n in range(MAX_SUBSCRIPTIONS)
        ]
        session.commit()
    with pytest.raises(ArgumentError, match="has 100 subscriptions"):
        commands.post_task(number, ask("subscribe"))

    def check(href: str) -> None:
        raise ValueError(f"not {href}")

    with pytest.raises(ValueError, match="not http"):
        RecordCommands(store, check_webhook=check).post_task(number, ask("subscribe"))


# The outbox


def test_what_a_database_raises_is_told_in_a_line(
    store: RecordStore, commands: RecordCommands
) -> None:
    """QA-08: a text, not a trace with the statement and its values."""
    asked = {"uid": "c1", "webhookHref": HOOK}
    with store.engine.begin() as connection:
        connection.execute(text("ALTER TABLE processing_task RENAME TO elsewhere"))
    questions: list[Callable[[], str]] = [
        lambda: commands.get_task("c1"),
        lambda: commands.list_tasks('{"device": "secret"}'),
        lambda: commands.explain("c1"),
        lambda: commands.get_log('{"uid": "c1"}'),
        lambda: commands.subscribe(json.dumps(asked)),
        lambda: commands.unsubscribe(json.dumps(asked)),
    ]
    try:
        for question in questions:
            with pytest.raises(RecordsError, match=r"store: found .*processing_task") as told:
                question()
            assert "SELECT" not in str(told.value)
            assert "secret" not in str(told.value)
    finally:
        with store.engine.begin() as connection:
            connection.execute(text("ALTER TABLE elsewhere RENAME TO processing_task"))


def test_a_number_that_no_database_takes_is_told_so(commands: RecordCommands) -> None:
    """QA-08: whatever a client may send."""
    with pytest.raises(RecordsError):
        commands.get_task(10**30)
