"""Plan stubs for devices and children, and the cache that we ship."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from bluesky.plan_stubs import checkpoint, close_run, null, open_run, sleep, wait
from bluesky.preprocessors import finalize_wrapper
from bluesky.run_engine import WaitForTimeoutError
from bluesky.utils import FailedStatus, Msg

from milonga.control_model import ResultCode, TaskStatus
from milonga.engine import (
    CacheOverflow,
    DropPolicy,
    HasCache,
    InvocationFailed,
    PlanState,
    RingCache,
    RunEngine,
    Status,
)
from milonga.engine.plan_stubs import (
    clear_cache,
    declare_steps,
    describe,
    describe_collect,
    invoke,
    invoke_all,
    read_and_stash,
    set_property,
    stash,
    step_done,
)

from .conftest import Detector, Documents, Motor, until


def returned(engine: RunEngine, plan: Any) -> Any:
    """Run a plan and return what it returns."""
    return engine(plan).result(10.0).plan_result


# Properties


def test_a_property_is_set_and_waited_for(engine: RunEngine) -> None:
    """PS-01: the device gets the property's name; the stub returns the status."""

    class Prompt(Motor):
        def set(self, value: Any, **options: Any) -> Status:
            status = super().set(value, **options)
            status.set_finished()
            return status

    motor = Prompt()
    assert returned(engine, set_property(motor, 5, "velocity")) is motor.moves[0]
    assert returned(engine, set_property(motor, 6, propr="velocity")) is motor.moves[1]
    assert motor.asked == [(5, {"propr": "velocity"}), (6, {"propr": "velocity"})]


def test_a_property_that_takes_too_long_leaves_no_group(engine: RunEngine) -> None:
    """PS-02, B-22: the plan gets the exception, and may go on."""
    motor = Motor()
    groups: list[int] = []

    def plan() -> Iterator[Msg]:
        try:
            yield from set_property(motor, 5, "velocity", timeout=0.02)
        except WaitForTimeoutError:
            groups.append(len(engine._groups) + len(engine._status_objs))
            raise

    assert isinstance(engine(plan()).exception(5.0), WaitForTimeoutError)
    assert groups == [0]
    assert motor.stopped == 1


# Readings that are kept


def test_readings_are_recorded_and_kept(engine: RunEngine, documents: Documents) -> None:
    """PS-12: one event for all, each reading at its keeper; the merged readings come back."""
    one, two, keeper, other = (Detector(name) for name in ("one", "two", "keeper", "other"))

    def plan() -> Iterator[Msg]:
        yield from open_run()
        readings = yield from read_and_stash([one, two], [keeper, other], wait=True)
        yield from close_run()
        return readings

    readings = returned(engine, plan())
    assert set(readings) == {"one-count", "two-count"}
    assert len(documents.named("event")) == 1
    assert [list(each) for each in keeper.kept + other.kept] == [["one-count"], ["two-count"]]


def test_lists_of_different_length_are_refused(engine: RunEngine) -> None:
    """PS-13, B-21: before any message."""
    plan = read_and_stash([Detector(), Detector()], [Detector()])
    with pytest.raises(ValueError, match="found 2 devices to read and 1"):
        next(iter(plan))


def test_groups_do_not_pile_up(engine: RunEngine) -> None:
    """PS-14, B-21: fifty calls without waiting, no group left."""
    detector, other = Detector(), Detector("other")
    left: list[int] = []

    def plan() -> Iterator[Msg]:
        yield from open_run()
        for _ in range(50):
            yield from read_and_stash([detector, other], [detector, detector])
        left.append(len(engine._groups))
        yield from close_run()

    returned(engine, plan())
    assert left == [0]
    assert len(detector.kept) == 100


def test_the_stash_message_is_checked(engine: RunEngine) -> None:
    """PS-15: no cache, not one reading, no group; each fails the future."""
    detector = Detector()
    assert isinstance(engine([Msg("stash", Motor(), {}, group="a")]).exception(5.0), TypeError)
    for wrong in (
        Msg("stash", detector, group="a"),
        Msg("stash", detector, {}, {}, group="a"),
        Msg("stash", detector, {}),
        Msg("clear_cache", detector),
    ):
        assert isinstance(engine([wrong]).exception(5.0), RuntimeError)


