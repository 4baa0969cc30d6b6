"""Files, links and subscriptions of tasks, and values by device."""

from typing import Any

import pytest
from sqlalchemy import select, text

from milonga.errors import RecordsError
from milonga.records import (
    DataBlob,
    PluginState,
    ProcessingTask,
    RecordStore,
    Step,
    TaskFile,
    TaskLink,
    TaskUpdateSubscription,
    WebhookRef,
)

HOOK = "http://127.0.0.1:1/hook"


def saved(store: RecordStore, **columns: Any) -> int:
    """Make a task and return its number."""
    with store.session():
        task = ProcessingTask("Configure", **columns)
        task.save(commit=True)
        return task.id


def test_only_temporary_files_are_no_results(store: RecordStore) -> None:
    """QL-11, C-19: a file of no type is a result."""
    number = saved(store)
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.outputs += [
            TaskFile("local", "a", "a", file_type="plot"),
            TaskFile("local", "b", "b", file_type="temp-file"),
            TaskFile("local", "c", "c"),
        ]
        session.commit()
        assert [one.file_name for one in TaskFile.get_task_result_files(task)] == ["a", "c"]
        assert len(TaskFile.get_task_result_files(number)) == 2


@pytest.fixture
def subscribed(store: RecordStore) -> int:
    """Give a task with three subscriptions of two hooks."""
    number = saved(store)
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.subscriptions += [
            TaskUpdateSubscription(HOOK, "/tasks/1/"),
            TaskUpdateSubscription(HOOK, "/tasks/1/", "status"),
            TaskUpdateSubscription(f"{HOOK}2", "/tasks/1/", "steps"),
        ]
        session.commit()
    return number


@pytest.mark.parametrize(("event", "hooks"), [("status", 1), ("steps", 2), (None, 2)])
def test_each_hook_is_called_once_for_an_event(
    store: RecordStore, subscribed: int, event: str | None, hooks: int
) -> None:
    """QL-12, QL-14: the catch-all counts for every event."""
    with store.reading():
        found = TaskUpdateSubscription.get_by_task_and_event(subscribed, event)

    assert len(found) == hooks
    assert found[0] == WebhookRef(HOOK, "/tasks/1/") == (HOOK, "/tasks/1/")


@pytest.mark.parametrize(("event", "count"), [(..., 2), (None, 1), ("status", 1), ("steps", 0)])
def test_the_subscriptions_of_one_hook(
    store: RecordStore, subscribed: int, event: Any, count: int
) -> None:
    """QL-13: Ellipsis is all, None the catch-all, a text that event."""
    with store.reading():
        found = TaskUpdateSubscription.get_by_task_and_subscriber(subscribed, HOOK, event)

    assert len(found) == count


def test_nothing_is_left_of_a_task_that_is_deleted(store: RecordStore, subscribed: int) -> None:
    """QM-06, C-10: steps, files, links and subscriptions go along."""
    with store.session() as session:
        task = ProcessingTask.get_by_id(subscribed)
        assert task is not None
        task.add_next_step("/", "/", "s")
        task.add_task_log_entry("l")
        task.outputs.append(TaskFile("local", "a", "a"))
        task.links.append(TaskLink("doc", "/doc"))
        session.commit()
        session.delete(task)
        session.commit()

    with store.reading() as session:
        for model in (Step, TaskFile, TaskLink, TaskUpdateSubscription):
            assert session.scalars(select(model)).all() == []


def test_deleting_a_command_deletes_its_tree(store: RecordStore) -> None:
    """QM-06: also by plain SQL."""
    root = saved(store)
    saved(store, parent_id=root, root_id=root)
    with store.writing() as transaction:
        transaction.connection.execute(text(f"DELETE FROM processing_task WHERE id = {root}"))  # noqa: S608

    with store.reading() as session:
        assert session.scalars(select(ProcessingTask)).all() == []


def test_state_is_kept_by_device_and_key(store: RecordStore) -> None:
    """QX-01: the old value comes back, a missing one raises unless there is a default."""
    with store.session() as session:
        assert PluginState.set_value("a/b/c", "last", {"band": [1]}) is None
        session.flush()
        assert PluginState.set_value("a/b/c", "last", 5, commit=True) == {"band": [1]}
        PluginState.set_value("a/b/c", "la%", 1, commit=True)

    with store.session() as session:
        assert PluginState.get_value("a/b/c", "last") == 5
        assert PluginState.get_keys("a/b/c", "la%") == ["la%"]
        assert PluginState.get_value("a/b/d", "last", None) is None
        PluginState.delete_value("a/b/c", "last", commit=True)
        PluginState.delete_value("a/b/c", "never there")
        with pytest.raises(KeyError, match="last"):
            PluginState.get_value("a/b/c", "last")


def test_blobs_are_bytes_of_a_bounded_size(
    store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QX-02: results of tasks are files, not blobs."""
    monkeypatch.setattr("milonga.records._state_model.MAX_BLOB_BYTES", 4)
    with store.session():
        DataBlob.set_value("a/b/c", "mask", b"\x00\x01", commit=True)
        assert DataBlob.get_value("a/b/c", "mask") == b"\x00\x01"
        with pytest.raises(ValueError, match="5 bytes, expected <= 4"):
            DataBlob.set_value("a/b/c", "mask", b"12345")
        with pytest.raises(TypeError, match="found str"):
            DataBlob.set_value("a/b/c", "mask", "text")


def test_a_store_in_memory_is_refused() -> None:
    """Several threads read a store, so it has to be a file or a server."""
    with pytest.raises(RecordsError, match="expected a path"):
        RecordStore(":memory:")
