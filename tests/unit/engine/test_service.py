"""What a device needs of the engine: allowed plans, leaves, outcomes, documents, the watchdog."""

import concurrent.futures
import errno
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bluesky.plan_stubs import close_run, null, open_run, sleep
from bluesky.utils import FailedStatus, Msg, MsgGenerator

import milonga
from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.engine import (
    SITUATIONS,
    PlanAction,
    PlanNotFound,
    PlanRegistry,
    RunEngine,
    Situation,
    Status,
    meaning_of,
    situation_from,
    situation_of,
)
from milonga.engine._progress import PlanProgress
from milonga.engine.actions import Action
from milonga.engine.plan_stubs import wait_for_actions
from milonga.errors import ArgumentError
from milonga.tasks import ExecutionContext, LeafAction, LeafTask, TaskType

from .conftest import Detector, endless, until

# Allowed plans


def hello(word: str = "hello") -> MsgGenerator[str]:
    """Say something."""
    yield from null()
    return word


def for_ever() -> MsgGenerator[None]:
    """Go on."""
    yield from endless()


def with_action(go: Action = Action(name="go")) -> MsgGenerator[Any]:  # noqa: B008
    """Wait for the action."""
    return (yield from wait_for_actions(go.event_map, timeout=None))


def failing() -> MsgGenerator[None]:
    """Raise."""
    yield from open_run()
    raise OSError("no beam")


def silent() -> MsgGenerator[None]:
    """Wait for a device that says nothing."""
    yield Msg("set", Silent(), 1, group="a")
    yield Msg("wait", None, group="a")


class Silent:
    """A device that says nothing."""

    name = "silent"
    parent = None

    def set(self, value: int) -> Status:
        """Start, and never say more."""
        return Status(timeout=0.0, name="silent")


DEVICES = {"det": Detector("det")}
PLANS = PlanRegistry(
    [hello, for_ever, with_action, failing, silent, "bluesky.plans:count"], DEVICES
)


def test_only_listed_plans_are_found() -> None:
    """SP-12: nothing is imported because a client names it."""
    before = set(sys.modules)
    for wrong in ("os:system", "antigravity:fly", "nothing", ""):
        with pytest.raises(PlanNotFound, match=r"expected one of: count, failing"):
            PLANS.prepare(wrong)
        assert wrong not in PLANS
    assert set(sys.modules) == before
    assert PLANS.names == ("count", "failing", "for_ever", "hello", "silent", "with_action")
    assert "count" in PLANS


def test_a_registry_refuses_what_is_no_plan() -> None:
    """SP-01: when it is made."""
    for wrong, error in (
        ("no colon", ValueError),
        ("no.such.module:plan", ImportError),
        ("bluesky.plans:no_such_plan", AttributeError),
        ("os:getcwd", TypeError),
    ):
        with pytest.raises(error):
            PlanRegistry([wrong])
    with pytest.raises(ValueError, match="two of that name"):
        PlanRegistry([hello, hello])
    assert PlanRegistry({"greet": hello}).spec("greet").docs == "Say something."


def test_a_plan_is_described_for_clients() -> None:
    """SP-12: as JSON, with its actions."""
    described = json.loads(PLANS.describe("with_action"))
    assert described["actions"][0]["name"] == "go"
    assert described["schema"]["properties"] == {}
    assert json.loads(PLANS.describe("count"))["schema"]["required"] == ["detectors"]


def test_prepared_plans_have_their_own_actions(engine: RunEngine) -> None:
    """AC-09, B-13: the default in the signature is never shared."""
    one, two = PLANS.prepare("with_action"), PLANS.prepare("with_action")
    assert one.actions["go"] is not two.actions["go"]
    with RunEngine() as other:
        handles = engine.call(one.plan), other.call(two.plan)
        one.actions["go"].trigger()
        assert handles[0].result(5.0).plan_result[1] is one.actions["go"].latch
        assert not handles[1].done()
        handles[1].stop()


