"""Pause, resume, stop, abort and halt: at any time, from any thread, without waiting."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from bluesky.plan_stubs import checkpoint, clear_checkpoint, close_run, mv, null, open_run, sleep
from bluesky.plans import count
from bluesky.preprocessors import finalize_wrapper
from bluesky.utils import FailedStatus, Msg, NoReplayAllowed

from milonga.engine import (
    PauseFailed,
    PlanAborted,
    PlanHalted,
    PlanHandle,
    PlanPaused,
    PlanState,
    PlanStopped,
    RunEngine,
    RunEngineInterrupted,
    Status,
    TransitionError,
)
from milonga.engine.actions import Action
from milonga.engine.plan_stubs import wait_for_actions

from .conftest import Detector, Documents, Flag, Motor, endless, in_run, our_threads, until

BLOCKED = 60.0
"""Seconds for which something blocks that nobody lets go on."""

PROMPT = 15.0
"""Seconds in which a verb must return: less than it takes where it waits for what is blocked."""


def promptly(call: Callable[[], Any]) -> Any:
    """Call a verb and check that it did not wait."""
    began = time.perf_counter()
    result = call()
    assert time.perf_counter() - began < PROMPT
    return result


# The table: five verbs, five kinds of plan


def ordinary(engine: RunEngine, flag: Flag) -> PlanHandle:
    """Start a plan as they should be."""
    handle = engine.call(in_run(flag))
    assert flag.began.wait(5.0)
    return handle


def paused(engine: RunEngine, flag: Flag) -> PlanHandle:
    """Start a plan and pause it."""
    handle = ordinary(engine, flag)
    assert handle.pause().result(5.0)
    return handle


def blocking(engine: RunEngine, flag: Flag) -> PlanHandle:
    """Start a plan that blocks the event loop."""

    def plan() -> Iterator[Msg]:
        while True:
            yield from checkpoint()
            flag.began.set()
            flag.go_on.wait(BLOCKED)  # what no plan should do: the event loop of all engines waits

    handle = engine.call(plan())
    assert flag.began.wait(5.0)
    return handle


def failing_cleanup(engine: RunEngine, flag: Flag) -> PlanHandle:
    """Start a plan whose cleanup raises."""

    def cleanup() -> Iterator[Msg]:
        flag.cleaned = True
        yield from null()
        raise OSError("cleanup failed")

    handle = engine.call(finalize_wrapper(endless(flag), cleanup))
    assert flag.began.wait(5.0)
    return handle


def without_checkpoints(engine: RunEngine, flag: Flag) -> PlanHandle:
    """Start a plan that makes no checkpoint."""

    def plan() -> Iterator[Msg]:
        while True:
            flag.began.set()
            yield from null()

    handle = engine.call(plan())
    assert flag.began.wait(5.0)
    return handle


KINDS = [ordinary, paused, blocking, failing_cleanup, without_checkpoints]
VERBS: dict[str, Callable[[RunEngine, PlanHandle], Any]] = {
    "pause": lambda _, handle: handle.pause(),
    "stop": lambda _, handle: handle.stop(),
    "abort": lambda _, handle: handle.abort("because"),
    "halt": lambda _, handle: handle.halt(),
    "replace": lambda engine, _: engine.call(iter([Msg("null")]), on_busy="replace"),
}
OUTCOMES = {
    "pause": PlanPaused,
    "stop": PlanStopped,
    "abort": PlanAborted,
    "halt": PlanHalted,
    "replace": PlanAborted,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_verb_ends_every_kind_of_plan(
    engine: RunEngine, kind: Callable[[RunEngine, Flag], PlanHandle], verb: str
) -> None:
    """RE-17 to RE-25, B-3 to B-7: the verb returns at once, the plan ends as it should."""
    flag = Flag()
    handle = kind(engine, flag)

    promptly(lambda: VERBS[verb](engine, handle))
    flag.go_on.set()

    if verb == "pause":
        until(lambda: handle.state is PlanState.PAUSED)
        assert not handle.done()
        promptly(handle.abort)
    result = handle.ended.result(10.0)
    until(lambda: engine.state == "idle")
    fails = kind is failing_cleanup and verb != "halt"
    if fails:
        assert isinstance(handle.exception(), OSError)
        assert handle.state is PlanState.FAILED
        assert result.exit_status == "fail"
    elif verb == "stop":
        assert handle.result() is result
        assert isinstance(handle.interruption, PlanStopped)
        assert (result.exit_status, result.interrupted) == ("success", True)
    else:
        wanted = PlanAborted if verb == "pause" else OUTCOMES[verb]
        assert isinstance(handle.exception(), wanted)
        assert (result.exit_status, result.interrupted) == ("abort", True)
    if kind in {ordinary, paused, failing_cleanup}:
        assert flag.cleaned is (verb != "halt")
    engine([Msg("null")]).result(10.0)


@pytest.mark.parametrize("verb", ["pause", "stop", "abort", "halt"])
def test_verbs_return_while_the_loop_sleeps(engine: RunEngine, verb: str) -> None:
    """B-6, B-30: a plan that sits in a blocking call delays its end, not its operator."""
    began = threading.Event()
    go_on = threading.Event()

    def plan() -> Iterator[Msg]:
        yield from null()
        began.set()
        go_on.wait(BLOCKED)
        yield from endless()

    handle = engine.call(plan())
    assert began.wait(5.0)
    promptly(getattr(handle, verb))
    promptly(getattr(engine, "request_pause" if verb == "pause" else verb))
    promptly(handle.resume)
    promptly(lambda: handle.abort("in any case"))
    assert not handle.done()

    go_on.set()
    assert handle.wait(10.0)


def test_verbs_return_while_a_worker_sleeps(engine: RunEngine) -> None:
    """B-6: the plan ends although what it waits for in a thread does not."""
    go_on = threading.Event()
    began = threading.Event()

    class Slow:
        name = "slow"

        def describe(self) -> dict[str, Any]:
            began.set()
            go_on.wait(BLOCKED)
            return {}

    handle = engine.call([Msg("describe", Slow(), in_thread=True)])
    assert began.wait(5.0)
    assert promptly(handle.abort).result(15.0).exit_status == "abort"
    go_on.set()


def test_queued_plans_can_be_ended_while_the_loop_sleeps(engine: RunEngine) -> None:
    """RE-38: what has not begun needs no loop to end."""
    began, go_on = threading.Event(), threading.Event()

    def plan() -> Iterator[Msg]:
        began.set()
        go_on.wait(60.0)
        yield from null()

    engine(plan())
    assert began.wait(5.0)
    waiting = [engine.call(endless(), on_busy="queue") for _ in range(3)]
    assert isinstance(waiting[0].abort("no").exception(1.0), type(None))
    waiting[1].stop()
    waiting[2].halt()
    assert [each.state for each in waiting] == [
        PlanState.ABORTED,
        PlanState.STOPPED,
        PlanState.HALTED,
    ]
    go_on.set()


# Pause and resume


def test_a_hard_pause_stops_devices_and_repeats_from_the_checkpoint(engine: RunEngine) -> None:
    """RE-17, RE-20: movable objects are stopped, pausable ones told, messages repeated."""
    motor = Motor()
    waiting = threading.Event()
    engine.waiting_hook = lambda statuses: statuses and waiting.set()  # type: ignore[assignment]

    def plan() -> Iterator[Msg]:
        yield from checkpoint()
        yield Msg("set", motor, 5, group="a")
        done = yield Msg("wait", None, group="a")
        return done

    first = engine(plan())
    assert waiting.wait(5.0)
    assert engine.request_pause().result(5.0)
    assert engine.state == "paused"
    assert isinstance(first.exception(5.0), PlanPaused)
    assert (motor.stopped, motor.paused, len(motor.moves)) == (1, 1, 1)

    rest = engine.resume()
    until(lambda: len(motor.moves) == 2)
    assert motor.resumed == 1
    for move in motor.moves:
        move.set_finished()
    result = rest.result(5.0)
    assert result.exit_status == "success"
    assert result.plan_result is True, "the answer to the message that was broken off"


def test_runs_from_before_the_pause_are_in_the_result(engine: RunEngine) -> None:
    """RE-20: of the future that `resume` returns, and of the handle."""
    flag = Flag()
    go_on = threading.Event()

    def plan() -> Iterator[Msg]:
        yield from open_run()
        flag.began.set()
        while not go_on.is_set():
            yield from checkpoint()
            yield from sleep(0.001)
        yield from close_run()

    handle = engine.call(plan())
    assert flag.began.wait(5.0)
    assert handle.pause().result(5.0)
    assert len(handle.uids) == 1
    go_on.set()
    rest = engine.resume()
    assert rest.result(5.0).run_start_uids == handle.uids == handle.result(5.0).run_start_uids


def test_a_handle_survives_pauses(engine: RunEngine) -> None:
    """RE-36, B-4: two pauses, two resumes, one result."""
    flag = Flag()
    handle = engine.call(endless(flag))
    states: list[PlanState] = []
    handle.observe(lambda state, _progress: states.append(state))
    for _ in range(2):
        assert handle.pause().result(5.0)
        assert handle.state is PlanState.PAUSED
        assert handle.resume().result(5.0)
    assert handle.stop("enough").result(5.0) is handle.result(5.0)
    assert handle.reason == "enough"
    assert states[-1] is PlanState.STOPPED
    assert states.count(PlanState.PAUSED) == 2


def test_a_second_resume_is_refused(engine: RunEngine) -> None:
    """RE-20: through its future."""
    handle = engine.call(endless())
    assert handle.pause().result(5.0)
    first, second = handle.resume(), handle.resume()
    assert first.result(5.0)
    assert isinstance(second.exception(5.0), TransitionError)
    assert isinstance(engine.resume().exception(5.0), TransitionError)


def test_pause_and_resume_keep_their_order(engine: RunEngine) -> None:
    """RE-38: a resume that comes while the plan is pausing is not lost."""
    handle = engine.call(endless())
    for _ in range(20):
        pause, resume = handle.pause(), handle.resume()
        assert pause.result(5.0)
        assert resume.result(5.0)
    assert handle.state is PlanState.RUNNING


def test_a_pause_before_the_start_pauses_before_the_first_message(engine: RunEngine) -> None:
    """RE-38: also for a plan that waits in the queue."""
    ran: list[str] = []

    def plan(name: str) -> Iterator[Msg]:
        ran.append(name)
        yield from null()

    gate = threading.Event()
    engine.loop.call_soon_threadsafe(gate.wait, 5.0)  # nothing starts before all is asked for
    first = engine.call(plan("first"))
    paused_first = first.pause()
    second = engine.call(plan("second"), on_busy="queue")
    paused_second = second.pause()
    gate.set()

    assert paused_first.result(5.0)
    assert ran == []
    first.resume()
    assert paused_second.result(5.0)
    assert ran == ["first"]
    second.resume()
    assert second.result(5.0).exit_status == "success"
    assert ran == ["first", "second"]


def test_a_deferred_pause_waits_for_the_checkpoint(engine: RunEngine) -> None:
    """RE-18: it returns at once; without a checkpoint the plan completes."""
    flag, go_on = Flag(), threading.Event()

    def plan() -> Iterator[Msg]:
        while not go_on.is_set():
            flag.began.set()
            yield from sleep(0.001)

    handle = engine.call(plan())
    assert flag.began.wait(5.0)
    future = promptly(lambda: engine.request_pause(defer=True))
    until(lambda: engine.deferred_pause_requested)
    assert handle.state is PlanState.RUNNING
    go_on.set()
    assert handle.result(5.0).exit_status == "success"
    assert future.result(5.0) is False
    assert engine.deferred_pause_requested
    engine([Msg("null")]).result(5.0)
    assert not engine.deferred_pause_requested

    handle = engine.call(endless())
    assert handle.pause(defer=True).result(5.0)
    assert handle.state is PlanState.PAUSED


def test_a_pause_at_a_checkpoint_is_not_put_off(engine: RunEngine) -> None:
    """RE-18: bluesky's engine waits there for half a second, as somebody may press Ctrl-C again."""
    handle = engine.call(endless())
    began = time.perf_counter()
    for _ in range(20):
        assert handle.pause(defer=True).result(5.0)
        assert handle.resume().result(5.0)
    assert time.perf_counter() - began < 5.0


