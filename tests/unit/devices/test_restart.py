"""Commands that were under way when the server ended, taken up without sending anything."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._command_records import CommandRecords
from milonga.devices._restart import Restart
from milonga.devices._tree_job import Ticket, TreeJob
from milonga.errors import CompositionError
from milonga.lrc import CommandServer, CommandTable, Job, Publisher, Scheduler, Trace
from milonga.records import (
    NewTask,
    ProcessingTask,
    Recorder,
    RecorderSettings,
    RecordStore,
    Situation,
    new_tasks,
)
from milonga.tasks import ExecutionContext, LeafTask, Task, TaskType, internal_action

DEVICE = "lab/parent/1"
UID = "17.5_42_Go"
CHILDREN = ("one", "two", "three")


class Child:
    """What a device may find at its children."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.answers: dict[str, tuple[TaskStatus, ResultCode, str]] = {}
        self.command_id: str | None = None

    def invoke(self, *_: object) -> None:
        """Fail: after a restart nothing is sent."""
        raise AssertionError("a command was sent")

    def resume_at(
        self,
        target: str,
        trace: Trace,
        on_update: Callable[..., None],
        *,
        command_id: str | None,
        claim: Callable[[str], bool],
    ) -> "Child | None":
        """Answer as the test says."""
        assert trace.command == "Go"
        assert command_id is None or claim(command_id) is False, "it is this leaf's already"
        self.asked.append((target, command_id))
        if target not in self.answers:
            return None
        status, code, text = self.answers[target]
        on_update(status=status, result=(code, text))
        return self

    def abort(self) -> None:
        """Do nothing."""

    close = abort


