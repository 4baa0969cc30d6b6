"""The soak finds records that do not say what clients saw."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.soak_records import Told, await_ends, find_inconsistent, finished_in_table
from milonga.control_model import ResultCode, TaskStatus
from milonga.records import NewTask, Recorder, RecordStore, Situation

OK = Told(TaskStatus.COMPLETED, ResultCode.OK, "done")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    """Give the records of a command with one node, both ended."""
    with RecordStore(tmp_path / "records.db") as store, Recorder(store) as recorder:
        for uid in ("1_On", "1_On/a"):
            parent = uid.rpartition("/")[0] or None
            recorder.open(NewTask(uid=uid, task_name="On", parent_uid=parent))
        for uid in ("1_On/a", "1_On"):
            recorder.finish(uid, Situation.DONE, "done")
        assert recorder.flush(10)
        yield store


def test_records_that_agree_are_not_complained_about(store: RecordStore) -> None:
    """Also if a command was seen by two, or its end by nobody."""
    await_ends(store, 5.0)

    assert find_inconsistent(store, [("1_On", OK), ("1_On", OK), ("1_On", None)]) == []


@pytest.mark.parametrize(
    ("uid", "told", "problem"),
    [
        ("2_On", None, "2_On: has 0 records, expected one"),
        ("1_On", Told(TaskStatus.FAILED, ResultCode.FAILED, "done"), "1_On: recorded"),
        ("1_On", Told(TaskStatus.COMPLETED, ResultCode.FAILED, "done"), "1_On: recorded"),
        ("1_On", Told(TaskStatus.COMPLETED, ResultCode.OK, "lost"), "1_On: recorded"),
    ],
)
def test_what_clients_saw_must_be_recorded(
    store: RecordStore, uid: str, told: Told | None, problem: str
) -> None:
    """Status, code and message."""
    (found,) = find_inconsistent(store, [(uid, told)])

    assert found.startswith(problem)


def test_what_is_open_or_ends_late_or_hangs_in_the_air_is_found(store: RecordStore) -> None:
    """A node of a command that is over, one that outlives it, and one that belongs to none."""
    with Recorder(store) as recorder:
        recorder.open(NewTask(uid="3_On", task_name="On"))
        recorder.open(NewTask(uid="3_On/late", task_name="late", parent_uid="3_On"))
        recorder.open(NewTask(uid="3_On/open", task_name="open", parent_uid="3_On"))
        recorder.open(NewTask(uid="4_On/a", task_name="a", parent_uid="4_On"))
        recorder.finish("4_On/a", Situation.DONE)
        recorder.finish("3_On", Situation.DONE)
        recorder.finish("3_On/late", Situation.DONE)
        assert recorder.flush(10)

    assert sorted(find_inconsistent(store, [])) == [
        "3_On/late: ended after what is above it",
        "3_On/open: is open",
        "4_On/a: what is above it is not there",
    ]


def test_ends_are_read_from_the_table_of_a_device() -> None:
    """As SKA devices publish it, with names or with numbers; what was refused has no record."""
    texts = (
        '{"uid": "1_On", "status": "COMPLETED", "result": [0, "done"]}',
        '{"uid": "2_On", "status": 7, "result": [3, "bug"]}',
        '{"uid": "3_On", "status": "REJECTED", "result": [5, "Queue is being aborted"]}',
    )

    assert finished_in_table(texts) == {
        "1_On": OK,
        "2_On": Told(TaskStatus.FAILED, ResultCode.FAILED, "bug"),
    }
