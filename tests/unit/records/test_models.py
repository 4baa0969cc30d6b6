"""The models of tasks, steps, files, links and subscriptions."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError
from sqlalchemy.orm.exc import StaleDataError

from milonga.records import (
    ProcessingTask,
    RecordStatus,
    RecordStore,
)

HOOK = "http://127.0.0.1:1/hook"


def saved(store: RecordStore, **columns: Any) -> int:
    """Make a task and return its number."""
    with store.session():
        task = ProcessingTask("Configure", **columns)
        task.save(commit=True)
        return task.id


def test_a_new_task_has_the_defaults_of_the_original(store: RecordStore) -> None:
    """QM-01: names and defaults of the columns are QHAna's."""
    number = saved(store)

    with store.reading():
        task = ProcessingTask.get_by_id(number)

    assert task is not None
    columns = {
        name: getattr(task, name)
        for name in (
            *("task_name", "finished_at", "parameters", "data", "multi_step", "current_step"),
            *("progress_value", "progress_start", "progress_target", "progress_unit"),
            "task_status",
        )
    }
    assert columns == {
        "task_name": "Configure",
        "finished_at": None,
        "parameters": "",
        "data": {},
        "multi_step": False,
        "current_step": -1,
        "progress_value": None,
        "progress_start": 0,
        "progress_target": 100,
        "progress_unit": "%",
        "task_status": None,
    }


def test_the_number_of_a_task_cannot_be_chosen() -> None:
    """QM-01: `id` is no argument of the constructor."""
    with pytest.raises(TypeError):
        ProcessingTask("Configure", id=7)  # type: ignore[call-arg]


def test_tasks_begin_at_their_own_time() -> None:
    """QM-08, C-1: the default is taken when the row is made, aware and in UTC."""
    first = ProcessingTask("first")
    while datetime.now(UTC) <= first.started_at:
        time.sleep(0)
    second = ProcessingTask("second")

    assert second.started_at > first.started_at
    assert first.started_at.utcoffset() == timedelta(0)


def test_a_naive_time_is_refused(store: RecordStore) -> None:
    """C-1: a time without a zone means something else on each machine."""
    with pytest.raises(StatementError, match="no time zone"):
        saved(store, started_at=datetime(2030, 1, 1))  # noqa: DTZ001 - it is the point


def test_times_come_back_aware_and_in_utc(store: RecordStore) -> None:
    """QM-08: also from a database that keeps no time zone."""
    moment = datetime.fromisoformat("2030-01-01T14:00:00.123456+02:00")
    number = saved(store, started_at=moment)

    with store.reading():
        task = ProcessingTask.get_by_id(number)

    assert task is not None
    assert task.started_at == moment
    assert task.started_at.isoformat() == "2030-01-01T12:00:00.123456+00:00"


@pytest.mark.parametrize(
    "value",
    [{"a": {"b": [1]}}, [1, "x", None], "text", 7, 2.5, True, None, {"ü": "\x00 and \ud800"}],
)
def test_data_takes_any_json_value(store: RecordStore, value: Any) -> None:
    """QM-07: also what a database would refuse in a text."""
    number = saved(store, data=value)

    with store.reading():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        expected = {"ü": "\ufffd and ?"} if isinstance(value, dict) and "ü" in value else value
        assert task.data == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["a"]["b"].append(2),
        lambda data: data["a"].update(c=1),
        lambda data: data["a"]["b"].__setitem__(0, {"deep": []}),
        lambda data: data["list"][0].pop("x"),
        lambda data: data.setdefault("new", {}).update(y=1),
        lambda data: data["a"].__ior__({"z": 1}),
    ],
)
def test_changes_deep_inside_of_data_are_stored(
    store: RecordStore, change: Callable[[Any], Any]
) -> None:
    """QM-07: nobody has to set the attribute again."""
    number = saved(store, data={"a": {"b": [1]}, "list": [{"x": 1}]})
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        change(task.data)
        expected = task.data
        session.commit()

    with store.reading():
        again = ProcessingTask.get_by_id(number)
        assert again is not None
        assert again.data == expected
        assert again.data != {"a": {"b": [1]}, "list": [{"x": 1}]}


def test_data_can_be_a_number_and_then_a_dict_again(store: RecordStore) -> None:
    """QM-07: the kind of value may change."""
    number = saved(store, data=7)
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.data = {"a": []}
        session.flush()
        task.data["a"].append(1)
        session.commit()

    with store.reading():
        again = ProcessingTask.get_by_id(number)
        assert again is not None
        assert again.data == {"a": [1]}


@pytest.mark.parametrize(
    ("columns", "status", "is_ok"),
    [
        ({}, RecordStatus.PENDING, False),
        ({"task_status": "SUCCESS"}, RecordStatus.PENDING, False),
        ({"finished_at": datetime(2040, 1, 1, tzinfo=UTC)}, RecordStatus.UNKNOWN, False),
        (
            {"finished_at": datetime(2040, 1, 1, tzinfo=UTC), "task_status": "SUCCESS"},
            RecordStatus.SUCCESS,
            True,
        ),
        (
            {"finished_at": datetime(2040, 1, 1, tzinfo=UTC), "task_status": "PARTIAL"},
            RecordStatus.PARTIAL,
            False,
        ),
    ],
)
def test_the_status_needs_both_the_end_and_the_word(
    store: RecordStore, columns: dict[str, Any], status: RecordStatus, is_ok: bool
) -> None:
    """QL-01, QL-02, QL-03: a word without an end is no success."""
    number = saved(store, **columns)

    with store.reading():
        task = ProcessingTask.get_by_id(number)

    assert task is not None
    assert (task.status, task.is_ok) == (status, is_ok)
    assert task.is_finished is ("finished_at" in columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"task_status": "ERROR"},
        {"task_status": "done"},
        {"cause": "BORED"},
        {"attempt": 0},
        {"finished_at": datetime(2000, 1, 1, tzinfo=UTC)},
    ],
)
def test_the_database_refuses_what_is_no_record(
    store: RecordStore, columns: dict[str, Any]
) -> None:
    """QM-10, C-3: words and times are checked where nobody can go around."""
    with pytest.raises(IntegrityError):
        saved(store, **columns)