class Device:
    """As much of a device as a restart needs."""

    def __init__(self, store: RecordStore, recorder: Recorder) -> None:
        self.child = Child()
        self.scheduler = Scheduler("test")
        self.table = CommandTable(capacity=66)
        publisher = Publisher(lambda *_: None, self.scheduler.call_later)
        self.commands = CommandServer(
            self.table, publisher, self.scheduler.call_soon, self.scheduler.call_later
        )
        self.records = CommandRecords(
            recorder, DEVICE, self.scheduler.call_soon, self.scheduler.call_later
        )
        self.context = ExecutionContext(self.scheduler, self.child)
        self.kept: list[tuple[dict[str, Any], bool]] = []
        self.found: set[str] = set()
        self.more: tuple[LeafTask, ...] = ()
        self.shape = TaskType.PARALLEL
        self.broken_kept: Exception | None = None
        self._store = store

    def make_job(self, name: str, argument: str | None) -> Job:
        """Compose the one command there is."""
        if name != "Go":
            raise CompositionError(f"{name}: found no such command, expected Go")

        def make(completed: Callable[..., None], progressed: Callable[..., None]) -> Task:
            return Task(
                "Go",
                self.shape,
                completed_callback=completed,
                progress_callback=progressed,
                is_root=True,
                subtasks=[*(LeafTask(one, f"lab/{one}/1", "Go") for one in CHILDREN), *self.more],
            )

        tree = TreeJob(make, self.context, ticket=Ticket(argument))
        job = Job(name, tree.start, tree.abort, work=tree)
        tree.record = self.records.follow(job, tree.task, argument)
        return job

    def restart(self, **options: float) -> Restart:
        """Take up what was under way."""
        self.commands.hold()
        restart = Restart(
            *(self.records, self.commands, self.make_job, self.child.resume_at, self.take_back),
            self.found.update,
            **options,
        )
        restart.begin(self._store)
        return restart

    def take_back(self, kept: Mapping[str, Any], *, goes_on: bool) -> None:
        """Take what was kept, unless that is broken."""
        if self.broken_kept is not None:
            raise self.broken_kept
        self.kept.append((dict(kept), goes_on))

    def end_of(self, uid: str) -> dict[str, Any]:
        """Wait for the end of a command."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for entry in map(json.loads, self.table.value("lrcFinished")):
                if entry["uid"] == uid:
                    return dict(entry)
            time.sleep(0.005)
        raise AssertionError(f"{uid} has not ended")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    """Give a store."""
    with RecordStore(tmp_path / "records.db") as store:
        yield store


@pytest.fixture
def device(store: RecordStore) -> Iterator[Device]:
    """Give a device after its restart."""
    with Recorder(store, "srv/1", RecorderSettings(keep_open=True)) as recorder:
        device = Device(store, recorder)
        yield device
        device.commands.close("the test is over")
        device.scheduler.close()


def before(store: RecordStore, tell: Callable[[Recorder], None], **root: Any) -> None:
    """Write down what the earlier process had written."""
    children = [
        {"name": one, "type": "device", "target": f"lab/{one}/1", "command": "Go"}
        for one in CHILDREN
    ]
    tree = {"name": "Go", "type": "parallel", "children": children}
    of_root = {"task_name": "Go", "device": DEVICE, "command": "Go"} | root
    with Recorder(store, "srv/1") as recorder:
        for task in new_tasks(tree, UID, **of_root):
            recorder.open(task)
        tell(recorder)


def statuses(store: RecordStore) -> dict[str, str]:
    """Return the status of each node of the command, by its name."""
    with store.reading() as session:
        rows = session.query(ProcessingTask).all()
        return {row.uid.removeprefix(UID): f"{row.status}:{row.cause}" for row in rows}


def never_called(name: str) -> LeafTask:
    """Return a step that may not run."""

    def never(*_: object) -> None:
        raise AssertionError("the method was called again")

    action = internal_action(never, None)
    return LeafTask(name, name, name, task_type=TaskType.INTERNAL, action=action)


def test_what_ended_what_goes_on_and_what_is_lost_are_joined(
    store: RecordStore, device: Device
) -> None:
    """A-17: one is replayed, one was found by its id, one is searched for."""

    def tell(recorder: Recorder) -> None:
        recorder.change(UID, situation=Situation.RUNNING)
        recorder.change(f"{UID}/one", situation=Situation.RUNNING, command_id="17_1_Go")
        recorder.finish(f"{UID}/one", Situation.DONE, "done before")
        recorder.change(f"{UID}/two", situation=Situation.RUNNING, command_id="17_2_Go")
        recorder.change(f"{UID}/three", situation=Situation.RUNNING)

    before(store, tell)
    device.child.answers = {
        "lab/two/1": (TaskStatus.COMPLETED, ResultCode.OK, "done meanwhile"),
        "lab/three/1": (TaskStatus.FAILED, ResultCode.UNKNOWN, "Go is lost: forgotten"),
    }

    device.restart()
    end = device.end_of(UID)

    assert end["result"][0] == ResultCode.UNKNOWN
    assert "lab/three/1: Go is lost" in end["result"][1]
    assert device.child.asked == [("lab/two/1", "17_2_Go"), ("lab/three/1", None)]
    assert device.records.recorder.flush(10)
    assert statuses(store) == {
        "": "LOST:None",
        "/one": "SUCCESS:None",
        "/two": "SUCCESS:None",
        "/three": "LOST:None",
    }
    assert device.kept == [({}, True)]


def test_a_command_that_had_not_begun_does_not_begin_now(
    store: RecordStore, device: Device
) -> None:
    """A-17: who queued it before a crash does not expect it after."""

    def tell(recorder: Recorder) -> None:
        recorder.open(NewTask(uid="17.1_1_Went", task_name="Went", device=DEVICE, command="Went"))
        recorder.change("17.1_1_Went", situation=Situation.RUNNING)

    before(store, tell)

    device.restart()
    end = device.end_of(UID)

    assert end["status"] == "ABORTED"
    assert "had not begun when the device server was restarted" in end["result"][1]
    assert device.child.asked == []
    assert device.records.recorder.flush(10)
    assert {statuses(store)[name] for name in ("", "/one", "/two", "/three")} == {"FAILURE:ABORTED"}
    assert device.kept == [({}, False)]


def test_the_first_in_the_queue_may_have_begun(store: RecordStore, device: Device) -> None:
    """A-17: that it has is on disk only a moment later, so its children are asked."""
    before(store, lambda _: None)
    answer = (TaskStatus.ABORTED, ResultCode.ABORTED, "Go was not sent before the restart")
    device.child.answers = {f"lab/{one}/1": answer for one in CHILDREN}

    device.restart()
    end = device.end_of(UID)

    assert end["status"] == "ABORTED"
    assert "was not sent before the restart" in end["result"][1]
    assert [target for target, _ in device.child.asked] == [f"lab/{one}/1" for one in CHILDREN]


@pytest.mark.parametrize(
    ("root", "text"),
    [
        ({"command": "Abort"}, "call it again"),
        ({"command": "Went"}, "cannot be composed again: Went: found no such command"),
    ],
)
def test_a_command_that_cannot_be_made_again_is_lost(
    store: RecordStore, device: Device, root: dict[str, str], text: str
) -> None:
    """A-17: and everything below it, with the reason."""
    before(store, lambda recorder: recorder.change(UID, situation=Situation.RUNNING), **root)

    device.restart()
    end = device.end_of(UID)

    assert (end["status"], end["result"][0]) == ("FAILED", ResultCode.UNKNOWN)
    assert text in end["result"][1]
    assert device.records.recorder.flush(10)
    assert {status.partition(":")[0] for status in statuses(store).values()} == {"LOST"}


def test_a_command_that_does_something_else_now_is_lost(store: RecordStore, device: Device) -> None:
    """A-17: the command map may have been changed in between."""
    before(store, lambda recorder: recorder.change(UID, situation=Situation.RUNNING))
    device.more = (LeafTask("four", "lab/four/1", "Go"),)

    device.restart()

    assert "what the command does has changed since" in device.end_of(UID)["result"][1]


def test_what_ran_in_the_process_itself_is_lost_with_it(store: RecordStore, device: Device) -> None:
    """A-17: a method or a plan cannot be joined."""

    def tell(recorder: Recorder) -> None:
        for name in CHILDREN:
            recorder.finish(f"{UID}/{name}", Situation.DONE, "done before")
        inner = NewTask(uid=f"{UID}/inner", task_name="inner", parent_uid=UID, kind="internal")
        recorder.open(inner)
        recorder.change(f"{UID}/inner", situation=Situation.RUNNING)
        recorder.change(UID, situation=Situation.RUNNING)

    before(store, tell)
    device.more = (never_called("inner"),)

    device.restart()
    end = device.end_of(UID)

    assert end["result"][0] != ResultCode.OK
    assert "how far it came is unknown" in end["result"][1]


def test_what_was_to_begin_in_the_process_itself_may_have_begun(
    store: RecordStore, device: Device
) -> None:
    """A-17: its beginning is on disk only a moment later, so nobody can know."""

    def tell(recorder: Recorder) -> None:
        for name in CHILDREN:
            recorder.finish(f"{UID}/{name}", Situation.DONE, "done before")
        recorder.open(
            NewTask(uid=f"{UID}/inner", task_name="inner", parent_uid=UID, kind="internal")
        )
        recorder.change(UID, situation=Situation.RUNNING)

    before(store, tell)
    device.more = (never_called("inner"),)

    device.restart()
    end = device.end_of(UID)

    assert end["result"][0] != ResultCode.OK
    assert "whether it had is unknown" in end["result"][1]
    assert statuses(store)["/inner"].startswith("LOST")


def test_what_waits_for_a_child_that_goes_on_has_not_begun(
    store: RecordStore, device: Device
) -> None:
    """A-17: what comes before it has ended after the restart."""

    def tell(recorder: Recorder) -> None:
        recorder.change(UID, situation=Situation.RUNNING)
        for name in CHILDREN:
            recorder.change(f"{UID}/{name}", situation=Situation.RUNNING)
        recorder.open(
            NewTask(uid=f"{UID}/inner", task_name="inner", parent_uid=UID, kind="internal")
        )

    before(store, tell)
    device.more = (never_called("inner"),)
    device.shape = TaskType.SEQUENTIAL
    for name in CHILDREN:
        device.child.answers[f"lab/{name}/1"] = (TaskStatus.COMPLETED, ResultCode.OK, "done")

    device.restart()
    end = device.end_of(UID)

    assert "had not begun when the device server was restarted" in end["result"][1]
    assert statuses(store)["/inner"] == "FAILURE:ABORTED"


class Broken:
    """A store that is away, until it is back."""

    def __init__(self, store: RecordStore) -> None:
        self.error: Exception | None = OSError("no disk")
        self.looks = 0
        self._store = store

    def reading(self) -> Any:
        """Fail, or give a session."""
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self._store.reading()


def works(*call: Any) -> Child:
    """Carry a command out at once."""
    call[-1](status=TaskStatus.COMPLETED, result=(ResultCode.OK, ""))
    return Child()


def test_a_store_that_cannot_be_read_keeps_nobody_from_working(
    store: RecordStore, device: Device
) -> None:
    """IN-01, A-17: new commands run; the earlier ones are taken up when the store is back."""
    before(store, lambda recorder: recorder.change(UID, situation=Situation.RUNNING))
    device._store = broken = Broken(store)  # type: ignore[assignment]
    device.child.invoke = works  # type: ignore[assignment]

    device.restart(patience=0.1)
    _, uid = device.commands.submit(device.make_job("Go", None))
    assert device.end_of(uid)["result"][0] == ResultCode.OK
    assert device.kept == []
    broken.error = None

    assert "no such child" in device.end_of(UID)["result"][1]
    assert device.kept == [], "commands have run since"


def test_a_store_that_is_away_for_a_moment_only_delays(store: RecordStore, device: Device) -> None:
    """IN-01, A-17: nothing runs before it is known what was."""
    before(store, lambda recorder: recorder.keep(DEVICE, assigned=7))
    device._store = broken = Broken(store)  # type: ignore[assignment]
    device.child.invoke = works  # type: ignore[assignment]

    device.restart()
    _, uid = device.commands.submit(device.make_job("Go", None))
    until(lambda: broken.looks >= 2)
    assert device.table.status_of(uid) is TaskStatus.QUEUED
    broken.error = None

    assert device.end_of(uid)["result"][0] == ResultCode.OK
    assert device.kept == [({"assigned": 7}, True)]
    uids = [json.loads(entry)["uid"] for entry in device.table.value("lrcFinished")]
    assert uids == [UID, uid]


@pytest.mark.parametrize("runs", [False, True])
def test_only_commands_of_this_process_outdate_what_was_kept(
    store: RecordStore, device: Device, runs: bool
) -> None:
    """IN-01, A-17: after a store that was away for long, that there were earlier ones does not."""

    def tell(recorder: Recorder) -> None:
        recorder.change(UID, situation=Situation.RUNNING)
        recorder.finish(UID, Situation.DONE, "done before")
        recorder.keep(DEVICE, assigned=7)

    before(store, tell)
    device._store = broken = Broken(store)  # type: ignore[assignment]
    device.child.invoke = works  # type: ignore[assignment]

    device.restart(patience=0.0)
    until(lambda: broken.looks >= 2)  # it was released after the first
    if runs:
        _, uid = device.commands.submit(device.make_job("Go", None))
        device.end_of(uid)
    broken.error = None

    assert device.end_of(UID)["result"][0] == ResultCode.OK
    until(lambda: bool(device.found))
    over = threading.Event()
    device.scheduler.call_soon(over.set)  # on the thread on which things are taken up
    assert over.wait(10)
    assert device.kept == ([] if runs else [({"assigned": 7}, False)])
    assert device.found == {"assigned"}, "an orderly end has to forget it, in any case"


def test_a_command_submitted_while_the_store_is_read_is_not_taken_for_an_earlier_one(
    store: RecordStore, device: Device
) -> None:
    """A-17: its record is in the store as well; it runs once, and so does the next."""
    device.child.invoke = works  # type: ignore[assignment]
    device.commands.hold()
    _, uid = device.commands.submit(device.make_job("Go", None))
    assert device.records.recorder.flush(10)

    device.restart()

    assert device.end_of(uid)["result"][0] == ResultCode.OK
    assert device.child.asked == []
    _, after = device.commands.submit(device.make_job("Go", None))
    assert device.end_of(after)["result"][0] == ResultCode.OK


def test_what_is_wrong_with_one_command_is_told_of_it_and_keeps_no_other(
    store: RecordStore, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    """A-17: whatever a device's own code raises."""

    def tell(recorder: Recorder) -> None:
        recorder.change(UID, situation=Situation.RUNNING)
        recorder.open(NewTask(uid="17.6_1_Off", task_name="Off", device=DEVICE, command="Off"))
        recorder.keep(DEVICE, assigned=7)

    before(store, tell)
    composed = device.make_job

    def make_job(name: str, argument: str | None) -> Job:
        del name, argument
        raise KeyError("beam")

    device.make_job = make_job  # type: ignore[method-assign]
    device.broken_kept = TypeError("no number")

    device.restart()
    end = device.end_of(UID)

    assert (end["status"], end["result"][0]) == ("FAILED", ResultCode.UNKNOWN)
    assert "cannot be composed again: 'beam'" in end["result"][1]
    assert device.end_of("17.6_1_Off")["status"] == "ABORTED"
    assert device.records.recorder.flush(10)
    assert statuses(store)[""] == "LOST:None"
    assert "what was kept cannot be taken up again" in caplog.text
    device.make_job = composed  # type: ignore[method-assign]


def test_a_device_that_is_shut_down_looks_no_more(store: RecordStore, device: Device) -> None:
    """A-17: its next self does."""
    before(store, lambda recorder: recorder.change(UID, situation=Situation.RUNNING))
    device._store = broken = Broken(store)  # type: ignore[assignment]
    restart = device.restart()
    until(lambda: broken.looks >= 1)

    assert not restart.stop()
    broken.error = None
    device._store = store
    again = device.restart()

    assert "no such child" in device.end_of(UID)["result"][1]
    assert again.stop()


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