def test_arguments_are_checked_and_given(engine: RunEngine) -> None:
    """SP-12: from JSON to the plan."""
    prepared = PLANS.prepare("hello", '{"word": "bye"}')
    assert engine(prepared.plan).result(5.0).plan_result == "bye"
    with pytest.raises(ArgumentError, match="nonsense"):
        PLANS.prepare("hello", {"nonsense": 1})


# Leaves


class Leaf:
    """What a leaf of a task tree hears."""

    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []
        self.ended = threading.Event()

    def __call__(self, **update: Any) -> None:
        """Take an update."""
        self.updates.append(update)
        if "result" in update:
            self.ended.set()

    def outcome(self) -> tuple[TaskStatus, ResultCode, str]:
        """Wait for the end and return it."""
        assert self.ended.wait(10.0)
        (last,) = [each for each in self.updates if "result" in each]
        return last["status"], *last["result"]


def test_a_plan_is_the_work_of_a_leaf(engine: RunEngine) -> None:
    """IN-03: IN_PROGRESS, progress from documents, the runs in the result."""
    leaf = Leaf()
    argument = {"detectors": ["det"], "num": 10}
    gate = threading.Event()
    engine.loop.call_soon_threadsafe(gate.wait, 5.0)
    invocation = PlanAction(engine, PLANS, "count", argument, metadata={"command": "c1"})(
        None, leaf
    )
    gate.set()

    status, code, text = leaf.outcome()

    (uid,) = leaf.updates[-1]["data"]["run_start_uids"]
    assert (status, code, text) == (
        TaskStatus.COMPLETED,
        ResultCode.OK,
        f"completed; runs: {uid}",
    )
    assert leaf.updates[0] == {"status": TaskStatus.IN_PROGRESS}
    progress = [each["progress"] for each in leaf.updates if "progress" in each]
    assert progress == sorted(progress)
    assert progress[-1] == 100
    assert {10, 50, 99} <= set(progress)
    assert invocation.command_id


@pytest.mark.parametrize(
    ("name", "argument", "text"),
    [("nothing", None, "expected one of"), ("hello", '{"word": 1}', "word: found 1")],
)
def test_a_leaf_that_cannot_start_is_rejected(
    engine: RunEngine, name: str, argument: str | None, text: str
) -> None:
    """IN-03: an update, never an exception."""
    leaf = Leaf()
    invocation = PlanAction(engine, PLANS, name, argument)(None, leaf)
    status, code, message = leaf.outcome()
    assert (status, code) == (TaskStatus.REJECTED, ResultCode.REJECTED)
    assert text in message
    invocation.abort()
    invocation.close()
    assert invocation.command_id is None


def test_a_busy_engine_rejects_a_leaf_or_lets_it_wait(engine: RunEngine) -> None:
    """RE-35: as the leaf was told."""
    first, second, third = Leaf(), Leaf(), Leaf()
    running = PlanAction(engine, PLANS, "for_ever")(None, first)
    PlanAction(engine, PLANS, "hello")(None, second)
    PlanAction(engine, PLANS, "hello", on_busy="queue")(None, third)
    assert second.outcome()[0] is TaskStatus.REJECTED
    running.abort()
    assert first.outcome()[:2] == (TaskStatus.ABORTED, ResultCode.ABORTED)
    assert third.outcome()[0] is TaskStatus.COMPLETED


def test_a_leaf_says_how_its_plan_ended(engine: RunEngine) -> None:
    """IN-04, behaviours 5.1: exception, stop, deadline, silence of a device."""
    outcomes = {}
    for name, options, verb in (
        ("failing", {}, None),
        ("for_ever", {}, "stop"),
        ("for_ever", {"timeout": 0.05}, None),
        ("silent", {}, None),
        ("for_ever", {}, "halt"),
    ):
        leaf = Leaf()
        invocation: Any = PlanAction(engine, PLANS, name, **options)(None, leaf)  # type: ignore[arg-type]
        if verb:
            getattr(invocation.handle, verb)()
        outcomes[name, verb, *options] = leaf.outcome()
        until(lambda: not engine.is_busy)

    assert outcomes["failing", None][:2] == (TaskStatus.FAILED, ResultCode.FAILED)
    assert outcomes["failing", None][2].startswith("broken: OSError: no beam; runs: ")
    assert outcomes["for_ever", "stop"] == (TaskStatus.COMPLETED, ResultCode.OK, "stopped")
    assert outcomes["for_ever", None, "timeout"] == (
        TaskStatus.FAILED,
        ResultCode.FAILED,
        "timed out",
    )
    assert outcomes["silent", None][:2] == (TaskStatus.FAILED, ResultCode.FAILED)
    assert outcomes["silent", None][2].startswith("timed out: StatusTimeoutError: ")
    assert outcomes["for_ever", "halt"][0] is TaskStatus.ABORTED


