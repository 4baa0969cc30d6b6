"""What a program does to its tasks, and what clients may ask of them."""

import json
import threading
from typing import Any

import pytest

from milonga.records import (
    ProcessingTask,
    RecordCommands,
    RecordStatus,
    RecordStore,
    add_step,
    clear_step,
    save_task_error,
    save_task_result,
    start_task,
)

HOOK = "http://127.0.0.1:1/hook"


@pytest.fixture
def commands(store: RecordStore) -> RecordCommands:
    """Give the operations."""
    return RecordCommands(store, file_href=lambda file: f"/files/{file.id}/")


@pytest.fixture
def heard(store: RecordStore) -> list[str]:
    """Give the events that are announced."""
    events: list[str] = []
    store.listen(lambda news: events.extend(one.event.value for one in news))
    return events


def view(commands: RecordCommands, task: int | str) -> dict[str, Any]:
    """Return a task as JSON says it."""
    seen: dict[str, Any] = json.loads(commands.get_task(task))
    return seen


# The lifecycle


def test_the_record_is_there_before_the_work(store: RecordStore) -> None:
    """QE-01: made and committed with its parameters."""
    number = start_task(store, "Configure", '{"a": 1}')

    with store.reading():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        assert (task.parameters, task.status) == ('{"a": 1}', RecordStatus.PENDING)


def test_a_result_ends_the_task_and_its_step(
    store: RecordStore, commands: RecordCommands, heard: list[str]
) -> None:
    """QE-03: progress to its target, step cleared, log appended, three events."""
    number = start_task(store, "Configure")
    add_step(store, "please", number, "tune", "/do", "/ui")
    heard.clear()

    assert save_task_result(store, "all done", number)

    seen = view(commands, number)
    assert (seen["status"], seen["log"]) == ("SUCCESS", "please\nall done")
    assert seen["progress"] == {"value": 1.0, "start": 0.0, "target": 1.0, "unit": ""}
    assert seen["steps"][0]["cleared"] is True
    assert heard == ["status", "details", "steps"]


def test_progress_that_stands_at_zero_goes_to_its_target(
    store: RecordStore, commands: RecordCommands
) -> None:
    """QE-03, C-9: 0 is a progress; None is none."""
    number = start_task(store, "Configure")
    add_step(store, None, number, "tune", "/do", "/ui", prog_value=0)
    save_task_result(store, None, number)

    assert view(commands, number)["progress"]["value"] == 100.0


def test_an_error_ends_the_task_and_its_step(
    store: RecordStore, commands: RecordCommands, heard: list[str]
) -> None:
    """QE-04, C-5: FAILURE, the trace in the log, the step cleared and told of."""
    number = start_task(store, "Configure")
    add_step(store, None, number, "tune", "/do", "/ui")
    heard.clear()
    with pytest.raises(ValueError, match="band") as caught:
        int("no such band")
    assert save_task_error(store, caught.value, number)

    seen = view(commands, number)
    assert seen["status"] == "FAILURE"
    assert seen["log"].startswith("ValueError(")
    assert "Traceback" in seen["log"]
    assert seen["steps"][0]["cleared"] is True
    assert heard == ["status", "details", "steps"]


def test_an_error_is_not_followed_by_success(store: RecordStore, heard: list[str]) -> None:
    """QE-09, C-4: the first end stays, and nobody is told of another."""
    number = start_task(store, "Configure")
    save_task_error(store, "broken", number)
    heard.clear()

    assert save_task_result(store, "fine", number) is False

    with store.reading():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        assert task.status is RecordStatus.FAILURE
    assert heard == []


def test_unknown_tasks_and_strange_logs(
    store: RecordStore, caplog: pytest.LogCaptureFixture
) -> None:
    """QE-03, QE-04: a result wants a task that is there, an error is only logged."""
    with pytest.raises(KeyError, match="no record of 99"):
        save_task_result(store, None, 99)
    with pytest.raises(TypeError, match="found int"):
        save_task_result(store, 5, start_task(store, "x"))  # type: ignore[arg-type]
    assert save_task_error(store, "broken", 99) is False
    assert "an unknown task failed: broken" in caplog.text


def test_steps_count_as_progress(
    store: RecordStore, commands: RecordCommands, heard: list[str]
) -> None:
    """QE-05, QE-06: without a value it is the steps done, of those known."""
    number = start_task(store, "Configure")
    for name in ("one", "two"):
        add_step(store, f"log {name}", number, name, "/do", "/ui")
        assert clear_step(store, number) is not None
    assert clear_step(store, number) is not None  # cleared before: nothing is told

    seen = view(commands, number)
    assert seen["progress"] == {"value": 1.0, "start": 0.0, "target": 2.0, "unit": ""}
    assert [step["stepId"] for step in seen["steps"]] == ["one", "one.two"]
    assert heard == ["steps", "details", "steps"] * 2


def test_two_workers_get_different_steps(store: RecordStore) -> None:
    """C-7: one of them waits, then is told that the other's step is open."""
    number = start_task(store, "Configure")
    outcomes: list[str] = []
    barrier = threading.Barrier(2)

    def work() -> None:
        barrier.wait()
        try:
            add_step(store, None, number, "s", "/do", "/ui")
            outcomes.append("added")
        except AssertionError:
            outcomes.append("refused")

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["added", "refused"]


# What clients see