def test_a_deferred_pause_has_its_grace(engine: RunEngine) -> None:
    """RE-18: a plan without checkpoints is paused after `grace`, as decided in behaviours 8."""
    handle = engine.call(sleep(60.0))
    assert handle.pause(defer=True, grace=0.05).result(5.0)
    assert handle.state is PlanState.PAUSED
    handle.halt()


def test_a_plan_that_cannot_be_paused_is_aborted(engine: RunEngine, documents: Documents) -> None:
    """RE-19: with an exception that says so."""
    flag = Flag()

    def plan() -> Iterator[Msg]:
        yield from open_run()
        yield from clear_checkpoint()
        flag.began.set()
        yield from sleep(60.0)

    handle = engine.call(plan())
    assert flag.began.wait(5.0)
    assert handle.pause().result(5.0) is False
    assert isinstance(handle.exception(5.0), PauseFailed)
    assert documents.named("stop")[0]["exit_status"] == "abort"


def test_a_plan_may_pause_itself(engine: RunEngine) -> None:
    """RE-17: by bluesky's message."""

    def plan() -> Iterator[Msg]:
        yield from checkpoint()
        before = yield Msg("null")
        yield Msg("pause")
        return before

    handle = engine.call(plan())
    until(lambda: handle.state is PlanState.PAUSED)
    assert handle.resume().result(5.0)
    assert handle.result(5.0).plan_result is None


