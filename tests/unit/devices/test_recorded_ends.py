"""What is written of a command and the nodes of its tree, when things do not go as planned."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._command_records import CommandRecord, CommandRecords
from milonga.devices._leaf_notes import AFTERMATH, STALLS_KEPT
from milonga.devices._tree_nodes import never_run
from milonga.lrc import Job, Origin
from milonga.records import (
    ProcessingTask,
    Recorder,
    RecordStore,
    TaskFilter,
    find_page,
    recorded_tree,
    walk,
)
from milonga.tasks import LeafTask

UID = "17.5_42_Go"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    """Give a store."""
    with RecordStore(tmp_path / "records.db") as store:
        yield store


class Written:
    """A command that is written down, and what a test does with it."""

    def __init__(self, store: RecordStore, recorder: Recorder, root: Any) -> None:
        self._store = store
        self._recorder = recorder
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.records = CommandRecords(
            recorder,
            "lab/parent/1",
            lambda function: function(),
            lambda delay, function: self.later.append((delay, function)),
        )
        self.job = Job("Go", lambda report: report(), origin=Origin(host="lab-3"))
        self.record: CommandRecord = self.records.follow(self.job, root, None)
        self.job.on_submitted(UID)

    def end(self, status: TaskStatus, code: ResultCode, text: str = "") -> None:
        """End the command."""
        self.job.before_end(status, (code, text), lambda: None)

    def look_once_more(self) -> None:
        """Let the time after the end of the command pass."""
        ((delay, look),) = self.later
        assert delay == AFTERMATH
        look()

    def rows(self) -> dict[str, ProcessingTask]:
        """Return what is written, by unique name."""
        assert self._recorder.flush(10)
        with self._store.reading() as session:
            return {task.uid: task for task in walk(session, TaskFilter(roots_only=False))}


@pytest.fixture
def write(store: RecordStore, trees: Any) -> Iterator[Callable[[Any], Written]]:
    """Give what has a command written down, with its tree."""
    with Recorder(store, "srv/1") as recorder:
        yield lambda root: Written(store, recorder, root)


def test_nothing_ends_after_what_is_above_it(write: Callable[[Any], Written], trees: Any) -> None:
    """Also where a command ends that never ran."""
    written = write(trees.group("Go", trees.group("all", trees.leaf("a"), trees.leaf("b"))))
    written.end(TaskStatus.ABORTED, ResultCode.ABORTED, "Command has been aborted")

    rows = written.rows()

    assert len(rows) == 4
    ends = {uid: row.finished_at for uid, row in rows.items()}
    for uid, end in ends.items():
        above = uid.rpartition("/")[0]
        assert not above or end <= ends[above]


def test_a_command_is_recorded_as_its_clients_see_it_not_as_its_tree(
    write: Callable[[Any], Written], trees: Any, desk: Any
) -> None:
    """An Abort has done its work, although a child is lost: its tree says so."""
    root = trees.leaf("a")
    written = write(root)
    root.start(desk.context)
    desk.settle()
    (call,) = desk.calls
    call.end(ResultCode.UNKNOWN, TaskStatus.FAILED)
    assert root.cause == "LOST"
    written.end(TaskStatus.COMPLETED, ResultCode.FAILED, "1 NO_ANSWER")

    row = written.rows()[UID]

    assert row.situation.words.task_status is TaskStatus.COMPLETED
    assert row.result_code == "FAILED"


@pytest.mark.parametrize("uid", [None, UID])
def test_who_wants_a_command_to_end_is_written_with_it(
    write: Callable[[Any], Written], trees: Any, uid: str | None
) -> None:
    """Once, beside what is known of the call; not with a command that has ended."""
    written = write(trees.leaf("a"))
    written.records.abort_asked("ann@lab", uid)
    written.records.abort_asked("joe@lab", uid)
    written.end(TaskStatus.ABORTED, ResultCode.ABORTED)
    written.records.abort_asked("eve@lab", uid)

    data = written.rows()[UID].data

    assert data["aborted_by"] == "ann@lab"
    assert "server_pid" in data


def test_an_abort_that_another_one_joins_is_not_ended_by_it(
    write: Callable[[Any], Written], trees: Any
) -> None:
    """It ends all others."""
    written = write(trees.leaf("a"))
    written.job.name = "Abort"
    written.records.abort_asked("ann@lab")

    assert "aborted_by" not in written.rows()[UID].data


@pytest.mark.parametrize(("uid", "written_down"), [(None, False), (UID, True)])
def test_a_safety_command_is_not_ended_by_an_abort_of_all(
    write: Callable[[Any], Written], trees: Any, uid: str | None, written_down: bool
) -> None:
    """By its id it is."""
    written = write(trees.leaf("a"))
    written.job.safety = True
    written.records.abort_asked("ann@lab", uid)

    assert ("aborted_by" in written.rows()[UID].data) is written_down


def test_what_a_safety_command_passed_by_is_written_with_its_limit(
    write: Callable[[Any], Written], trees: Any
) -> None:
    """Beside what is known of the call, once it starts."""
    written = write(trees.leaf("a"))
    written.job.bypass = {"interrupted": ["17.4_1_Scan"]}
    written.job.time_limit = 10.0
    written.job.before_start(UID, lambda: None)

    row = written.rows()[UID]

    assert row.data["bypass"] == {"interrupted": ["17.4_1_Scan"]}
    assert "server_pid" in row.data
    assert row.deadline_at is not None


@pytest.mark.parametrize("anew", [False, True])
def test_what_became_of_each_child_is_written_beside_what_is_known(
    write: Callable[[Any], Written], trees: Any, desk: Any, anew: bool
) -> None:
    """Whoever aborted the command and what it passed by stay there, also after a restart."""
    root = trees.group("Go", trees.leaf("a"), trees.leaf("b"))
    written = write(root)
    written.job.bypass = {"overtook": ["17.4_1_Scan"]}
    written.job.before_start(UID, lambda: None)
    written.records.abort_asked("ann@lab", UID)
    if anew:
        written.record.resume({UID: None}, UID, written.rows()[UID].data)  # type: ignore[dict-item]
    root.start(desk.context)
    desk.settle()
    for call in desk.calls:
        call.end(ResultCode.FAILED, TaskStatus.FAILED)
    written.end(TaskStatus.COMPLETED, ResultCode.FAILED)

    data = written.rows()[UID].data

    assert [one["result_code"] for one in data["outcomes"]] == ["FAILED", "FAILED"]
    assert data["omitted"] == 0
    assert data["aborted_by"] == "ann@lab"
    assert data["bypass"] == {"overtook": ["17.4_1_Scan"]}


def test_an_abort_of_one_command_is_not_written_with_others(
    write: Callable[[Any], Written], trees: Any
) -> None:
    """By its id."""
    written = write(trees.leaf("a"))
    written.records.abort_asked("ann@lab", "17.5_43_Go")

    assert "aborted_by" not in written.rows()[UID].data


def test_a_trace_is_written_as_text(
    write: Callable[[Any], Written], trees: Any, desk: Any, store: RecordStore
) -> None:
    """Lines, as whoever reads them expects."""
    root = trees.group("Go", trees.leaf("a"))
    written = write(root)
    root.start(desk.context)
    desk.settle()
    (call,) = desk.calls
    call.report(
        status=TaskStatus.FAILED,
        result=(ResultCode.FAILED, "bug"),
        error="Traceback\nValueError: bug",
    )
    written.end(TaskStatus.FAILED, ResultCode.FAILED)
    written.rows()

    with store.reading() as session:
        (node,) = find_page(session, TaskFilter(parent_uid=UID)).tasks
        assert node.error == "Traceback\nValueError: bug"


# Remarks


class Odd(LeafTask):
    """A leaf of which there is something to be told."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"lab/{name}/1", "Go")
        self.odd: dict[str, Any] = {}

    def remarks(self) -> dict[str, Any]:
        """Return what a test says."""
        return super().remarks() | self.odd


