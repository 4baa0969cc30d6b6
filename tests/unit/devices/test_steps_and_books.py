"""Steps that wait at a device, and what a plan does, as they are shown and written down."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._analyses import read_analyses
from milonga.devices._plan_book import PlanBook
from milonga.devices._steps import ClearWish, StepDesk
from milonga.devices._tree_job import Ticket
from milonga.errors import ArgumentError, CommandMapError, CommandRejected
from milonga.records import Durability, NewTask
from milonga.tasks import ChildSpec, StepRequest


class Notes:
    """Keeps what a recorder is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.data: list[Any] = []
        self.receipts: list[Future[Durability]] = []

    def open(self, task: NewTask, *, patience: float | None = None) -> Future[Durability]:
        """Note a task."""
        self.told.append(("open", task.uid, task.parent_uid, task.device))
        self.receipts.append(Future())
        return self.receipts[-1]

    def change(self, uid: str, **values: Any) -> None:
        """Note a change."""
        situation = values.get("situation")
        told = situation.name if situation is not None else values.get("command_id", "data")
        self.told.append(("change", uid, told))

    def note(self, uid: str, data: Any) -> None:
        """Note what has become known."""
        self.told.append(("note", uid))
        self.data.append(data)

    def finish(self, uid: str, situation: Any, message: str = "", **values: Any) -> None:
        """Note an end."""
        self.data.append(values.get("data"))
        self.told.append(("finish", uid, situation.name, message))

    def add_step(self, uid: str, step_id: str, href: str, ui_href: str = "") -> None:
        """Note a step."""
        self.told.append(("step", uid, step_id, href))

    def clear_step(self, uid: str) -> None:
        """Note that it is cleared."""
        self.told.append(("clear", uid))

    def log(self, uid: str, text: str, level: str = "INFO") -> None:
        """Note a line."""
        self.told.append(("log", uid, text))

    def add_run(self, uid: str, run_uid: str) -> None:
        """Note a run."""
        self.told.append(("run", uid, run_uid))


class Updates:
    """Keeps the updates of a leaf."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def __call__(self, **update: Any) -> None:
        """Take one."""
        self.seen.append(update)


def ticket(uid: str) -> Ticket:
    """Return the ticket of an accepted command."""
    made = Ticket()
    made.command_id = uid
    return made


def request(*path: str, schema: dict[str, Any] | None = None) -> StepRequest:
    """Return what a step asks."""
    return StepRequest(path, "Sure?", schema, 60.0)


def wish(**fields: Any) -> ClearWish:
    """Return what a client wishes."""
    return ClearWish.from_json(json.dumps(fields))


# Steps


def test_a_step_is_shown_written_down_and_gone_when_it_is_answered() -> None:
    """IN-09: PAUSED while it waits, RUNNING again before the leaf has its end."""
    notes, shown, updates = Notes(), [], Updates()
    desk = StepDesk("a/b/1", shown.append, notes)

    step = desk.asker(ticket("1_Go"))(request("x", "ask"), updates)

    (entry,) = json.loads(desk.text())
    assert (entry["task"], entry["node"], entry["step"]) == ("1_Go", "1_Go/x/ask", "x/ask")
    assert notes.told == [
        ("change", "1_Go/x/ask", "PAUSED"),
        ("change", "1_Go", "PAUSED"),
        ("step", "1_Go/x/ask", "ask", "a/b/1/ClearStep"),
    ]
    assert desk.clear(wish(task="1_Go", step="ask"), by="ann")[0] is ResultCode.OK
    assert json.loads(desk.text()) == []
    assert notes.told[3:] == [
        ("clear", "1_Go/x/ask"),
        ("change", "1_Go/x/ask", "data"),
        ("change", "1_Go", "RUNNING"),
        ("log", "1_Go/x/ask", "confirmed by ann"),
    ]
    assert updates.seen[-1]["status"] is TaskStatus.COMPLETED
    assert [len(json.loads(text)) for text in shown] == [1, 0]
    step.close()
    assert len(shown) == 2


def test_a_command_is_paused_as_long_as_any_of_its_steps_waits() -> None:
    """The other command's steps do not matter."""
    notes = Notes()
    desk = StepDesk("a/b/1", lambda _: None, notes)
    ask = desk.asker(ticket("1_Go"))
    first, second = (ask(request(name), Updates()) for name in ("a", "b"))
    desk.asker(ticket("2_Go"))(request("a"), Updates())

    first.abort()
    assert ("change", "1_Go", "RUNNING") not in notes.told
    second.abort()
    assert ("change", "1_Go", "RUNNING") in notes.told


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"task": "3_Go"}, "task: found '3_Go', expected one that waits for a person: 1_Go"),
        ({"task": "1_Go"}, "step: found no name, expected one of a, x/b"),
        ({"task": "1_Go", "step": "c"}, "step: found 'c', expected one of a, x/b"),
    ],
)
def test_what_does_not_wait_cannot_be_cleared(fields: dict[str, Any], text: str) -> None:
    """Refused, with what does wait."""
    desk = StepDesk("a/b/1", lambda _: None)
    ask = desk.asker(ticket("1_Go"))
    ask(request("a"), Updates())
    ask(request("x", "b"), Updates())

    with pytest.raises(CommandRejected) as refusal:
        desk.clear(wish(**fields))

    assert text in str(refusal.value)


def test_steps_are_named_by_their_name_path_or_node() -> None:
    """Whatever a client has at hand."""
    desk = StepDesk("a/b/1", lambda _: None)
    ask = desk.asker(ticket("1_Go"))
    for fields in ({"step": "b"}, {"step": "x/b"}, {"task": "1_Go/x/b"}):
        ask(request("x", "b"), Updates())
        assert desk.clear(wish(**({"task": "1_Go"} | fields)))[0] is ResultCode.OK


