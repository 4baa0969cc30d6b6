"""The plans of one device: what is told of them when something goes wrong."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from bluesky import plan_stubs as bps
from bluesky.utils import Msg, MsgGenerator

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._plan_book import PlanBook
from milonga.devices._plan_calls import PlanCaller
from milonga.devices._plan_desk import PlanDesk
from milonga.devices._plan_documents import PlanDocuments
from milonga.devices._plan_properties import EngineLimits
from milonga.engine import Status
from milonga.errors import CommandMapError
from milonga.lrc import Scheduler


class Stubborn:
    """Does not resume before it is allowed to."""

    name = "stubborn"
    parent = None
    may_resume = False

    def set(self, _value: object) -> Status:
        """Move, for ever."""
        return Status(name="move")

    def pause(self) -> None:
        """Pause."""

    def resume(self) -> None:
        """Refuse."""
        if not self.may_resume:
            raise OSError("the brake is on")


STUBBORN = Stubborn()


def moving() -> MsgGenerator[None]:
    """Move, and wait for that."""
    yield Msg("set", STUBBORN, 1, group="a")
    yield from bps.wait(group="a")


def one_run() -> MsgGenerator[None]:
    """Make a run without events."""
    yield from bps.open_run()
    yield from bps.close_run()


class Links:
    """The way to no child."""

    def invoke(self, *_: Any) -> Any:
        """Refuse."""
        raise AssertionError("there are no children")


class Bench:
    """A desk, and what it tells."""

    def __init__(self, folder: Path) -> None:
        self.published: dict[str, Any] = {}
        self.updates: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self.scheduler = Scheduler("test plan desk", nullcontext)
        self.desk = PlanDesk(
            "lab/plans/1",
            {name: f"plans_of_test:{name}" for name in ("moving", "one_run")},
            (),
            PlanDocuments("lab/plans/1", folder, "", 1.0),
            lambda running: PlanCaller((), Links(), lambda _: "", running),
            EngineLimits(halt_after=7.0, max_queued=1, lag_limit=2.0),
            self.scheduler,
            self.published.__setitem__,
            logging.getLogger("milonga.device.lab/plans/1"),
        )

    def run(self, plan: str, book: PlanBook | None = None) -> None:
        """Start a plan."""
        action = self.desk.action(plan, None, dict, book=book)
        action(None, self._updated)  # type: ignore[arg-type] # plans ask for no context

    def _updated(self, **update: Any) -> None:
        self.updates.append(update)
        if "result" in update:
            self.ended.set()

    def close(self) -> None:
        """End it."""
        self.desk.close(5.0)
        self.scheduler.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Make a desk with the plans of this file."""
    monkeypatch.setitem(sys.modules, "plans_of_test", sys.modules[__name__])
    bench = Bench(tmp_path / "documents")
    yield bench
    bench.close()


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds, or fail."""
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.002)


def test_a_resume_that_fails_is_told(
    bench: Bench, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the log and an attribute; the plan can be resumed when the reason is gone."""
    told = bench.published
    bench.run("moving")
    until(lambda: told.get("engineState") == "running")
    bench.desk.pause(0.01)
    until(lambda: told["engineState"] == "paused")

    assert bench.desk.resume()[0] is ResultCode.OK

    text = "Resume: plan 'moving' did not go on: OSError: the brake is on"
    until(lambda: told.get("planProblem") == text)
    assert told["engineState"] == "paused"
    assert [each.message for each in caplog.records if each.name.endswith("plans/1")] == [text]

    monkeypatch.setattr(STUBBORN, "may_resume", True)
    bench.desk.resume()
    until(lambda: told["engineState"] == "running")
    until(lambda: told["planProblem"] == "")


class Recorder:
    """Keeps in which situation tasks are."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def open(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise AssertionError("there are no children")

    def change(self, uid: str, *, situation: Any = None, **_: Any) -> None:
        """Note a situation."""
        self.told.append(f"{uid} {situation.name}")

    def finish(self, *_: Any, **__: Any) -> None:
        """Refuse."""
        raise AssertionError("there are no children")

    def add_run(self, uid: str, run_uid: str) -> None:
        """Nothing is asked of runs."""


@pytest.mark.parametrize("then", ["resume", "abort"])
def test_a_paused_plan_is_recorded_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """IN-05: until it goes on, if only to be cleaned up."""
    monkeypatch.setattr(STUBBORN, "may_resume", True)
    recorder = Recorder()
    book = PlanBook(recorder, lambda: "node", lambda: "command", bench.scheduler.call_soon)
    bench.run("moving", book)
    until(lambda: bench.published.get("engineState") == "running")
    bench.desk.pause(0.01)
    until(lambda: recorder.told == ["node PAUSED", "command PAUSED"])

    if then == "resume":
        bench.desk.resume()
    else:
        bench.desk.end("abort")

    until(lambda: recorder.told[2:] == ["node RUNNING", "command RUNNING"])


def test_documents_that_are_not_written_are_told(bench: Bench) -> None:
    """By an attribute, and in the result of the command."""
    bench.desk.documents.folder.rmdir()

    bench.run("one_run")

    assert bench.ended.wait(10.0)
    last = bench.updates[-1]
    assert last["status"] is TaskStatus.COMPLETED
    assert last["result"][1].endswith("; 2 documents not written")
    assert last["data"]["documents_lost"] == 2
    until(lambda: bench.published.get("documentsLost") == 2)


def test_the_engine_is_as_patient_as_the_properties_say(bench: Bench) -> None:
    """A second plan waits, a third one is refused."""
    engine = bench.desk.engine
    assert (engine.halt_after, engine.max_queued, engine.watchdog.limit) == (7.0, 1, 2.0)
    for _ in range(3):
        bench.run("moving")
    assert bench.ended.wait(10.0)
    assert bench.updates[-1]["status"] is TaskStatus.REJECTED


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"halt_after": 0.0}, "Property HaltAfter: found 0.0; expected a number > 0"),
        ({"max_queued": -1}, "Property MaxQueuedPlans: found -1"),
        ({"lag_limit": float("nan")}, "Property LoopLagLimit: found nan"),
    ],
)
def test_a_wrong_limit_is_told(limits: dict[str, Any], text: str) -> None:
    """With the name of the property."""
    with pytest.raises(CommandMapError, match=text):
        EngineLimits(**limits)