def test_devices_that_forbid_a_replay_are_not_repeated(engine: RunEngine) -> None:
    """RE-17: `NoReplayAllowed` makes a checkpoint of the pause."""

    class Once(Motor):
        def pause(self) -> None:
            super().pause()
            raise NoReplayAllowed

    once, waiting = Once(), threading.Event()
    engine.waiting_hook = lambda statuses: statuses and waiting.set()  # type: ignore[assignment]
    handle = engine.call([Msg("set", once, 1, group="a"), Msg("wait", None, group="a")])
    assert waiting.wait(5.0)
    assert handle.pause().result(5.0)
    handle.resume()
    assert handle.result(5.0).exit_status == "success"
    assert len(once.moves) == 1


def test_a_resume_that_fails_leaves_the_plan_paused(engine: RunEngine) -> None:
    """RE-20: it can be asked for again."""

    class Stubborn(Motor):
        fails = True

        async def resume(self) -> None:
            if self.fails:
                raise OSError("not yet")

    motor, waiting = Stubborn(), threading.Event()
    engine.waiting_hook = lambda statuses: statuses and waiting.set()  # type: ignore[assignment]
    handle = engine.call([Msg("set", motor, 1, group="a"), Msg("wait", None, group="a")])
    assert waiting.wait(5.0)
    assert handle.pause().result(5.0)
    assert isinstance(handle.resume().exception(5.0), OSError)
    assert handle.state is PlanState.PAUSED
    motor.fails = False
    assert handle.resume().result(5.0)
    until(lambda: len(motor.moves) == 2)
    for move in motor.moves:
        move.set_finished()
    handle.result(5.0)


