"""What is written down of a command and the nodes of its tree."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._command_records import CommandRecords
from milonga.devices._limits import set_limit
from milonga.devices._tree_job import TreeJob
from milonga.lrc import CommandServer, CommandTable, Job, Publisher, Scheduler
from milonga.records import ProcessingTask, Recorder, RecordStore, explain, recorded_tree
from milonga.tasks import BaseTask, ExecutionContext, LeafTask, NoWork, Task, TaskType

SOON = 20.0


class Site:
    """The commands of a device, which are written down."""

    def __init__(self, store: RecordStore, recorder: Recorder) -> None:
        self.store, self.recorder = store, recorder
        self.scheduler = Scheduler("test")
        self.table = CommandTable(capacity=66)
        publisher = Publisher(lambda *_: None, self.scheduler.call_later)
        self.commands = CommandServer(
            self.table, publisher, self.scheduler.call_soon, self.scheduler.call_later
        )
        self.records = CommandRecords(
            recorder, "lab/parent/1", self.scheduler.call_soon, self.scheduler.call_later
        )

    def run(self, *leaves: LeafTask, limit: float | None = None, **options: Any) -> str:
        """Run a command that has these leaves until its end; return its id."""

        def make(completed: Callable[..., None], progressed: Callable[..., None]) -> BaseTask:
            callbacks = {"completed_callback": completed, "progress_callback": progressed}
            return Task(
                "Go", TaskType.PARALLEL, is_root=True, subtasks=leaves, **callbacks, **options
            )

        caller: Any = None
        tree = TreeJob(make, ExecutionContext(self.scheduler, caller))
        job = Job("Go", tree.start, tree.abort, work=tree)
        tree.record = self.records.follow(job, tree.task, None)
        job.limit = tree.limit
        return self.submitted(job, limit)

    def submitted(self, job: Job, limit: float | None = None) -> str:
        """Submit a job, and wait for its end."""
        if limit is not None:
            set_limit(job, limit, self.scheduler.call_later)
        ended = threading.Event()
        job.on_ended = lambda *_: ended.set()
        _, uid = self.commands.submit(job)
        assert ended.wait(SOON)
        assert self.recorder.flush(SOON)
        return uid

    def row(self, uid: str) -> ProcessingTask:
        """Return a record."""
        with self.store.reading():
            task = ProcessingTask.get_by_uid(uid)
        assert task is not None
        return task


def leaf(name: str, argument: str | None = None, answer: str = "", **options: Any) -> LeafTask:
    """Return a leaf that ends at once, well or, with an answer, badly."""

    def action(_: ExecutionContext, on_update: Callable[..., None]) -> NoWork:
        if argument and "$answer" in argument:
            on_update(argument=argument.replace("$answer", "7"))
        code = ResultCode.FAILED if answer else ResultCode.OK
        on_update(status=TaskStatus.COMPLETED, result=(code, answer))
        return NoWork()

    return LeafTask(
        name, f"lab/{name}/1", "Go", argument, task_type=TaskType.INTERNAL, action=action, **options
    )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Give a device's commands."""
    with RecordStore(tmp_path / "records.db") as store, Recorder(store, "srv/1") as recorder:
        site = Site(store, recorder)
        yield site
        site.commands.close("the test is over")
        site.scheduler.close()


def test_a_record_of_a_leaf_has_its_argument(site: Site) -> None:
    """IN-01: as it was sent, and it is told where the leaf is the cause of a failure."""
    uid = site.run(
        leaf("one", '{"beam": 3}', "no power"), leaf("two", '{"gain": "$answer"}'), leaf("three")
    )

    assert site.row(f"{uid}/one").parameters == '{"beam": 3}'
    assert site.row(f"{uid}/two").parameters == '{"gain": "7"}'
    assert site.row(f"{uid}/three").parameters == ""
    with site.store.reading() as session:
        assert 'argument: {"beam": 3}' in explain(session, uid).lines()
    shown = {
        child["name"]: child["argument"] for child in recorded_tree(site.store, uid)["children"]
    }
    assert shown == {"one": '{"beam": 3}', "two": '{"gain": "7"}', "three": None}


def test_a_long_argument_is_cut_and_says_so(site: Site) -> None:
    """IN-01: a tree has many leaves, each with an argument."""
    uid = site.run(leaf("one", json.dumps("x" * 10_000)))

    kept = site.row(f"{uid}/one").parameters

    assert kept.endswith("… (cut, 10002 characters)")
    assert len(kept) < 4200


def test_records_have_the_deadlines_of_command_and_nodes(site: Site) -> None:
    """IN-01: of each node the one that holds for it, from its start on."""
    began = datetime.now(UTC)
    uid = site.run(leaf("one", timeout=30.0), leaf("two", timeout=300.0), timeout=100.0)

    seconds = {}
    for name in ("", "/one", "/two"):
        deadline = site.row(f"{uid}{name}").deadline_at
        assert deadline is not None
        seconds[name] = (deadline - began).total_seconds()
    assert seconds == {
        "": pytest.approx(100.0, abs=10.0),
        "/one": pytest.approx(30.0, abs=10.0),
        "/two": pytest.approx(100.0, abs=10.0),
    }
    assert site.row(site.run(leaf("one"))).deadline_at is None


def test_a_deadline_that_moves_is_written_down_for_all_that_it_holds_for(site: Site) -> None:
    """IN-01, row 32: of who asked, and of the command and what else runs below it."""
    asks = threading.Event()

    def action(_: ExecutionContext, on_update: Callable[..., None]) -> NoWork:
        on_update(extend=500.0)
        asks.set()
        on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, ""))
        return NoWork()

    def waits(_: ExecutionContext, on_update: Callable[..., None]) -> NoWork:
        def end() -> None:
            assert asks.wait(SOON)
            on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, ""))

        threading.Thread(target=end).start()
        return NoWork()

    began = datetime.now(UTC)
    uid = site.run(
        LeafTask("waits", "lab/waits/1", "Go", task_type=TaskType.INTERNAL, action=waits),
        LeafTask("asks", "lab/asks/1", "Go", task_type=TaskType.INTERNAL, action=action),
        timeout=100.0,
        max_timeout=400.0,
    )

    for name in ("", "/waits", "/asks"):
        deadline = site.row(f"{uid}{name}").deadline_at
        assert deadline is not None
        assert (deadline - began).total_seconds() == pytest.approx(400.0, abs=10.0)


@pytest.mark.parametrize("has_tree", [True, False])
def test_the_limit_of_the_caller_is_the_deadline_of_the_command(site: Site, has_tree: bool) -> None:
    """IN-01: also of a command without a tree."""
    began = datetime.now(UTC)
    if has_tree:
        uid = site.run(leaf("one"), limit=50.0)
    else:
        job = Job("Go", lambda report: report(status=TaskStatus.COMPLETED))
        site.records.follow(job, None, None)
        uid = site.submitted(job, 50.0)

    deadline = site.row(uid).deadline_at

    assert deadline is not None
    assert deadline - began < timedelta(seconds=60)


def test_a_command_may_do_without_waiting_for_its_record(site: Site) -> None:
    """IN-01: where a site wants it so, records come after; they are the same."""
    site.records.waits = False
    with site.store.writing():  # nothing can be written
        ended = threading.Event()
        job = Job("Go", lambda report: report(status=TaskStatus.COMPLETED))
        site.records.follow(job, None, None)
        job.on_ended = lambda *_: ended.set()
        _, uid = site.commands.submit(job)
        assert ended.wait(SOON)

    assert site.recorder.flush(SOON)
    assert site.row(uid).status == "SUCCESS"
