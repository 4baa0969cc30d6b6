"""What the writer remembers of its tasks is a guess, and a wrong one harms nobody."""

import pytest
from sqlalchemy import event

from milonga.records import (
    Durability,
    NewTask,
    ProcessingTask,
    Recorder,
    RecordStatus,
    RecordStore,
    Situation,
)
from milonga.records._known import KnownTask, KnownTasks

SOON = 10.0


def made(recorder: Recorder, uid: str, parent_uid: str | None = None) -> None:
    """Make a task, and wait until it is on disk."""
    task = NewTask(uid=uid, task_name="On", parent_uid=parent_uid)
    assert recorder.open(task).result(SOON) is Durability.DURABLE


def delete(store: RecordStore, uid: str) -> None:
    """Delete a task, as another process may."""
    with store.session() as session:
        session.delete(ProcessingTask.get_by_uid(uid))
        session.commit()


def test_tasks_that_are_known_are_not_looked_up(store: RecordStore, recorder: Recorder) -> None:
    """A command is made and ended with no query for it."""
    asked: list[str] = []
    made(recorder, "first")

    def note(_1: object, _2: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    made(recorder, "1_On")
    made(recorder, "1_On/leaf", "1_On")
    assert recorder.finish("1_On/leaf", Situation.DONE).result(SOON) is Durability.DURABLE
    assert recorder.finish("1_On", Situation.DONE).result(SOON) is Durability.DURABLE
    event.remove(store.engine, "before_cursor_execute", note)

    assert not [text for text in asked if "FROM processing_task" in text]


def test_an_end_that_somebody_else_wrote_meanwhile_stays(
    store: RecordStore, recorder: Recorder
) -> None:
    """QE-09: the first end is right, also when the writer knew the task as open."""
    made(recorder, "1_On")
    made(recorder, "2_On")
    with Recorder(store) as other:
        other.finish("1_On", Situation.LOST).result(SOON)

    late = recorder.finish("1_On", Situation.DONE)
    with_it = recorder.finish("2_On", Situation.DONE)

    assert late.result(SOON) is Durability.REFUSED
    assert with_it.result(SOON) is Durability.DURABLE
    with store.reading():
        task = ProcessingTask.get_by_uid("1_On")
    assert task is not None
    assert task.status is RecordStatus.LOST


@pytest.mark.parametrize("kind", ["change", "log", "run", "step", "child"])
def test_what_is_said_of_a_deleted_task_is_refused(
    store: RecordStore, recorder: Recorder, kind: str
) -> None:
    """It hurts no other row, and the writer goes on."""
    made(recorder, "1_On")
    delete(store, "1_On")

    if kind == "change":
        recorder.change("1_On", progress=5)
    elif kind == "log":
        recorder.log("1_On", "a line")
    elif kind == "run":
        recorder.add_run("1_On", "a-run")
    elif kind == "step":
        recorder.add_step("1_On", "step", "here")
    else:
        recorder.open(NewTask(uid="1_On/leaf", task_name="leaf", parent_uid="1_On"))
    made(recorder, "2_On")

    counts = recorder.statistics()
    assert (counts.unknown, counts.orphans) == ((0, 1) if kind == "child" else (1, 0))
    assert (counts.lost, counts.outages) == (0, 0)


def test_a_task_that_another_made_is_made_once(store: RecordStore, recorder: Recorder) -> None:
    """The writer takes a new name for new, until the store says that it is not."""
    made(recorder, "first")
    with Recorder(store) as other:
        made(other, "1_On")

    assert recorder.open(NewTask(uid="1_On", task_name="Off")).result(SOON) is Durability.DURABLE

    assert recorder.statistics().doubled == 1
    with store.reading():
        task = ProcessingTask.get_by_uid("1_On")
    assert task is not None
    assert task.task_name == "On"


def test_only_so_many_open_tasks_are_kept(
    monkeypatch: pytest.MonkeyPatch, store: RecordStore
) -> None:
    """Those used last; ended ones go at once."""
    monkeypatch.setattr(KnownTasks, "MOST", 2)
    known = KnownTasks()
    moment = store.clock()

    known.learn(KnownTask(n, f"{n}_On", None, moment, None) for n in range(3))
    known.learn([KnownTask(2, "2_On", None, moment, RecordStatus.SUCCESS)])

    assert (known.find("0_On"), known.find_number(0), known.find("2_On")) == (None, None, None)
    assert known.find("1_On") == known.find_number(1) is not None
    assert len(known) == 1