def test_a_closed_leaf_hears_nothing(engine: RunEngine) -> None:
    """IN-03: the plan ends all the same."""
    leaf = Leaf()
    invocation: Any = PlanAction(engine, PLANS, "for_ever")(None, leaf)
    invocation.close()
    invocation.abort()
    invocation.handle.wait(5.0)
    until(lambda: not engine.is_busy)
    assert not leaf.ended.is_set()


def test_a_plan_leaf_fits_into_a_task_tree(engine: RunEngine) -> None:
    """IN-03: `milonga.tasks` takes it as the action of a leaf."""
    action: LeafAction = PlanAction(engine, PLANS, "hello")
    completed: list[dict[str, Any]] = []
    ended = threading.Event()

    def done(**payload: Any) -> None:
        completed.append(payload)
        ended.set()

    leaf = LeafTask(
        "plan",
        "engine",
        "hello",
        task_type=TaskType.INTERNAL,
        action=action,
        completed_callback=done,
        is_root=True,
    )
    leaf.start(_context())
    assert ended.wait(5.0)
    assert completed[0]["status"] is TaskStatus.COMPLETED
    assert completed[0]["result"][0] is ResultCode.OK


def _context() -> Any:
    class Now:
        def call_soon(self, function: Any) -> None:
            function()

        def call_later(self, delay: float, function: Any) -> Any:
            timer = threading.Timer(delay, function)
            timer.daemon = True
            return timer

    class Nobody:
        def invoke(self, *_: Any) -> Any:
            raise AssertionError

    return ExecutionContext(runtime=Now(), caller=Nobody())


# Outcomes


def test_the_table_is_complete() -> None:
    """Behaviours 5.1: one row for each situation, with the decisions of section 8."""
    assert set(SITUATIONS) == set(Situation)
    assert meaning_of(Situation.PARTIAL).health is HealthState.DEGRADED
    assert meaning_of(Situation.PARTIAL).record == "PARTIAL"
    assert meaning_of(Situation.FORGOTTEN).code is ResultCode.UNKNOWN
    assert [each for each in Situation if not meaning_of(each).is_final] == [
        Situation.WAITING,
        Situation.RUNNING,
        Situation.PAUSED,
    ]


@pytest.mark.parametrize("situation", [one for one in Situation if one is not Situation.PAUSED])
def test_the_wire_leads_back_to_the_situation(situation: Situation) -> None:
    """Behaviours 5.1: one function each way; a pause is not seen on the wire."""
    meaning = meaning_of(situation)
    degraded = meaning.health is HealthState.DEGRADED
    found = situation_from(meaning.status, meaning.code, situation.value, degraded=degraded)
    assert found is situation


def test_a_handle_has_a_situation(engine: RunEngine) -> None:
    """Behaviours 5.1: waiting, running, paused, aborted."""
    first = engine.call(endless())
    second = engine.call(endless(), on_busy="queue")
    assert situation_of(second) is Situation.WAITING
    until(lambda: situation_of(first) is Situation.RUNNING)
    first.pause().result(5.0)
    assert situation_of(first) is Situation.PAUSED
    second.abort()
    first.abort().result(5.0)
    assert situation_of(first) is situation_of(second) is Situation.ABORTED


class Together(Silent):
    """Two devices as one, of which one says nothing."""

    def set(self, value: int) -> Status:
        """Start both."""
        other = Status()
        other.set_finished()
        return super().set(value) & other