def test_a_device_that_hangs_when_resumed_is_named(engine: RunEngine) -> None:
    """RE-20: the resume fails, and the plan can be told something again."""

    class Hanging(Motor):
        async def resume(self) -> None:
            await asyncio.Event().wait()

    engine.resume_limit = 0.05
    motor, waiting = Hanging(), threading.Event()
    engine.waiting_hook = lambda statuses: statuses and waiting.set()  # type: ignore[assignment]
    handle = engine.call([Msg("set", motor, 1, group="a"), Msg("wait", None, group="a")])
    assert waiting.wait(5.0)
    assert handle.pause().result(5.0)
    error = handle.resume().exception(5.0)
    assert isinstance(error, TimeoutError)
    assert "found it not resumed after 0.05 s" in str(error)
    assert handle.state is PlanState.PAUSED
    assert handle.abort().result(5.0).exit_status == "abort"


@pytest.mark.parametrize("verb", ["pause", "halt"])
def test_a_pause_waits_for_a_message_that_is_not_repeated(verb: str) -> None:
    """RE-17: its answer would be lost, and the plan get that of another one; a halt breaks in."""
    opening, may_open = threading.Event(), asyncio.Event()

    async def slow_scan_id(_md: Any) -> int:
        opening.set()
        await may_open.wait()
        return 1

    def plan() -> Iterator[Msg]:
        yield from null()
        uid = yield from open_run()
        yield from close_run()
        return uid

    with RunEngine(scan_id_source=slow_scan_id) as engine:
        handle = engine.call(plan())
        assert opening.wait(5.0)
        asked = getattr(handle, verb)()
        if verb == "halt":
            assert asked.result(5.0).exit_status == "abort"
            return
        engine([Msg("null")])  # behind the pause in the loop, so that it has been looked at
        engine.loop.call_soon_threadsafe(may_open.set)
        assert asked.result(5.0)
        assert len(handle.uids) == 1
        assert handle.resume().result(5.0)
        assert handle.result(5.0).plan_result == handle.uids[0]