def test_steps_are_numbered_by_their_place(store: RecordStore) -> None:
    """QM-06, QL-06: from 0, and the task counts along."""
    number = saved(store)
    with store.session():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.add_next_step("/a", "/ui/a", "tune")
        task.clear_previous_step()
        task.add_next_step("/b", "/ui/b", "scan", commit=True)

    with store.reading():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        assert [(step.number, step.step_id, step.cleared) for step in task.steps] == [
            (0, "tune", True),
            (1, "tune.scan", False),
        ]
        assert (task.multi_step, task.current_step, task.has_uncleared_step) == (True, 1, True)


def test_a_step_waits_for_the_one_before(store: RecordStore) -> None:
    """QL-06: no second step while one is open."""
    number = saved(store)
    with store.session():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.add_next_step("/a", "/ui/a", "tune")

        with pytest.raises(AssertionError, match="'tune' must be cleared"):
            task.add_next_step("/b", "/ui/b", "scan")


def test_clearing_without_a_step_does_nothing(store: RecordStore) -> None:
    """QL-07, C-6: nothing to clear is no error; errors of the database are."""
    number = saved(store)
    with store.session():
        task = ProcessingTask.get_by_id(number)
        assert task is not None

        assert task.clear_previous_step(commit=True) is None


@pytest.mark.parametrize(
    "numbers", [[(0, False), (1, False)], [(0, False), (1, True)], [(-1, True)]]
)
def test_only_the_last_step_may_be_open(
    store: RecordStore, numbers: list[tuple[int, bool]]
) -> None:
    """QM-10: the database sees to it."""
    task = saved(store)
    statement = text(
        "INSERT INTO task_step (id, number, step_id, href, ui_href, cleared)"
        " VALUES (:id, :number, 's', '/', '/', :cleared)"
    )
    rows = [{"id": task, "number": number, "cleared": cleared} for number, cleared in numbers]
    with pytest.raises(SQLAlchemyError), store.writing() as transaction:
        transaction.connection.execute(statement, rows)


def test_two_sessions_do_not_write_over_each_other(store: RecordStore) -> None:
    """QM-09, C-7: the second writer of one version is refused."""
    number = saved(store)
    with store.reading():
        stale = ProcessingTask.get_by_id(number)
    assert stale is not None
    with store.session() as session:
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        task.message = "first"
        session.commit()

    with store.session() as session:
        stale.message = "second"
        session.add(stale)
        with pytest.raises(StaleDataError):
            session.commit()


def test_the_log_has_a_line_for_each_entry(store: RecordStore) -> None:
    """QL-08: no leading newline."""
    number = saved(store)
    with store.session():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        assert task.task_log == ""
        task.add_task_log_entry("l1")
        task.add_task_log_entry("l2", commit=True)

    with store.reading():
        task = ProcessingTask.get_by_id(number)
        assert task is not None
        assert task.task_log == "l1\nl2"


def test_a_task_that_is_not_saved_yet_has_a_log() -> None:
    """QL-08: before there is a session."""
    task = ProcessingTask("Configure")
    task.add_task_log_entry("l1")

    assert task.task_log == "l1"


def test_ten_thousand_lines_are_logged_in_linear_time(store: RecordStore) -> None:
    """C-8: the second half costs about what the first does; the best of three tries counts."""

    def time_of_half(number: int) -> float:
        with store.session() as session:
            task = ProcessingTask.get_by_id(number)
            assert task is not None
            began = time.perf_counter()
            for line in range(5000):
                task.add_task_log_entry(f"line {line}")
            session.commit()
            return time.perf_counter() - began

    tries = []
    for _ in range(3):
        number = saved(store)
        tries.append((time_of_half(number), time_of_half(number)))
        if tries[-1][1] < 3 * tries[-1][0] + 0.5:
            return
    pytest.fail(f"the second half costs more than the first, in seconds: {tries}")


def test_what_is_not_committed_is_invisible_to_others(store: RecordStore) -> None:
    """QL-09: `save` adds; committing is asked for."""
    with store.session() as session:
        ProcessingTask("Configure", uid="mine").save()
        session.flush()
        with store.reading() as other:
            assert ProcessingTask.get_by_uid("mine", session=other) is None

    with store.reading():
        assert ProcessingTask.get_by_uid("mine") is None


def test_an_unknown_number_gives_none(store: RecordStore) -> None:
    """QL-10: no exception."""
    with store.reading():
        assert ProcessingTask.get_by_id(999) is None


def test_models_say_which_session_they_miss() -> None:
    """C-22: no global session of a web framework."""
    with pytest.raises(RuntimeError, match=r"with store\.session"):
        ProcessingTask.get_by_id(1)