def run(root: Any, desk: Any) -> None:
    """Have a tree run to its end."""
    root.start(desk.context)
    desk.settle()
    for call in desk.calls:
        call.end()


def test_what_was_wrong_with_events_is_written_with_the_node(
    write: Callable[[Any], Written], trees: Any, desk: Any
) -> None:
    """What is known at its end, at its end; a node that was as it should be has nothing."""
    odd = Odd("a")
    odd.odd = {"irregular_events": {"doubled": 2, "notes": []}}
    root = trees.group("Go", odd, trees.leaf("b"))
    written = write(root)
    run(root, desk)
    written.end(TaskStatus.COMPLETED, ResultCode.OK)

    rows = written.rows()

    assert rows[f"{UID}/a"].data == {"irregular_events": {"doubled": 2, "notes": []}}
    assert rows[f"{UID}/b"].data == {}


def test_what_comes_after_the_end_is_written_once_and_changes_no_end(
    write: Callable[[Any], Written], trees: Any, desk: Any
) -> None:
    """Some seconds later, in one go; what is as it was is not written again."""
    late, known = Odd("a"), Odd("b")
    known.odd = {"abort": "ACK", "abort_text": "it has ended"}
    root = trees.group("Go", late, known)
    written = write(root)
    run(root, desk)
    written.end(TaskStatus.COMPLETED, ResultCode.OK)
    before = written.rows()
    late.odd = {"irregular_events": {"late": 1, "notes": []}}
    written.look_once_more()

    rows = written.rows()

    assert rows[f"{UID}/a"].data == late.odd
    assert rows[f"{UID}/a"].finished_at == before[f"{UID}/a"].finished_at
    assert rows[f"{UID}/a"].version == before[f"{UID}/a"].version + 1
    assert rows[f"{UID}/b"].data == known.odd
    assert rows[f"{UID}/b"].version == before[f"{UID}/b"].version