def test_a_plan_without_checkpoints_does_not_fill_the_memory(engine: RunEngine) -> None:
    """B-14: the messages that are kept for a replay have a bound, and a pause still works."""
    engine.rewind_limit = 100
    flag = Flag()

    def plan() -> Iterator[Msg]:
        while True:
            flag.turns += 1
            yield from null()

    handle = engine.call(plan())
    until(lambda: flag.turns > 1000)
    assert handle.pause().result(5.0)
    assert len(engine._msg_cache or ()) <= 100
    assert handle.resume().result(5.0)


def test_a_suspender_holds_the_plan_and_lets_it_go(engine: RunEngine) -> None:
    """RE-30: as in bluesky; and an abort ends a plan that is held."""
    for end in ("release", "abort"):
        flag = Flag()
        handle = engine.call(in_run(flag))
        assert flag.began.wait(5.0)
        released = asyncio.Event()
        engine.request_suspend(released.wait, justification="beam lost")
        turns = _standstill(flag)
        if end == "release":
            engine.loop.call_soon_threadsafe(released.set)
            until(lambda flag=flag, turns=turns: flag.turns > turns)
        assert handle.abort().result(5.0).exit_status == "abort"
        assert flag.cleaned


def _standstill(flag: Flag) -> int:
    """Wait until a plan makes no turns; return how many it made."""
    turns = -1
    while turns != flag.turns:
        turns = flag.turns
        time.sleep(0.1)  # a turn takes a hundredth of that
    return turns


# Ending


def test_a_stop_is_a_success_with_cleanup(engine: RunEngine, documents: Documents) -> None:
    """RE-21: for the document and the handle; the future in flight says that it was stopped."""
    flag = Flag()
    future = engine(in_run(flag))
    assert flag.began.wait(5.0)
    result = engine.stop().result(5.0)

    assert (result.exit_status, result.interrupted) == ("success", True)
    assert isinstance(future.exception(5.0), PlanStopped)
    assert flag.cleaned
    assert documents.named("stop")[0]["exit_status"] == "success"