def test_keeping_and_dropping_can_be_waited_for(engine: RunEngine) -> None:
    """PS-15, PS-16: by group or in the stub; a failure is a `FailedStatus` with its cause."""
    detector = Detector()

    def plan() -> Iterator[Msg]:
        status = yield from stash(detector, {"a": 1}, wait=True)
        yield from stash(detector, {"a": 2}, group="mine")
        yield from wait("mine")
        yield from clear_cache(detector, wait=True)
        return status.done

    assert returned(engine, plan()) is True
    assert (detector.kept, detector.cleared) == ([{"a": 1}, {"a": 2}], 1)

    class Full(Detector):
        def stash(self, values: dict[str, Any]) -> Any:
            status = Status()
            status.set_exception(CacheOverflow("full"))
            return status

    error = engine(stash(Full(), {}, wait=True)).exception(5.0)
    assert isinstance(error, FailedStatus)
    assert isinstance(error.__cause__, CacheOverflow)


def test_keeping_may_be_async_or_return_nothing(engine: RunEngine) -> None:
    """PS-17, B-23: a coroutine is awaited, and its failure seen."""

    class Lazy(Detector):
        async def stash(self, values: dict[str, Any]) -> None:
            await asyncio.sleep(0)
            self.kept.append(values)

        def clear(self) -> None:
            self.cleared += 1

    class Broken(Detector):
        async def clear(self) -> None:
            raise OSError("no disk")

    lazy = Lazy()

    def plan() -> Iterator[Msg]:
        yield from stash(lazy, {"a": 1}, wait=True)
        yield from clear_cache(lazy, wait=True)

    returned(engine, plan())
    assert (lazy.kept, lazy.cleared) == ([{"a": 1}], 1)
    error = engine(clear_cache(Broken(), wait=True)).exception(5.0)
    assert isinstance(error, FailedStatus)
    assert isinstance(error.__cause__, OSError)


def test_a_repeated_message_keeps_once(engine: RunEngine) -> None:
    """PS-18, B-23: a pause after it rewinds to the checkpoint before it."""
    detector, arrived, go_on = Detector(), threading.Event(), threading.Event()

    def plan() -> Iterator[Msg]:
        yield from checkpoint()
        yield from stash(detector, {"a": 1}, group="g")
        yield from wait("g")
        arrived.set()
        while not go_on.is_set():
            yield Msg("sleep", None, 0.001)
        yield from checkpoint()
        yield from stash(detector, {"a": 2}, wait=True)

    handle = engine.call(plan())
    assert arrived.wait(5.0)
    for _ in range(3):
        assert handle.pause().result(5.0)
        assert handle.resume().result(5.0)
    go_on.set()
    handle.result(5.0)
    assert detector.kept == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("pauses", [0, 2])
def test_one_message_object_may_be_given_again(engine: RunEngine, pauses: int) -> None:
    """PS-18: what a plan says three times is done three times, and repeated not at all."""
    detector, arrived, go_on = Detector(), threading.Event(), threading.Event()
    again = Msg("stash", detector, {"a": 1}, group="g")

    def plan() -> Iterator[Msg]:
        yield from checkpoint()
        statuses = [(yield again), (yield again), (yield again)]
        arrived.set()
        while not go_on.is_set():
            yield Msg("sleep", None, 0.001)
        return statuses

    handle = engine.call(plan())
    assert arrived.wait(5.0)
    for _ in range(pauses):
        assert handle.pause().result(5.0)
        assert handle.resume().result(5.0)
    go_on.set()
    statuses = handle.result(5.0).plan_result
    assert detector.kept == [{"a": 1}] * 3
    assert len({id(each) for each in statuses}) == 3


# Descriptions