class Asynchronous(Silent):
    """A device of ophyd-async that is too slow, or that the network has lost."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def set(self, value: int) -> Status:
        """Fail."""
        failed: concurrent.futures.Future[None] = concurrent.futures.Future()
        failed.set_exception(self.error)
        return Status.from_future(failed)


def waiting(device: Silent, timeout: float | None = None) -> MsgGenerator[None]:
    """Wait for a device."""
    yield Msg("set", device, 1, group="a")
    yield Msg("wait", None, group="a", timeout=timeout)


def reworded() -> MsgGenerator[None]:
    """Say in other words that a device was silent."""
    try:
        yield from waiting(Silent())
    except FailedStatus as error:
        raise RuntimeError("the telescope does not follow") from error


@pytest.mark.parametrize(
    ("plan", "situation"),
    [
        (lambda: waiting(Silent()), Situation.TIMED_OUT),
        (lambda: waiting(Together()), Situation.TIMED_OUT),
        (lambda: waiting(Silent(), timeout=0.01), Situation.TIMED_OUT),
        (lambda: waiting(Asynchronous(TimeoutError("too slow"))), Situation.TIMED_OUT),
        (reworded, Situation.TIMED_OUT),
        (lambda: waiting(Asynchronous(OSError("too hot"))), Situation.BROKEN),
        (
            lambda: waiting(Asynchronous(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))),
            Situation.BROKEN,
        ),
    ],
    ids=["status", "combined", "wait", "ophyd-async", "reworded", "error", "network"],
)
def test_what_did_not_come_in_time_is_a_deadline(
    engine: RunEngine, plan: Callable[[], Any], situation: Situation
) -> None:
    """Behaviours 5.1: however deep the reason lies."""
    handle = engine.call(plan())
    assert handle.exception(5.0) is not None
    assert situation_of(handle) is situation


# Progress


def test_progress_counts_points_by_number() -> None:
    """IN-03: what is repeated is not counted twice; other streams do not count."""
    progress = PlanProgress()
    progress.on_document("start", {"uid": "r", "num_points": 4})
    progress.on_document("descriptor", {"uid": "p", "run_start": "r", "name": "primary"})
    progress.on_document("descriptor", {"uid": "b", "run_start": "r", "name": "baseline"})
    progress.on_document("event", {"descriptor": "b", "seq_num": 4})
    progress.percent = 0
    seen = []
    for number in (1, 2, 1, 2, 3):
        progress.on_document("event", {"descriptor": "p", "seq_num": number})
        seen.append(progress.percent)
    progress.on_document("event_page", {"descriptor": "p", "seq_num": [4, 5]})
    assert seen == [25, 50, 50, 50, 75]
    assert progress.percent == 99


def test_a_plan_that_announces_nothing_has_no_progress(engine: RunEngine) -> None:
    """IN-03: 0 until it is done."""
    gate = threading.Event()

    def plan() -> Iterator[Msg]:
        yield from open_run()
        while not gate.is_set():
            yield from sleep(0.001)
        yield from close_run()

    handle = engine.call(plan())
    until(lambda: handle.uids)
    assert (handle.progress, handle.steps.is_known) == (0, False)
    gate.set()
    handle.result(5.0)
    assert handle.progress == 100


# The watchdog


def test_a_blocked_loop_is_told_with_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    """B-30: who waits in the loop is in the text."""
    told: list[tuple[float, str]] = []
    heard = threading.Event()

    def hear(lag: float, stack: str) -> None:
        told.append((lag, stack))
        heard.set()

    def the_culprit() -> Iterator[Msg]:
        yield from null()
        heard.wait(10.0)
        yield from null()

    with RunEngine(lag_limit=0.05) as engine:
        engine.watchdog.on_lag = hear
        engine(the_culprit()).result(20.0)
        assert "the_culprit" in told[0][1]
        assert "blocked" in caplog.text
        until(lambda: engine.watchdog.statistics().blocked == 1)
        assert engine.watchdog.statistics().worst > 0.05


# The end of a process


def run_script(
    text: str, timeout: float = 30.0
) -> tuple[float, "subprocess.CompletedProcess[str]"]:
    """Run a script that prints the time when it ends; return how long its exit took."""
    script = f"import time\n{text}\nprint('ends', time.time(), flush=True)\n"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    now = time.time()
    ends = [each.split()[1] for each in ended.stdout.splitlines() if each.startswith("ends")]
    return now - float(ends[0] if ends else "nan"), ended


ENDLESS = """
import threading
from milonga.engine import RunEngine, Status
from bluesky.plan_stubs import checkpoint, open_run, sleep
from bluesky.utils import Msg
from bluesky.preprocessors import finalize_wrapper
began = threading.Event()
def plan():
    yield from open_run()
    while True:
        yield from checkpoint()
        began.set()
        {step}
