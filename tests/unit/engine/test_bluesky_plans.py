"""bluesky's own plans, preprocessors and suspenders do on our engine what they do on bluesky's."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky.preprocessors import finalize_wrapper, run_decorator, suspend_wrapper
from bluesky.run_engine import RunEngine as BlueskyEngine
from bluesky.suspenders import SuspendBoolHigh
from bluesky.utils import DuringTask, Msg

from milonga.engine import PlanState, RunEngine, Status

from .conftest import Detector, Documents, Flag, endless, until

Plan = Iterator[Msg]


class Axis:
    """Is at once where it is sent, and can be read."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = 1.0
        self.hints = {"fields": [name]}

    def __repr__(self) -> str:
        return self.name

    def set(self, value: float) -> Status:
        """Move."""
        self.position = value
        status = Status(name=f"{self.name} to {value}")
        status.set_finished()
        return status

    def read(self) -> dict[str, Any]:
        """Return the position."""
        return {self.name: {"value": self.position, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        """Say what is read."""
        return {self.name: {"dtype": "number", "shape": [], "source": "test"}}

    def read_configuration(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        """Say nothing."""
        return {}


class Camera(Detector):
    """Looks the same in each document."""

    def __repr__(self) -> str:
        return self.name


def count(detector: Detector, _x: Axis, _y: Axis) -> Plan:
    """Read several times."""
    yield from bp.count([detector], num=3, md={"purpose": "test"})


def scan(detector: Detector, x: Axis, _y: Axis) -> Plan:
    """Read at equal steps."""
    yield from bp.scan([detector], x, -1, 1, num=5)


def grid_scan(detector: Detector, x: Axis, y: Axis) -> Plan:
    """Read on a grid."""
    yield from bp.grid_scan([detector], x, 0, 1, 2, y, 0, 1, 3, snake_axes=True)


def list_scan(detector: Detector, x: Axis, _y: Axis) -> Plan:
    """Read at positions of a list."""
    yield from bp.list_scan([detector], x, [1, 4, 2])


def rel_scan(detector: Detector, x: Axis, _y: Axis) -> Plan:
    """Read around where it is, and bring it back."""
    yield from bp.rel_scan([detector], x, -1, 1, num=3)
    assert x.position == 1.0


def finalized(detector: Detector, x: Axis, _y: Axis) -> Plan:
    """Clean up when there was an error, which is told."""

    @run_decorator(md={"plan_name": "finalized"})
    def body() -> Plan:
        yield from bps.trigger_and_read([detector, x])
        raise OSError("no beam")

    yield from finalize_wrapper(body(), bps.mv(x, 7))


PLANS: list[Callable[[Detector, Axis, Axis], Plan]] = [
    *(count, scan, grid_scan, list_scan, rel_scan, finalized),
]


def told(run: Callable[[Plan], object], plan: Callable[..., Plan]) -> tuple[Any, ...]:
    """Run a plan on an engine; return its documents and where it left the axes, without names."""
    x, y = Axis("x"), Axis("y")
    try:
        run(plan(Camera(), x, y))
    except OSError as error:
        return str(error), x.position, y.position
    return "", x.position, y.position


def nameless(value: Any, names: dict[str, int], key: str = "") -> Any:
    """Return a document with numbers for its uids and nothing for its times."""
    if isinstance(value, dict):
        return {each: nameless(inner, names, each) for each, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nameless(inner, names, key) for inner in value]
    if key in {"uid", "run_start", "descriptor"}:
        return names.setdefault(value, len(names))
    return "then" if isinstance(value, float) and value > 1e9 else value


def without_names(documents: Documents) -> list[tuple[str, Any]]:
    """Return documents in a form in which those of two runs can be the same."""
    names: dict[str, int] = {}
    return [(name, nameless(each, names)) for name, each in documents.all]


@pytest.fixture
def bare() -> Iterator[BlueskyEngine]:
    """Make bluesky's engine, and end its thread."""
    engine = BlueskyEngine(context_managers=[], during_task=DuringTask())
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join(5.0)
    engine.loop.close()


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.__name__)
def test_a_plan_of_bluesky_makes_the_same_documents(
    engine: RunEngine, documents: Documents, bare: BlueskyEngine, plan: Callable[..., Plan]
) -> None:
    """RE-15, RE-26: those of bluesky's engine, but for uids and times."""
    expected = Documents()
    bare.subscribe(expected)

    def ours(each: Plan) -> object:
        return engine(each).result(10.0)

    assert told(ours, plan) == told(bare, plan)

    assert len(documents.all) > 3
    assert without_names(documents) == without_names(expected)


# Suspenders


class Shutter:
    """A signal: who subscribes hears of each new value."""

    name = "shutter"

    def __init__(self, value: bool) -> None:
        self.value = value
        self.listeners: list[Callable[..., None]] = []

    def subscribe(self, listener: Callable[..., None], *, event_type: Any, run: bool) -> None:
        """Tell somebody of new values, and of this one."""
        self.listeners.append(listener)
        if run:
            listener(self.value)

    def clear_sub(self, listener: Callable[..., None]) -> None:
        """Tell somebody no more."""
        self.listeners.remove(listener)

    def get(self) -> bool:
        """Return the value."""
        return self.value

    def put(self, value: bool) -> None:
        """Set the value."""
        self.value = value
        for listener in tuple(self.listeners):
            listener(value)


def holds(history: list[Msg]) -> bool:
    """Whether the plan waits for a suspender."""
    return bool(history) and history[-1].command == "wait_for"


@pytest.fixture
def history(engine: RunEngine) -> list[Msg]:
    """Note the messages of the engine."""
    messages: list[Msg] = []
    engine.msg_hook = messages.append  # type: ignore[assignment]
    return messages


@pytest.mark.parametrize("way", ["installed", "wrapped"])
def test_a_suspender_holds_a_plan_while_its_signal_is_high(
    engine: RunEngine, history: list[Msg], way: str
) -> None:
    """RE-30: the plan before it, the wait, the plan after it, and on from the checkpoint."""
    shutter, flag = Shutter(value=False), Flag()
    suspender = SuspendBoolHigh(
        shutter, pre_plan=[Msg("null", "before")], post_plan=[Msg("null", "after")]
    )
    if way == "installed":
        engine.install_suspender(suspender)
        handle = engine.call(endless(flag))
    else:
        handle = engine.call(suspend_wrapper(endless(flag), suspender))
    assert flag.began.wait(5.0)

    shutter.put(True)
    until(lambda: holds(history))
    turns = flag.turns
    shutter.put(False)
    until(lambda: flag.turns > turns)

    assert handle.stop().result(5.0).exit_status == "success"
    marks = [each.obj for each in history if each.command == "null" and each.obj]
    assert marks == ["before", "after"]
    if way == "wrapped":
        assert shutter.listeners == []
    engine.clear_suspenders()


def test_a_resume_does_not_end_a_suspension(engine: RunEngine, history: list[Msg]) -> None:
    """RE-30: the plan waits on for its signal; bluesky's engine would let it go."""
    shutter, flag = Shutter(value=False), Flag()
    engine.install_suspender(SuspendBoolHigh(shutter))
    handle = engine.call(endless(flag))
    assert flag.began.wait(5.0)
    shutter.put(True)
    until(lambda: holds(history))
    for _ in range(2):
        assert handle.pause().result(5.0)
        history.clear()
        assert handle.resume().result(5.0)
        until(lambda: history)
        assert holds(history)

    turns = flag.turns
    shutter.put(False)
    until(lambda: flag.turns > turns)
    assert handle.stop().result(5.0).exit_status == "success"
    engine.clear_suspenders()


def test_a_plan_does_not_begin_before_its_suspender_lets_it(
    engine: RunEngine, history: list[Msg]
) -> None:
    """RE-30: also if the signal was high before."""
    shutter, ran = Shutter(value=True), threading.Event()
    engine.install_suspender(SuspendBoolHigh(shutter))

    def plan() -> Plan:
        ran.set()
        yield from bps.null()

    handle = engine.call(plan())
    until(lambda: holds(history))
    assert not ran.is_set()

    shutter.put(False)
    assert handle.result(5.0).exit_status == "success"
    assert handle.state is PlanState.DONE
    engine.clear_suspenders()