class Jealous(Motor):
    """A motor that calls a move failed when the next one comes."""

    def set(self, value: Any, **options: Any) -> Status:
        """Start to move."""
        status = super().set(value, **options)
        for before in self.moves[:-1]:
            before.set_exception(RuntimeError("interrupted by another move"))
        return status


@pytest.mark.parametrize("verb", ["abort", "stop"])
def test_a_move_that_the_cleanup_replaces_does_not_break_it_off(
    engine: RunEngine, verb: str
) -> None:
    """IN-04: whoever was told to end has not failed, and the motor gets back."""
    motor = Jealous()
    handle = engine.call(finalize_wrapper(mv(motor, 10), mv(motor, 0)))
    until(lambda: motor.moves and motor.moves[0].callbacks)
    seen = threading.Event()  # the failure has been taken when what is called after it comes
    motor.moves[0].add_callback(lambda _: engine.loop.call_soon_threadsafe(seen.set))
    ended = getattr(handle, verb)()
    assert seen.wait(10.0)
    motor.moves[1].set_finished()

    assert ended.result(10.0).exit_status == {"abort": "abort", "stop": "success"}[verb]
    assert handle.state is {"abort": PlanState.ABORTED, "stop": PlanState.STOPPED}[verb]


def test_a_failure_of_the_cleanup_itself_counts(engine: RunEngine) -> None:
    """IN-04: the motor is not where it should be, which somebody has to know."""
    motor = Motor()
    handle = engine.call(finalize_wrapper(mv(motor, 10), mv(motor, 0)))
    until(lambda: motor.moves)
    handle.abort()
    until(lambda: len(motor.moves) == 2)
    motor.moves[1].set_exception(RuntimeError("stuck"))

    assert isinstance(handle.exception(10.0), FailedStatus)
    assert handle.state is PlanState.FAILED


def test_an_abort_has_its_reason(engine: RunEngine, documents: Documents) -> None:
    """RE-22, RE-37: in the document, the exception and the result."""
    flag = Flag()
    future = engine(in_run(flag))
    assert flag.began.wait(5.0)
    result = engine.abort("beam lost").result(5.0)

    error = future.exception(5.0)
    assert isinstance(error, PlanAborted)
    assert isinstance(error, RunEngineInterrupted)
    assert error.reason == result.reason == "beam lost"
    assert error.uids == result.run_start_uids == (documents.named("start")[0]["uid"],)
    assert error.result is result
    assert "beam lost" in str(error)
    stop = documents.named("stop")[0]
    assert (stop["exit_status"], stop["reason"]) == ("abort", "beam lost")


@pytest.mark.parametrize("when", ["running", "paused"])
def test_a_halt_skips_every_cleanup(engine: RunEngine, documents: Documents, when: str) -> None:
    """RE-23, B-5: no message of a `finally` is done either; the result says abort."""
    began = threading.Event()
    done: list[str] = []

    def plan() -> Iterator[Msg]:
        yield from open_run()
        try:
            began.set()
            yield from endless()
        finally:
            yield Msg("stop", Motor())

    engine.msg_hook = lambda msg: done.append(msg.command)  # type: ignore[assignment]
    handle = engine.call(plan())
    assert began.wait(5.0)
    if when == "paused":
        assert handle.pause().result(5.0)
    assert handle.halt("now").result(5.0).exit_status == "abort"
    assert isinstance(handle.exception(), PlanHalted)
    assert "stop" not in done
    assert documents.named("stop")[0]["exit_status"] == "abort"


def test_a_halt_breaks_off_a_cleanup_that_hangs(engine: RunEngine, documents: Documents) -> None:
    """RE-23: abort, then halt."""
    cleaning = threading.Event()

    def cleanup() -> Iterator[Msg]:
        cleaning.set()
        yield from sleep(60.0)

    def body() -> Iterator[Msg]:
        yield from open_run()
        yield from endless()

    handle = engine.call(finalize_wrapper(body(), cleanup))
    until(lambda: len(handle.uids) == 1)
    handle.abort("first")
    assert cleaning.wait(5.0)
    assert handle.state is PlanState.ABORTING
    result = handle.halt("second").result(5.0)
    assert (result.exit_status, result.reason) == ("abort", "second")
    assert len(documents.named("stop")) == 1