def cleanup():
    print("cleaned up", flush=True)
    {cleanup}
status = Status(timeout=1000.0)
settling = Status(settle_time=1000.0)
settling.set_finished()
engine = RunEngine()
handle = engine.call(finalize_wrapper(plan(), cleanup))
assert began.wait(10.0)
"""
WAYS = {
    "endless": ("yield from sleep(0.001)", "yield from sleep(0.001)"),
    "hanging cleanup": ("yield from sleep(0.001)", "yield from sleep(60)"),
    "blocked loop": ("time.sleep(60); yield Msg('null')", "yield from sleep(0.001)"),
    "blocked thread": (
        "import asyncio; yield Msg('wait_for', None, [lambda: asyncio.to_thread(time.sleep, 60)])",
        "yield from sleep(0.001)",
    ),
    "paused": ("yield Msg('pause')", "yield from sleep(0.001)"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_script_with_an_endless_plan_exits(way: str) -> None:
    """RE-40, B-8, B-16: in less than two seconds, cleaned up if that can be."""
    step, cleanup = WAYS[way]
    took, ended = run_script(ENDLESS.format(step=step, cleanup=cleanup))
    assert ended.returncode == 0, ended.stderr
    if took > 2.0:  # a busy machine also ends interpreters slowly in which nothing runs
        without_plan, _ = run_script("from milonga.engine import RunEngine, shutdown")
        assert took < 1.5 + 4 * without_plan
    if way != "blocked loop":
        assert "cleaned up" in ended.stdout
        assert "Traceback" not in ended.stderr


def test_the_engine_needs_no_tango() -> None:
    """IN-10: neither the import nor a plan loads it."""
    _, ended = run_script(
        "import sys\n"
        "sys.modules['tango'] = None\n"
        "from milonga.engine import RunEngine\n"
        "from bluesky.utils import Msg\n"
        "with RunEngine() as engine: engine([Msg('null')]).result(5.0)\n"
    )
    assert ended.returncode == 0, ended.stderr


def test_bluesky_has_one_door() -> None:
    """DESIGN: it is imported by `milonga.engine` and nothing else."""
    root = Path(milonga.__file__).parent
    found = {
        path.relative_to(root).parts[0]
        for path in root.rglob("*.py")
        if any(
            line.startswith(("import bluesky", "from bluesky"))
            for line in path.read_text(encoding="utf-8").splitlines()
        )
    }
    assert found == {"engine"}


def test_a_shutdown_ends_everything_that_was_started() -> None:
    """RE-40: engines, loop, timers and callback threads of a process."""
    _, ended = run_script(
        "import threading\n"
        "from milonga.engine import RunEngine, shutdown, Status\n"
        "from bluesky.plan_stubs import sleep\n"
        "before = set(threading.enumerate())\n"
        "engines = [RunEngine(name=str(n)) for n in range(5)]\n"
        "for engine in engines: engine(sleep(60.0)).add_done_callback(print)\n"
        "status = Status(timeout=100.0); status.add_callback(print); status.set_finished()\n"
        "assert shutdown(5.0)\n"
        "assert set(threading.enumerate()) == before, threading.enumerate()\n"
    )
    assert ended.returncode == 0, ended.stderr