def test_devices_are_described(engine: RunEngine) -> None:
    """PS-19, PS-20: sync, async, flat or by stream; in a thread if it blocks."""
    threads: list[str] = []

    class Flyer(Detector):
        async def describe(self) -> dict[str, Any]:  # type: ignore[override]
            await asyncio.sleep(0)
            return {"a": {}}

        def describe_collect(self) -> dict[str, Any]:
            threads.append(threading.current_thread().name)
            return {"stream": {"a": {}}}

    flyer = Flyer()
    assert returned(engine, describe(Detector())) == Detector().describe()
    assert returned(engine, describe(flyer)) == {"a": {}}
    assert returned(engine, describe_collect(flyer)) == {"stream": {"a": {}}}
    assert returned(engine, describe_collect(flyer, in_thread=True)) == {"stream": {"a": {}}}
    assert threads[0] == "bluesky-run-engine"
    assert threads[1].startswith("milonga-engine-blocking")


def test_a_description_that_fails_raises_in_the_plan(engine: RunEngine) -> None:
    """PS-19: where the plan may catch it."""

    class Broken:
        name = "broken"

        def describe(self) -> dict[str, Any]:
            raise OSError("no")

    def plan(in_thread: bool) -> Iterator[Msg]:
        try:
            yield from describe(Broken(), in_thread=in_thread)
        except OSError:
            return "caught"

    assert returned(engine, plan(False)) == returned(engine, plan(True)) == "caught"


# The cache


def entry(value: object) -> dict[str, Any]:
    """Return a reading."""
    return {"det-x": {"value": value, "timestamp": 0.0}}


def values(cache: RingCache) -> list[object]:
    """Return what a cache holds."""
    return [each["det-x"]["value"] for each in cache.snapshot()]


def test_having_a_cache_is_having_two_methods() -> None:
    """HC-01, HC-02: our cache has them; keys are kept as they are."""
    assert isinstance(RingCache(), HasCache)
    assert isinstance(Detector(), HasCache)
    assert not isinstance(Motor(), HasCache)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [(DropPolicy.OLDEST, [2, 3]), (DropPolicy.NEWEST, [1, 2]), ("raise", [1, 2])],
)
def test_a_full_cache_drops_as_it_was_told(policy: str, kept: list[int]) -> None:
    """HC-03: the oldest, the newest, or nothing."""
    cache = RingCache(max_entries=2, when_full=policy)
    errors = [cache.stash(entry(value)).exception(1.0) for value in (1, 2, 3)]
    assert values(cache) == kept
    assert isinstance(errors[2], CacheOverflow) is (policy == "raise")
    statistics = cache.statistics()
    assert (statistics.entries, statistics.dropped) == (2, 1)


def test_a_cache_counts_bytes() -> None:
    """HC-03: what is larger than all of it is never kept."""
    np = pytest.importorskip("numpy")
    cache = RingCache(max_bytes=1000)
    for _ in range(3):
        cache.stash(entry(np.zeros(50)))
    assert len(cache) == 2
    assert cache.statistics().size == 800
    cache.stash(entry(np.zeros(1000)))
    assert len(cache) == 2
    with pytest.raises(ValueError, match="max_bytes"):
        RingCache(max_bytes=0)


def test_a_cache_is_safe_across_threads() -> None:
    """HC-03: clearing while others stash loses no count."""
    cache = RingCache(max_entries=10)

    def work() -> None:
        for number in range(500):
            cache.stash(entry(number))
            if number % 50 == 0:
                cache.clear()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    statistics = cache.statistics()
    assert statistics.stored == 2000
    assert statistics.stored == statistics.entries + statistics.dropped + statistics.cleared


# Children


class Command:
    """A command at a simulated child."""

    def __init__(self, target: str, name: str, argument: str | None, on_update: Any) -> None:
        self.target, self.name, self.argument = target, name, argument
        self.on_update = on_update
        self.aborted = self.closed = 0

    command_id: str | None = "id"
    listens = True

    def abort(self) -> None:
        """Count."""
        self.aborted += 1
        if self.listens:
            self.end(TaskStatus.ABORTED, ResultCode.ABORTED, "aborted")

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def end(
        self,
        status: TaskStatus = TaskStatus.COMPLETED,
        code: ResultCode = ResultCode.OK,
        text: str = "well done",
    ) -> None:
        """Report the end."""
        self.on_update(status=status, result=(code, text))