def test_a_wish_that_is_wrong_is_refused_by_field() -> None:
    """All fields at once."""
    with pytest.raises(ArgumentError) as refusal:
        wish(task=7, ok="yes", more=1)
    for text in ("task: found '7'", "ok: found 'yes'", "more: found '1'"):
        assert text in str(refusal.value)


# Plans


class Invocation:
    """A command at a child."""

    def __init__(self) -> None:
        self.command_id: str | None = "9_End"
        self.aborts = self.closes = 0

    def abort(self) -> None:
        """Note it."""
        self.aborts += 1

    def close(self) -> None:
        """Note it."""
        self.closes += 1


CHILD = ChildSpec(name="cbf", trl="lab/cbf/1")
UID = "1_RunPlan/tune/cbf.End.0"


class Bench:
    """A book, the child's side, and the thread of the device, which the test turns."""

    def __init__(self) -> None:
        self.notes, self.updates, self.inner = Notes(), Updates(), Invocation()
        self.soon: list[Callable[[], None]] = []
        self.told: Callable[..., None] | None = None
        self.book = PlanBook(
            self.notes, lambda: "1_RunPlan/tune", lambda: "1_RunPlan", self.soon.append
        )
        self.sent = self.book.send(CHILD, "End", None, self.updates, self._invoke)

    def _invoke(self, told: Callable[..., None]) -> Invocation:
        self.told = told
        return self.inner

    def write(self) -> None:
        """Commit, and let the device's thread work."""
        self.notes.receipts[0].set_result(Durability.DURABLE)
        for function in self.soon:
            function()


def test_a_command_of_a_plan_is_written_before_it_is_sent() -> None:
    """IN-01: and its id and its end as they come."""
    bench = Bench()
    assert bench.notes.told == [("open", UID, "1_RunPlan/tune", "lab/cbf/1")]
    assert bench.told is None, "it is sent when it is on disk"

    bench.write()
    assert bench.told is not None
    bench.told(command_id="9_End", status=TaskStatus.IN_PROGRESS)
    bench.told(status=TaskStatus.COMPLETED, result=(ResultCode.OK, "done"))
    bench.sent.close()

    assert bench.notes.told[1:] == [
        ("change", UID, "RUNNING"),
        ("change", UID, "9_End"),
        ("finish", UID, "DONE", "done"),
    ]
    assert bench.updates.seen[-1]["result"] == (ResultCode.OK, "done")
    assert (bench.sent.command_id, bench.inner.closes) == ("9_End", 1)


def test_a_command_that_is_aborted_before_it_is_sent_is_not_sent() -> None:
    """And says so."""
    bench = Bench()
    bench.sent.abort()
    bench.sent.abort()
    bench.write()

    assert bench.told is None
    assert bench.notes.told[1:] == [("finish", UID, "ABORTED", "aborted before it was sent")]
    assert len(bench.updates.seen) == 1


@pytest.mark.parametrize(("aborted", "situation"), [(False, "LOST"), (True, "ABORTED")])
def test_a_command_that_a_plan_leaves_behind_has_an_end(aborted: bool, situation: str) -> None:
    """Nobody listens any more: what became of it is not known here."""
    bench = Bench()
    bench.write()
    if aborted:
        bench.sent.abort()
    bench.sent.close()

    assert bench.notes.told[-1] == (
        "finish",
        UID,
        situation,
        "the plan has not waited for its end",
    )
    assert bench.inner.aborts == aborted


def test_what_is_remarkable_of_a_command_of_a_plan_is_written_when_it_is_known() -> None:
    """What was wrong with events, with the end; what the child says to an abort, also later."""
    bench = Bench()
    bench.inner.irregular = lambda: {"late": 1}  # type: ignore[attr-defined]
    bench.write()
    assert bench.told is not None
    bench.sent.abort()
    bench.told(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, "stopped"))
    bench.told(abort_ack="ACK", abort_text="it has ended")

    assert bench.notes.told[-2:] == [("finish", UID, "ABORTED", "stopped"), ("note", UID)]
    late = {"irregular_events": {"late": 1}}
    assert bench.notes.data == [late, {"abort": "ACK", "abort_text": "it has ended"} | late]


def test_runs_are_noted_below_the_plan() -> None:
    """IN-03: as they begin."""
    bench = Bench()
    bench.book.run_opened("u")
    assert bench.notes.told[-1] == ("run", "1_RunPlan/tune", "u")


def test_a_pause_is_noted_of_the_plan_and_its_command() -> None:
    """IN-05: as the wait for a person is."""
    bench = Bench()
    bench.book.paused()
    bench.book.resumed()
    assert bench.notes.told[-4:] == [
        ("change", "1_RunPlan/tune", "PAUSED"),
        ("change", "1_RunPlan", "PAUSED"),
        ("change", "1_RunPlan/tune", "RUNNING"),
        ("change", "1_RunPlan", "RUNNING"),
    ]


# Analyses


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("peak", "line 2: line: found 'peak'"),
        ('{"name": "x"}', "line 2: target: found"),
        ('{"name": "x", "target": "module"}', "target: found 'module'"),
        ('{"name": "peak", "target": "a:b"}', "name: found 'peak' again; expected it once"),
        ('{"name": "x", "target": "a:b", "timeout": 0}', "timeout: found 0"),
        ('{"name": "x", "target": "a:b", "targets": 1}', "targets: found 1"),
    ],
)
def test_a_wrong_line_of_analyses_is_refused(line: str, text: str) -> None:
    """With the line and the field."""
    with pytest.raises(CommandMapError) as refusal:
        read_analyses(['{"name": "peak", "target": "milonga.analyses:fit_peak"}', line])
    assert text in str(refusal.value)
