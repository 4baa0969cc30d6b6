"""The writer thread: group commit, guarded ends, outages and bounds."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from milonga.control_model import HealthState, ResultCode
from milonga.records import (
    Announcement,
    Durability,
    NewTask,
    Phase,
    ProcessingTask,
    Recorder,
    RecorderSettings,
    RecordStatus,
    RecordStore,
    Situation,
    TaskEvent,
    Transaction,
    close_lost,
    new_tasks,
    node_uid,
)

TREE = {
    "name": "Configure",
    "type": "parallel",
    "target": None,
    "command": None,
    "children": [
        {
            "name": f"group{group}",
            "type": "sequential",
            "children": [
                {"name": f"leaf{n}", "type": "device", "target": f"a/b/{n}", "command": "Configure"}
                for n in range(2)
            ],
        }
        for group in range(2)
    ],
}
SOON = 10.0


def task_of(store: RecordStore, uid: str) -> ProcessingTask:
    """Return the record of a task."""
    with store.reading():
        task = ProcessingTask.get_by_uid(uid)
    assert task is not None
    return task


class Gate:
    """A store that can be made not to answer, or to be slow."""

    def __init__(self, store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self._store = store
        self._writing = store.writing
        self.away = False
        self.open = threading.Event()
        self.open.set()
        self.tried = threading.Semaphore(0)
        monkeypatch.setattr(store, "writing", self._guarded)

    @contextmanager
    def _guarded(self) -> Iterator[Transaction]:
        self.tried.release()
        assert self.open.wait(SOON)
        if self.away:
            raise OperationalError("INSERT", {}, Exception("database is gone"))
        with self._writing() as transaction:
            yield transaction


@pytest.fixture
def gate(store: RecordStore, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Give the way to the store, which the test can close."""
    return Gate(store, monkeypatch)


QUICK = RecorderSettings(retry_first=0.005, retry_longest=0.02)


def test_a_command_is_on_disk_before_its_end_is_told(
    store: RecordStore, recorder: Recorder
) -> None:
    """IN-02: the receipt comes after the commit."""
    seen: list[RecordStatus] = []
    told = threading.Event()

    def look(durability: Durability) -> None:
        assert durability is Durability.DURABLE
        seen.append(task_of(store, "c1").status)
        told.set()

    recorder.open(NewTask(uid="c1", task_name="On", device="a/b/c", command="On"))
    recorder.finish("c1", Situation.DONE, "on", then=look)

    assert told.wait(SOON)
    assert seen == [RecordStatus.SUCCESS]


def test_a_command_of_three_levels_has_a_row_for_each_node(
    store: RecordStore, recorder: Recorder
) -> None:
    """IN-01: one for the command, one for each node, joined to a tree."""
    for task in new_tasks(TREE, "c1", issuer="ann", origin="cli"):
        recorder.open(task)
    assert recorder.flush(SOON)

    leaf = task_of(store, node_uid("c1", "group1", "leaf0"))
    group, root = task_of(store, "c1/group1"), task_of(store, "c1")
    assert recorder.statistics().written == 7
    assert (leaf.parent_id, leaf.root_id) == (group.id, root.id)
    assert (group.parent_id, root.parent_id, root.root_id) == (root.id, None, None)
    assert (leaf.device, leaf.command, leaf.issuer, leaf.origin) == (
        *("a/b/0", "Configure"),
        *("ann", "cli"),
    )
    assert leaf.phase == Phase.QUEUED


def test_changes_are_written_as_they_come(store: RecordStore, recorder: Recorder) -> None:
    """QM-09, QE-08: what runs can be followed; 0 is a progress too (C-9)."""
    recorder.open(NewTask(uid="c1", task_name="On"))
    recorder.change("c1", situation=Situation.RUNNING, progress=0, command_id="77_On")
    recorder.log("c1", "line 1")
    recorder.log("c1", "line 2")
    recorder.add_run("c1", "a-run")
    recorder.add_run("c1", "a-run")
    assert recorder.flush(SOON)
    task = task_of(store, "c1")

    assert (task.phase, task.progress_percent, task.command_id) == ("RUNNING", 0.0, "77_On")
    assert task.running_at is not None
    assert task.situation is Situation.RUNNING
    with store.reading() as session:
        session.add(task)
        assert task.task_log == "line 1\nline 2"
        assert [run.run_uid for run in task.runs] == ["a-run"]


def test_a_note_is_taken_of_a_task_that_is_over_and_its_end_stands(
    store: RecordStore, recorder: Recorder
) -> None:
    """Row 8: what is known only later; a change is refused then, and an unknown task is counted."""
    recorder.open(NewTask(uid="c1", task_name="On"))
    recorder.finish("c1", Situation.FAILED, "no power", data={"late": 0})
    recorder.change("c1", data={"late": -1})
    recorder.note("c1", {"late": 1})
    recorder.note("c1", {"late": 2})
    recorder.note("c2", {"late": 3})
    assert recorder.flush(SOON)
    task = task_of(store, "c1")

    assert task.data == {"late": 2}
    assert (task.situation, task.message) == (Situation.FAILED, "no power")
    statistics = recorder.statistics()
    assert (statistics.refused, statistics.unknown, statistics.lost) == (1, 1, 0)