class Children:
    """The way to simulated children."""

    def __init__(self, answer: Callable[[Command], object] = lambda _: None) -> None:
        self.commands: list[Command] = []
        self.answer = answer

    def invoke(self, target: str, command: str, argument: str | None, on_update: Any) -> Command:
        """Start a command."""
        made = Command(target, command, argument, on_update)
        self.commands.append(made)
        made.on_update(status=TaskStatus.IN_PROGRESS, progress=10)
        self.answer(made)
        return made


@pytest.fixture
def children() -> Children:
    """Make children that answer when the test says so."""
    return Children()


@pytest.fixture
def parent(children: Children) -> Iterator[RunEngine]:
    """Make an engine with children."""
    with RunEngine(caller=children) as engine:
        yield engine


def test_a_plan_gives_commands_to_children(parent: RunEngine, children: Children) -> None:
    """IN-07: and gets their results."""
    children.answer = Command.end
    status = returned(parent, invoke("cbf", "Configure", '{"id": 1}'))
    assert status.outcome == (ResultCode.OK, "well done")
    command = children.commands[0]
    assert (command.target, command.name, command.argument) == ("cbf", "Configure", '{"id": 1}')
    assert (command.aborted, command.closed) == (0, 1)


def test_a_child_that_fails_is_named(parent: RunEngine, children: Children) -> None:
    """IN-07: `FailedStatus` from the child's text; the other children are aborted."""
    future = parent(invoke_all(["cbf", "pss", "pst"], "Scan"))
    until(lambda: len(children.commands) == 3)
    children.commands[1].end(TaskStatus.FAILED, ResultCode.FAILED, "no beam")
    error = future.exception(5.0)
    assert isinstance(error, FailedStatus)
    assert isinstance(error.__cause__, InvocationFailed)
    assert str(error.__cause__) == "pss: Scan ended FAILED, FAILED: no beam"
    assert [each.aborted for each in children.commands] == [1, 0, 1]
    assert [each.closed for each in children.commands] == [1, 1, 1]


def test_commands_in_a_group_run_side_by_side(parent: RunEngine, children: Children) -> None:
    """IN-07: the plan waits when it wants to."""

    def plan() -> Iterator[Msg]:
        one = yield from invoke("cbf", "On", group="on")
        more = yield from invoke_all(["pss", "pst"], "On", group="on")
        yield from wait("on")
        return [each.outcome[1] for each in (one, *more)]

    handle = parent.call(plan())
    until(lambda: len(children.commands) == 3)
    for command in children.commands:
        command.end(text=command.target)
    assert handle.result(5.0).plan_result == ["cbf", "pss", "pst"]


def test_an_abort_reaches_the_children_and_spares_the_cleanup(
    parent: RunEngine, children: Children
) -> None:
    """IN-04: they are told at once; that they end does not break the cleanup off."""
    cleaned: list[str] = []
    told: list[int] = []

    def cleanup() -> Iterator[Msg]:
        told.append(children.commands[0].aborted)
        for _ in range(5):
            yield from null()
        yield Msg("sleep", None, 0.02)
        cleaned.append("all")

    handle = parent.call(finalize_wrapper(invoke("cbf", "Scan"), cleanup))
    until(lambda: children.commands)
    assert handle.abort("enough").result(5.0).exit_status == "abort"
    assert children.commands[0].aborted == 1
    assert cleaned == ["all"]
    assert told == [1]
    assert handle.state is PlanState.ABORTED


def test_a_pause_does_not_give_the_command_twice(parent: RunEngine, children: Children) -> None:
    """PS-18: the repeated message finds the command that is on its way."""
    handle = parent.call(invoke("cbf", "Scan"))
    until(lambda: children.commands)
    for _ in range(3):
        assert handle.pause().result(5.0)
        assert handle.resume().result(5.0)
    children.commands[0].end()
    assert handle.result(5.0).plan_result.success
    assert len(children.commands) == 1