def test_a_cleanup_has_its_time(engine: RunEngine) -> None:
    """RE-41: after `halt_after` it is halted; a second abort has the engine's time."""
    for early in (True, False):
        cleaning = threading.Event()

        def cleanup(cleaning: threading.Event = cleaning) -> Iterator[Msg]:
            cleaning.set()
            yield from sleep(60.0)

        handle = engine.call(finalize_wrapper(endless(), cleanup))
        until(lambda handle=handle: handle.state is PlanState.RUNNING)
        if early:
            handle.abort("why", halt_after=0.05)
        else:
            engine.halt_after = 0.05
            handle.abort("why")
            assert cleaning.wait(5.0)
            handle.abort("again")
        assert isinstance(handle.exception(5.0), PlanHalted)


def test_verbs_on_a_plan_that_has_ended_change_nothing(engine: RunEngine) -> None:
    """RE-38: each has the result that there is."""
    handle = engine.call([Msg("null")])
    result = handle.result(5.0)
    assert handle.abort().result(1.0) is result
    assert handle.stop().result(1.0) is result
    assert handle.halt().result(1.0) is result
    assert handle.pause().result(1.0) is False
    assert isinstance(handle.resume().exception(5.0), TransitionError)
    assert handle.state is PlanState.DONE
    assert handle.progress == 100


def test_verbs_from_a_document_callback_do_not_deadlock(engine: RunEngine) -> None:
    """RE-39, B-7: they return a future that comes true."""
    asked: list[Any] = []

    def pause(name: str, document: dict[str, Any]) -> None:
        if name == "start":
            asked.append(engine.request_pause())

    handle = engine.call(in_run(Flag()), pause)
    until(lambda: asked)
    assert asked[0].result(5.0)
    assert handle.state is PlanState.PAUSED


def test_devices_that_hang_when_paused_do_not_keep_a_halt_from_working(engine: RunEngine) -> None:
    """RE-23: a halt breaks off what a pause waits for; an abort waits for the pause."""

    class Hanging(Motor):
        async def pause(self) -> None:  # type: ignore[override]
            await asyncio.sleep(60.0)

    motor, waiting = Hanging(), threading.Event()
    engine.waiting_hook = lambda statuses: statuses and waiting.set()  # type: ignore[assignment]
    handle = engine.call([Msg("set", motor, 1, group="a"), Msg("wait", None, group="a")])
    assert waiting.wait(5.0)
    handle.pause()
    until(lambda: handle.state is PlanState.PAUSING)
    handle.abort()
    assert handle.state is PlanState.PAUSING
    assert handle.halt().result(5.0).exit_status == "abort"


def test_an_abort_while_pausing_still_cleans_up(engine: RunEngine) -> None:
    """RE-22: bluesky's engine would leave the cleanup out."""
    hold = asyncio.Event()
    cleaned: list[bool] = []

    class Slow(Motor):
        async def pause(self) -> None:  # type: ignore[override]
            await hold.wait()

    motor, waiting = Slow(), threading.Event()
    engine.waiting_hook = lambda statuses: statuses and waiting.set()  # type: ignore[assignment]

    def plan() -> Iterator[Msg]:
        yield Msg("set", motor, 1, group="a")
        yield Msg("wait", None, group="a")

    def cleanup() -> Iterator[Msg]:
        cleaned.append(True)
        yield from null()

    handle = engine.call(finalize_wrapper(plan(), cleanup))
    assert waiting.wait(5.0)
    handle.pause()
    until(lambda: handle.state is PlanState.PAUSING)
    handle.abort()
    engine.loop.call_soon_threadsafe(hold.set)
    assert handle.ended.result(5.0).exit_status == "abort"
    assert cleaned == [True]


# Many times