@pytest.mark.parametrize("situation", [one for one in Situation if one.is_final])
def test_every_end_comes_back_as_it_was(
    store: RecordStore, recorder: Recorder, situation: Situation
) -> None:
    """5.1: one table, there and back."""
    recorder.open(NewTask(uid="c1", task_name="On"))
    receipt = recorder.finish("c1", situation, "because")
    assert receipt.result(SOON) is Durability.DURABLE
    task = task_of(store, "c1")

    assert task.situation is situation
    assert task.status is situation.words.status
    assert task.is_ok is (situation in {Situation.DONE, Situation.STOPPED})
    assert task.message == "because"


def test_the_first_end_stays(
    store: RecordStore, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """QE-09, C-4: error, then result: it stays a failure, in one batch or in two."""
    recorder.open(NewTask(uid="c1", task_name="On"))
    recorder.finish("c1", Situation.ERROR, "broken", result_code=ResultCode.FAILED)
    second = recorder.finish("c1", Situation.DONE, "fine")
    assert second.result(SOON) is Durability.REFUSED
    recorder.change("c1", progress=1)
    third = recorder.finish("c1", Situation.DONE, "fine", health=HealthState.OK)
    assert third.result(SOON) is Durability.REFUSED
    task = task_of(store, "c1")

    assert (task.status, task.message) == (RecordStatus.FAILURE, "broken")
    assert recorder.statistics().refused == 3
    assert "came after the task was over" in caplog.text


def test_an_end_needs_a_final_situation(recorder: Recorder) -> None:
    """LU-06: running is no end, and an end is no change."""
    with pytest.raises(ValueError, match="RUNNING, which is not final"):
        recorder.finish("c1", Situation.RUNNING)
    with pytest.raises(ValueError, match="DONE, which is final"):
        recorder.change("c1", situation=Situation.DONE)


def test_a_task_is_made_once(store: RecordStore, recorder: Recorder) -> None:
    """IN-01: exactly one record, however often it is handed over."""
    for _ in range(2):
        recorder.open(NewTask(uid="c1", task_name="On"))
        recorder.open(NewTask(uid="c1", task_name="Off"))
        assert recorder.flush(SOON)

    assert task_of(store, "c1").task_name == "On"
    assert recorder.statistics().doubled == 3


def test_a_clock_that_is_set_back_ends_no_task_before_its_start(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QM-10: finished_at >= started_at also then."""
    store = open_store(clock)
    with Recorder(store) as recorder:
        recorder.open(NewTask(uid="c1", task_name="On"))
        clock.advance(-3600)
        assert recorder.finish("c1", Situation.DONE).result(SOON) is Durability.DURABLE


def test_rows_that_come_during_a_commit_go_together(
    gate: Gate, store: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decision 7: group commit; nobody waits to be grouped."""
    with Recorder(store) as recorder:
        assert recorder.flush(SOON)
        before = recorder.statistics().commits
        gate.open.clear()
        recorder.open(NewTask(uid="c0", task_name="On"))
        gate.tried.acquire(timeout=SOON)
        for number in range(1, 100):
            recorder.open(NewTask(uid=f"c{number}", task_name="On"))
        gate.open.set()
        assert recorder.flush(SOON)

        assert recorder.statistics().commits - before <= 3


def test_a_store_that_is_away_fails_no_command(
    gate: Gate, store: RecordStore, caplog: pytest.LogCaptureFixture
) -> None:
    """IN-01: rows wait, are flagged, and are written when it is back."""
    with Recorder(store, settings=QUICK) as recorder:
        recorder.open(NewTask(uid="c0", task_name="before"))
        assert recorder.flush(SOON)
        gate.away = True
        opened = recorder.open(NewTask(uid="c1", task_name="On"))
        assert opened.result(SOON) is Durability.BUFFERED
        recorder.log("c1", "during the outage")
        ended = recorder.finish("c1", Situation.DONE)
        assert ended.result(SOON) is Durability.BUFFERED
        assert recorder.is_away
        recorder.finish("c0", Situation.DONE)
        gate.away = False

        assert recorder.flush(SOON)

        assert not recorder.is_away
        task = task_of(store, "c1")
        assert (task.status, task.recorded_late) == (RecordStatus.SUCCESS, True)
        assert task_of(store, "c0").recorded_late
        statistics = recorder.statistics()
        assert (statistics.outages, statistics.lost, statistics.waiting) == (1, 0, 0)
    assert "does not answer" in caplog.text
    assert "answers again" in caplog.text


def test_what_waits_is_bounded_and_progress_gives_way_first(gate: Gate, store: RecordStore) -> None:
    """IN-01: a bound on memory; the ends of commands find room before logs do."""
    bounds = RecorderSettings(max_buffered=10, max_passing=5, retry_first=0.005, retry_longest=0.02)
    with Recorder(store, settings=bounds) as recorder:
        assert recorder.flush(SOON)
        gate.away = True
        recorder.open(NewTask(uid="c0", task_name="On")).result(SOON)
        for number in range(10):
            recorder.log("c0", f"line {number}")
        for number in range(1, 10):
            recorder.open(NewTask(uid=f"c{number}", task_name="On"))
        full = recorder.finish("c0", Situation.DONE)

        assert full.result(SOON) is Durability.LOST
        statistics = recorder.statistics()
        assert statistics.waiting == 10
        assert statistics.dropped == 6
        assert statistics.lost == 5
        gate.away = False
        assert recorder.flush(SOON)
        assert task_of(store, "c5").task_name == "On"


def test_the_patience_of_a_caller_ends_although_the_store_is_slow(
    gate: Gate, store: RecordStore
) -> None:
    """IN-02: a slow database does not hold a command up."""
    due: list[Callable[[], None]] = []

    class Timer:
        """A timer that the test lets ring."""

        def cancel(self) -> None:
            """Do nothing."""

    def call_later(delay: float, function: Callable[[], None]) -> Timer:
        assert delay == 2.0
        due.append(function)
        return Timer()

    with Recorder(store, call_later=call_later) as recorder:
        assert recorder.flush(SOON)
        gate.open.clear()
        recorder.open(NewTask(uid="c1", task_name="On"))
        told: list[Durability] = []
        receipt = recorder.finish("c1", Situation.DONE, then=told.append, patience=2.0)
        assert not receipt.done()
        for ring in due:
            ring()
        assert told == [Durability.BUFFERED]
        gate.open.set()
        assert recorder.flush(SOON)
    assert task_of(store, "c1").status is RecordStatus.SUCCESS


def test_a_row_that_the_store_refuses_hurts_no_other(
    store: RecordStore, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """IN-01: the row is found and dropped, and that is told."""
    receipts = [
        recorder.open(NewTask(uid=f"c{n}", task_name="On", position=10**30 if n == 7 else 0))
        for n in range(20)
    ]

    outcomes = [receipt.result(SOON) for receipt in receipts]

    assert outcomes.count(Durability.DURABLE) == 19
    assert outcomes[7] is Durability.LOST
    assert "c7: the store refuses a row" in caplog.text


def test_texts_are_cut_to_what_a_column_takes(store: RecordStore, recorder: Recorder) -> None:
    """IN-01: a long or strange text is no reason to lose a record."""
    strange = "\x00" + "x" * 1_000_000 + "\ud800"
    recorder.open(
        NewTask(uid="c1", task_name=strange, device=strange, command=strange, issuer=strange)
    )
    recorder.log("c1", strange, level=strange)
    receipt = recorder.finish("c1", Situation.FAILED, strange, error=strange)

    assert receipt.result(SOON) is Durability.DURABLE
    assert task_of(store, "c1").message.endswith("…")


def test_closing_writes_what_waits(store: RecordStore) -> None:
    """Owners close what they open: after draining."""
    recorder = Recorder(store)
    for number in range(50):
        recorder.open(NewTask(uid=f"c{number}", task_name="On"))
    assert recorder.close()

    assert task_of(store, "c49").task_name == "On"
    late = recorder.open(NewTask(uid="late", task_name="On"))
    assert late.result(SOON) is Durability.LOST


def test_closing_does_not_wait_for_ever(
    gate: Gate, store: RecordStore, caplog: pytest.LogCaptureFixture
) -> None:
    """IN-01: what could not be written is counted and told."""
    recorder = Recorder(store, settings=QUICK)
    assert recorder.flush(SOON)
    gate.away = True
    recorder.open(NewTask(uid="c1", task_name="On")).result(SOON)

    assert recorder.close(timeout=0.05) is False
    recorder._writer._thread.join(SOON)

    assert recorder.statistics().lost == 1
    assert "1 rows lost" in caplog.text


def test_listeners_hear_of_what_was_committed(store: RecordStore, recorder: Recorder) -> None:
    """QE-07, IN-08: after the commit, in order; nodes are steps of their command."""
    heard: list[Announcement] = []

    def listen(news: Any) -> None:
        for one in news:
            assert task_of(store, one.uid)
        heard.extend(news)

    stop = store.listen(listen)
    store.listen(lambda _: 1 / 0)
    for task in new_tasks(TREE, "c1"):
        recorder.open(task)
    recorder.flush(SOON)
    recorder.finish("c1/group0/leaf0", Situation.DONE)
    recorder.flush(SOON)
    recorder.finish("c1", Situation.FAILED)
    recorder.flush(SOON)
    stop()
    recorder.log("c1", "too late")
    recorder.flush(SOON)

    assert [(one.uid, one.event.value) for one in heard] == [
        ("c1", "steps"),
        ("c1/group0/leaf0", "status"),
        ("c1", "steps"),
        ("c1", "status"),
    ]
    assert heard[-1].status is RecordStatus.FAILURE


def test_what_a_server_left_open_is_lost_when_it_comes_back(
    store: RecordStore, caplog: pytest.LogCaptureFixture
) -> None:
    """QE-10, C-12, decision 9: LOST, with a text that says why; others are not touched."""
    caplog.set_level(logging.WARNING)
    for owner, uid in (("srv/1", "mine"), ("srv/2", "other")):
        with Recorder(store, owner) as recorder:
            recorder.open(NewTask(uid=uid, task_name="On"))
            recorder.open(NewTask(uid=f"{uid}/leaf", task_name="leaf", parent_uid=uid))

    with Recorder(store, "srv/1") as recorder:
        recorder.open(NewTask(uid="new", task_name="On"))
        late = recorder.finish("mine", Situation.DONE)
        assert late.result(SOON) is Durability.REFUSED

    for uid in ("mine", "mine/leaf"):
        task = task_of(store, uid)
        assert (task.status, task.result_code) == (RecordStatus.LOST, "UNKNOWN")
        assert task.message.startswith("lost on restart of srv/1, last heard of at")
    assert task_of(store, "other").status is RecordStatus.PENDING
    assert task_of(store, "new").status is RecordStatus.PENDING
    assert "2 task(s) closed as LOST" in caplog.text


def test_what_belongs_to_nobody_is_left_open(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QE-10: programs that are no servers do not end the tasks of one another."""
    store = open_store(clock)
    with Recorder(store) as recorder:
        recorder.open(NewTask(uid="c1", task_name="On"))
        assert recorder.flush(SOON)
        with Recorder(store) as other:
            assert other.flush(SOON)
        clock.advance(1000)
        assert close_lost(store, silent_for=60) == 0
        assert recorder.finish("c1", Situation.DONE).result(SOON) is Durability.DURABLE

    assert task_of(store, "c1").owner is None


def test_the_tasks_of_a_server_that_is_silent_can_be_closed(
    open_store: Callable[..., RecordStore], clock: Any
) -> None:
    """QE-10: by its heartbeat."""
    store = open_store(clock)
    with Recorder(store, "srv/1") as recorder:
        recorder.open(NewTask(uid="c1", task_name="On"))
    clock.advance(100)

    assert close_lost(store, silent_for=200) == 0
    assert close_lost(store, silent_for=50) == 1
    assert "not heard of for 50 s" in task_of(store, "c1").message


def test_events_are_words_of_the_original() -> None:
    """QW-03: three names, without a prefix."""
    assert [event.value for event in TaskEvent] == ["status", "steps", "details"]


def waits_at_a_step(store: RecordStore, uid: str) -> bool:
    """Tell whether a task waits for a person."""
    with store.reading():
        task = ProcessingTask.get_by_uid(uid)
        return task is not None and task.has_uncleared_step


@pytest.mark.parametrize("apart", [True, False])
def test_a_task_that_is_over_waits_at_no_step(store: RecordStore, apart: bool) -> None:
    """QE-03, QE-04: it is told, also if the step comes late."""
    heard: list[Announcement] = []
    store.listen(heard.extend)
    with Recorder(store, "srv/1", RecorderSettings(linger=60.0)) as recorder:
        recorder.open(NewTask(uid="c1", task_name="On"))
        recorder.add_step("c1", "ask", "/do")
        if apart:
            assert recorder.flush(SOON)
        recorder.finish("c1", Situation.ABORTED)
        assert recorder.flush(SOON)
        assert not waits_at_a_step(store, "c1")
        assert [one.event for one in heard].count(TaskEvent.STEPS) == 2
        recorder.add_step("c1", "late", "/do")
        assert recorder.flush(SOON)
        assert not waits_at_a_step(store, "c1")


def test_a_closed_recorder_keeps_nobody_waiting(store: RecordStore) -> None:
    """Whoever asks whether all is written gets an answer, however long they would wait."""
    recorder = Recorder(store, "srv/1")
    recorder.open(NewTask(uid="c1", task_name="On"))
    assert recorder.close(SOON)
    answers: list[bool] = []
    asks = threading.Thread(target=lambda: answers.append(recorder.flush()), daemon=True)
    asks.start()
    asks.join(SOON)

    assert answers == [False]
    assert recorder.statistics().lost == 0