def test_a_silent_child_is_a_timeout(parent: RunEngine, children: Children) -> None:
    """IN-07: with the child's name; the command is aborted."""
    error = parent(invoke("cbf", "Scan", timeout=0.05)).exception(5.0)
    assert isinstance(error, FailedStatus)
    assert "cbf.Scan" in str(error.__cause__)
    until(lambda: children.commands[0].closed)
    assert children.commands[0].aborted == 1


def test_a_silent_child_is_aborted_while_the_plan_goes_on(
    parent: RunEngine, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IN-04: when its time is over, not when the plan is; a child that ignores it is asked once."""
    monkeypatch.setattr(Command, "listens", False)
    go_on = threading.Event()

    def plan() -> Iterator[Msg]:
        try:
            yield from invoke("cbf", "Scan", timeout=0.05)
        except FailedStatus:
            while not go_on.is_set():
                yield from sleep(0.001)

    handle = parent.call(plan())
    until(lambda: children.commands and children.commands[0].aborted)
    assert handle.state is PlanState.RUNNING
    go_on.set()
    assert handle.result(5.0).exit_status == "success"
    assert (children.commands[0].aborted, children.commands[0].closed) == (1, 1)


def test_a_command_that_is_over_is_let_go_while_the_plan_goes_on(
    parent: RunEngine, children: Children
) -> None:
    """IN-07: a plan may go on for days; one that ran out is kept until its child has ended."""
    go_on = threading.Event()

    def plan() -> Iterator[Msg]:
        with suppress(FailedStatus):
            yield from invoke("pst", "Scan", timeout=0.05)
        children.answer = Command.end
        for _ in range(20):
            yield from checkpoint()
            yield from invoke("cbf", "Scan")
        while not go_on.is_set():
            yield from sleep(0.001)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Command, "listens", False)
        handle = parent.call(plan())
        until(lambda: len(children.commands) == 21)
        silent, *others = children.commands
        until(lambda: all(each.closed for each in others))
        assert (silent.aborted, silent.closed) == (1, 0)
        silent.end(TaskStatus.ABORTED, ResultCode.ABORTED)
        until(lambda: silent.closed)
    assert parent._play is not None
    assert parent._play.calls == {}
    go_on.set()
    assert handle.result(5.0).exit_status == "success"
    assert [each.closed for each in children.commands] == [1] * 21


def test_a_status_waits_for_its_result(parent: RunEngine, children: Children) -> None:
    """IN-07: for a moment; then it is judged without."""
    handle = parent.call(invoke("cbf", "Scan"))
    until(lambda: children.commands)
    children.commands[0].on_update(status=TaskStatus.COMPLETED)
    children.commands[0].on_update(result=(ResultCode.OK, "late"))
    assert handle.result(5.0).plan_result.outcome == (ResultCode.OK, "late")

    handle = parent.call(invoke("cbf", "Scan"))
    until(lambda: len(children.commands) == 2)
    children.commands[1].on_update(status="nonsense", result="nonsense")
    children.commands[1].on_update(status=TaskStatus.NOT_FOUND)
    assert isinstance(handle.exception(5.0), FailedStatus)


def test_an_engine_without_children_says_so(engine: RunEngine) -> None:
    """IN-07: the plan is told what to do."""
    with pytest.raises(RuntimeError, match="`caller`"):
        engine(invoke("cbf", "On")).result(5.0)


# Progress


def test_steps_are_progress(engine: RunEngine) -> None:
    """IN-03: declared by the plan; 100 only at the end."""
    seen: list[int] = []

    def plan() -> Iterator[Msg]:
        yield from declare_steps(4)
        for _ in range(4):
            yield from step_done()

    gate = threading.Event()
    engine.loop.call_soon_threadsafe(gate.wait, 5.0)
    handle = engine.call(plan())
    handle.observe(lambda _state, progress: seen.append(progress))
    gate.set()
    handle.result(5.0)
    assert sorted(set(seen)) == [0, 25, 50, 75, 99, 100]
    assert isinstance(engine(declare_steps(0)).exception(5.0), ValueError)