def test_what_is_known_of_a_tree_of_one_leaf_stands_beside_the_call(
    write: Callable[[Any], Written], desk: Any
) -> None:
    """Its node is the command itself."""
    root = Odd("Go")
    written = write(root)
    run(root, desk)
    root.odd = {"irregular_events": {"missing": 1, "notes": []}}
    written.end(TaskStatus.COMPLETED, ResultCode.OK)
    written.look_once_more()

    data = written.rows()[UID].data

    assert data["irregular_events"]["missing"] == 1
    assert "server_pid" in data


def test_silences_are_written_with_their_times(
    write: Callable[[Any], Written], trees: Any, desk: Any, store: RecordStore
) -> None:
    """While they last and when they are over, and no more of them than are of use."""
    leaf = trees.leaf("a")
    root = trees.group("Go", leaf)
    written = write(root)
    root.start(desk.context)
    desk.settle()
    written.record.node_stalled(leaf, True)
    written.rows()
    (during,) = recorded_tree(store, UID)["children"]
    for number in range(STALLS_KEPT + 5):
        written.record.node_stalled(leaf, number % 2 == 1)
    written.record.node_stalled(leaf, False)
    desk.calls[0].end()
    written.end(TaskStatus.COMPLETED, ResultCode.OK)
    written.rows()

    (after,) = recorded_tree(store, UID)["children"]

    assert during["stalled"] is True
    assert "stalled" not in after
    assert 2 < len(after["stalls"]) <= STALLS_KEPT
    assert all(stall["since"] <= stall["until"] for stall in after["stalls"])


def test_no_node_of_a_command_that_ended_in_the_queue_waits_for_anything(trees: Any) -> None:
    """Its tree tells the same as its record."""
    tree = trees.group("Go", trees.leaf("a"), trees.leaf("b")).snapshot()

    ended = never_run(tree, TaskStatus.REJECTED)

    assert (ended["status"], ended["result_code"]) == ("REJECTED", "REJECTED")
    assert {node["status"] for node in ended["children"]} == {"ABORTED"}
    assert {node["message"] for node in ended["children"]} == {"ended before it began"}