def test_no_abort_is_lost_in_the_start() -> None:
    """RE-38, B-1: 10,000 plans are submitted and aborted at once; none runs on."""
    ran = 0

    def plan() -> Iterator[Msg]:
        nonlocal ran
        while True:
            ran += 1
            yield from checkpoint()

    with RunEngine() as engine:
        for number in range(10_000):
            handle = engine.call(plan())
            result = handle.abort("at once").result(10.0)
            assert result.exit_status == "abort", number
            assert handle.state is PlanState.ABORTED
        assert engine.statistics().ended == 10_000
        assert engine.state == "idle"


@pytest.mark.parametrize("verb", ["stop", "halt", "pause"])
def test_no_other_verb_is_lost_in_the_start(engine: RunEngine, verb: str) -> None:
    """RE-38: stops, halts and pauses neither."""
    for _ in range(500):
        handle = engine.call(endless())
        if verb == "pause":
            assert handle.pause().result(10.0)
            handle.halt().result(10.0)
        else:
            getattr(handle, verb)().result(10.0)
        assert handle.state.is_final


def test_aborts_from_many_threads_at_any_moment_end_every_plan(engine: RunEngine) -> None:
    """RE-38: whatever the plan is doing, there is one outcome."""
    for delay in [each / 20_000 for each in range(60)]:
        handle = engine.call(endless(), on_busy="queue")
        barrier = threading.Barrier(4)

        def act(
            verb: str, handle: PlanHandle = handle, barrier: Any = barrier, delay: float = delay
        ) -> None:
            barrier.wait(5.0)
            time.sleep(delay)  # to hit another moment each time
            getattr(handle, verb)()

        threads = [
            threading.Thread(target=act, args=(verb,))
            for verb in ("pause", "resume", "abort", "stop")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5.0)
        assert handle.ended.result(10.0).interrupted
        assert handle.state in {PlanState.ABORTED, PlanState.STOPPED}
    until(lambda: not engine.is_busy)
    engine([Msg("null")]).result(5.0)


def test_a_thousand_pauses_leave_nothing_behind(engine: RunEngine) -> None:
    """B-9: threads and tasks stay as many as they were."""

    def tasks() -> int:
        async def count() -> int:
            return len(asyncio.all_tasks())

        return asyncio.run_coroutine_threadsafe(count(), engine.loop).result(5.0)

    handle = engine.call(endless())
    assert handle.pause().result(5.0)
    assert handle.resume().result(5.0)
    before = len(our_threads()), tasks()
    for _ in range(1000):
        assert handle.pause().result(10.0)
        assert handle.resume().result(10.0)
    after = len(our_threads()), tasks()
    assert after == before


def test_an_idle_continuous_plan_costs_nothing(engine: RunEngine) -> None:
    """B-14: waiting for an action without a timeout takes less than half a percent of a core."""
    action = Action(name="go")
    handle = engine.call(wait_for_actions(action.event_map, timeout=None))
    until(lambda: handle.state is PlanState.RUNNING)
    process = psutil.Process()
    shares = []
    for _ in range(3):  # other tests' threads may still be ending in the first one
        before = process.cpu_times()
        time.sleep(1.0)  # what is measured is that nothing happens
        after = process.cpu_times()
        shares.append(after.user - before.user + after.system - before.system)
    assert min(shares) < 0.02, "the clock of the processor ticks in steps of 10 ms"
    action.trigger()
    assert handle.result(5.0).plan_result[0] == "go"


def test_detectors_are_read_as_ever(engine: RunEngine, documents: Documents) -> None:
    """RE-17: a pause in the middle of events repeats the event that was not saved."""
    detector = Detector(reading=0.01)
    handle = engine.call(count([detector], num=20))
    for _ in range(3):
        handle.pause().result(5.0)
        if not handle.done():
            handle.resume().result(5.0)
    handle.result(10.0)
    assert [each["seq_num"] for each in documents.named("event")] == list(range(1, 21))
