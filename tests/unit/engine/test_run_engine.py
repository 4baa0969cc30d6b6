"""The engine: how it takes plans, what it returns, and in which threads things happen."""

import asyncio
import gc
import inspect
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import bluesky.plans as bp
import bluesky.run_engine as bluesky_engine
import pytest
from bluesky.plan_stubs import checkpoint, close_run, null, open_run, sleep
from bluesky.utils import DuringTask, FailedStatus, InvalidCommand, Msg

from milonga.engine import (
    EngineBlockedError,
    EngineBusyError,
    EngineClosedError,
    PlanAborted,
    PlanFuture,
    PlanState,
    RunEngine,
    RunEngineResult,
    TransitionError,
    hold_event_loop,
    register_bound_command,
)

from .conftest import Detector, Documents, Flag, Motor, endless, in_run, our_threads, until


def answer(value: object) -> Iterator[Msg]:
    """Return a value."""
    yield from null()
    return value


def one_run(**md: Any) -> Iterator[Msg]:
    """Make an empty run."""
    yield from open_run(md=md)
    yield from close_run()


def test_it_is_a_bluesky_engine_with_the_known_signature() -> None:
    """RE-01: the keywords of the original come first and keep their names."""
    assert issubclass(RunEngine, bluesky_engine.RunEngine)
    names = list(inspect.signature(RunEngine).parameters)
    assert names[:8] == [
        "md",
        "loop",
        "preprocessors",
        "md_validator",
        "md_normalizer",
        "scan_id_source",
        "during_task",
        "call_returns_result",
    ]


def test_only_what_is_meant_to_be_replaced_of_bluesky_is() -> None:
    """RE-15: a method of ours that hides one of bluesky's commands would break that command."""
    replaced = {
        name
        for kind in RunEngine.mro()[: RunEngine.mro().index(bluesky_engine.RunEngine)]
        for name in vars(kind)
        if hasattr(bluesky_engine.RunEngine, name) and not name.startswith("__")
    }
    assert replaced == {
        *("_request_pause_coro", "_rewind", "_open_run", "_reset_checkpoint_state_meth"),
        *("_checkpoint", "_stop_movable_objects", "_wait_for", "_add_status_to_group", "emit_sync"),
        *("abort", "halt", "request_pause", "reset", "resume", "stop"),
    }


def test_the_call_returns_at_once_with_a_future(engine: RunEngine) -> None:
    """RE-02, RE-04: the plan runs elsewhere, and its return value is in the result."""
    go_on = threading.Event()

    def plan() -> Iterator[Msg]:
        yield from null()
        go_on.wait(30.0)
        return 7

    future = engine(plan())
    assert not future.done()
    go_on.set()
    result = future.result(timeout=5.0)

    assert isinstance(result, RunEngineResult)
    assert result.plan_result == 7
    assert result.run_start_uids == ()
    assert (result.exit_status, result.interrupted, result.exception) == ("success", False, None)


def test_plan_and_subscriptions_are_positional(engine: RunEngine) -> None:
    """RE-02: as keywords they would be metadata."""
    with pytest.raises(TypeError):
        engine(plan=answer(0))  # type: ignore[call-arg]


def test_messages_run_in_the_loop_and_callbacks_of_futures_in_the_worker(
    engine: RunEngine, documents: Documents
) -> None:
    """RE-03, RE-27: three threads; the engine is idle in the callback, which may submit."""
    seen: list[tuple[str, str]] = []
    chained: list[PlanFuture[Any]] = []
    called = threading.Event()

    def then(_future: object) -> None:
        seen.append((threading.current_thread().name, str(engine.state)))
        chained.append(engine(answer("second"), on_busy="reject"))
        called.set()

    future = engine(one_run())
    future.add_done_callback(then)

    assert called.wait(5.0)
    assert chained[0].result(5.0).plan_result == "second"
    assert documents.threads == {"bluesky-run-engine"}
    if seen[0][0] != threading.current_thread().name:  # it was done before we asked
        assert seen[0] == ("milonga-engine", "idle")


def test_a_callback_may_even_wait_for_another_plan(engine: RunEngine) -> None:
    """RE-27: results do not come from the thread that the callback occupies."""
    results: list[Any] = []
    done = threading.Event()
    hold = threading.Event()

    def plan() -> Iterator[Msg]:
        while not hold.is_set():
            yield from sleep(0.001)

    def then(_future: object) -> None:
        results.append(engine(answer("inner")).result(5.0).plan_result)
        done.set()

    engine(plan()).add_done_callback(then)
    hold.set()
    assert done.wait(5.0)
    assert results == ["inner"]


def test_uids_are_returned_if_that_is_wanted(engine: RunEngine) -> None:
    """RE-04, RE-05: the flag holds for the next result."""
    engine._call_returns_result = False
    uids = engine(one_run()).result(5.0)
    engine._call_returns_result = True
    result = engine(one_run()).result(5.0)

    assert isinstance(uids, tuple)
    assert len(uids) == 1
    assert len(result.run_start_uids) == 1


def test_no_signal_handler_and_no_pause_text(engine: RunEngine) -> None:
    """RE-06, RE-07: safe off the main thread."""
    made: list[RunEngine] = []
    thread = threading.Thread(target=lambda: made.append(RunEngine()))
    thread.start()
    thread.join(10.0)

    assert made[0].context_managers == engine.context_managers == []
    assert engine.pause_msg == ""
    assert made[0].shutdown()


def test_scan_ids_count_from_one(engine: RunEngine, documents: Documents) -> None:
    """RE-08: the number is kept in the metadata."""
    engine(one_run()).result(5.0)
    engine(one_run()).result(5.0)

    assert [each["scan_id"] for each in documents.named("start")] == [1, 2]
    assert engine.md["scan_id"] == 2


def test_a_scan_id_source_may_be_async() -> None:
    """RE-08: and its number is used."""

    async def source(md: dict[str, Any]) -> int:
        await asyncio.sleep(0)
        return 100

    with RunEngine(scan_id_source=source) as engine:
        engine(one_run()).result(5.0)
        assert engine.md["scan_id"] == 100


def test_metadata_of_the_caller_is_not_changed() -> None:
    """RE-09, B-29: versions are in the engine's copy."""
    mine: dict[str, Any] = {"versions": {"mine": "1"}}
    with RunEngine(mine) as engine:
        assert engine.md["versions"].keys() >= {"mine", "bluesky", "event_model"}
    assert mine == {"versions": {"mine": "1"}}


def test_metadata_that_may_be_persistent_is_used_itself() -> None:
    """RE-08: another mapping than a dict is written to."""

    class Kept(dict[str, Any]):
        pass

    kept = Kept()
    with RunEngine(kept) as engine:
        engine(one_run()).result(5.0)
    assert kept["scan_id"] == 1


def test_the_call_wins_over_the_plan_and_the_plan_over_the_engine(
    engine: RunEngine, documents: Documents
) -> None:
    """RE-10: the start document says whose value won."""
    engine.md.update(a="engine", b="engine", c="engine")
    engine(one_run(a="plan", b="plan"), a="call").result(5.0)

    start = documents.named("start")[0]
    assert (start["a"], start["b"], start["c"]) == ("call", "plan", "engine")
    assert start["plan_name"] == "one_run"


def test_a_validator_keeps_a_run_from_starting(documents: Documents) -> None:
    """RE-11: and a normaliser replaces the metadata."""

    def refuse(md: dict[str, Any]) -> None:
        if "forbidden" in md:
            raise ValueError("forbidden")

    def normalise(md: Any) -> dict[str, Any]:
        return {**md, "normal": True}

    with RunEngine(md_validator=refuse, md_normalizer=normalise) as engine:
        kept = Documents()
        engine.subscribe(kept)
        with pytest.raises(ValueError, match="forbidden"):
            engine(one_run(), forbidden=1).result(5.0)
        assert kept.all == []
        engine(one_run()).result(5.0)
        assert kept.named("start")[0]["normal"] is True


def test_preprocessors_are_applied_first_to_last() -> None:
    """RE-12, B-31: ``[f, g]`` makes ``g(f(plan))``."""
    order: list[str] = []

    def wrapper(name: str) -> Any:
        def wrap(plan: Any) -> Iterator[Msg]:
            order.append(name)
            return (yield from plan)

        return wrap

    with RunEngine(preprocessors=[wrapper("f"), wrapper("g")]) as engine:
        engine(null()).result(5.0)
    assert order == ["g", "f"], "g is outermost, so it begins"


def test_a_plan_that_raises_fails_its_future(engine: RunEngine, documents: Documents) -> None:
    """RE-13: the stop document says fail, and the engine is idle again."""

    def plan() -> Iterator[Msg]:
        yield from open_run()
        raise KeyError("lost")

    future = engine(plan())

    assert isinstance(future.exception(5.0), KeyError)
    stop = documents.named("stop")[0]
    assert (stop["exit_status"], stop["reason"]) == ("fail", "'lost'")
    assert engine(answer(1)).result(5.0).plan_result == 1


def test_the_cause_of_a_failed_status_is_the_devices_error(engine: RunEngine) -> None:
    """RE-14: `FailedStatus` from what the device said."""
    motor = Motor()

    def plan() -> Iterator[Msg]:
        yield Msg("set", motor, 1, group="a")
        motor.moves[0].set_exception(ValueError("stuck"))
        yield Msg("wait", None, group="a")

    error = engine(plan()).exception(5.0)

    assert isinstance(error, FailedStatus)
    assert isinstance(error.__cause__, ValueError)
    assert motor.stopped == 1


def test_unknown_messages_and_things_that_are_no_plan_fail(engine: RunEngine) -> None:
    """RE-15, RE-16: through the future; a list of messages is a plan."""
    assert isinstance(engine([Msg("no such thing")]).exception(5.0), InvalidCommand)
    assert isinstance(engine(42).exception(5.0), TypeError)
    with pytest.raises(TypeError, match="call it to make the plan"):
        engine(one_run).result(5.0)
    assert engine.state == "idle"
    assert engine([Msg("null")]).result(5.0).exit_status == "success"


def test_bluesky_commands_still_work(engine: RunEngine, documents: Documents) -> None:
    """RE-15: prepare, drop and collecting are bluesky's."""
    detector = Detector()

    def plan() -> Iterator[Msg]:
        yield from open_run()
        yield Msg("create", name="primary")
        yield Msg("read", detector)
        yield Msg("drop")
        yield from close_run()

    engine(plan()).result(5.0)
    assert documents.named("event") == []


def test_a_bluesky_plan_runs_as_it_is(engine: RunEngine, documents: Documents) -> None:
    """RE-04: `count` makes its events."""
    result = engine(bp.count([Detector()], num=3)).result(5.0)

    assert [each["seq_num"] for each in documents.named("event")] == [1, 2, 3]
    assert result.run_start_uids == (documents.named("start")[0]["uid"],)


def test_idle_engines_refuse_control(engine: RunEngine) -> None:
    """RE-24, RE-20: stop, abort, halt and pause raise; resume has a future that fails."""
    for verb in (engine.stop, engine.abort, engine.halt, engine.request_pause):
        with pytest.raises(TransitionError):
            verb()
    assert isinstance(engine.resume().exception(5.0), TransitionError)


def test_a_second_plan_waits_and_survives_a_pause_of_the_first(engine: RunEngine) -> None:
    """RE-26, RE-35, B-2: the queue keeps its order; nothing in it dies by a pause."""
    flag = Flag()
    first = engine(endless(flag))
    second, third = engine(answer(2)), engine(answer(3))
    assert flag.began.wait(5.0)

    assert engine.request_pause().result(5.0)
    assert [each.state for each in engine.queued] == [PlanState.QUEUED] * 2
    assert first.done()
    assert not second.done()
    engine.stop()

    assert (second.result(5.0).plan_result, third.result(5.0).plan_result) == (2, 3)


def test_what_happens_when_the_engine_is_busy_is_said(engine: RunEngine) -> None:
    """RE-35: reject is the default of `call`; replace aborts what runs and what waits."""
    running = engine.call(endless())
    waiting = engine.call(answer(1), on_busy="queue")
    with pytest.raises(EngineBusyError, match="endless"):
        engine.call(answer(0))
    with pytest.raises(EngineBusyError):
        engine(answer(0), on_busy="reject")
    with pytest.raises(ValueError, match="on_busy"):
        engine.call(answer(0), on_busy="maybe")  # type: ignore[arg-type]

    instead = engine.call(answer(5), on_busy="replace")

    assert instead.result(5.0).plan_result == 5
    assert isinstance(running.exception(5.0), PlanAborted)
    assert waiting.reason == "replaced by answer"
    assert engine.statistics().ended == engine.statistics().submitted == 3
    assert engine.statistics().refused == 2


def test_the_queue_has_a_bound() -> None:
    """RE-35, B-2: the plan too many is refused."""
    with RunEngine(max_queued=1) as engine:
        engine(endless())
        engine(null())
        with pytest.raises(EngineBusyError, match="less than 1 waiting"):
            engine(answer(0))


def test_documents_may_be_subscribed_for_one_call(engine: RunEngine) -> None:
    """RE-28: a callable, a list or a dict; gone after the call."""
    one, two, three = Documents(), Documents(), Documents()
    engine(one_run(), one).result(5.0)
    engine(one_run(), [two]).result(5.0)
    engine(one_run(), {"start": three}).result(5.0)
    token = engine.subscribe(three, "stop")
    engine.unsubscribe(token)
    engine(one_run()).result(5.0)

    assert [len(each.all) for each in (one, two, three)] == [2, 2, 1]


def test_a_subscriber_that_raises_fails_the_plan_unless_told_otherwise(engine: RunEngine) -> None:
    """RE-29: as in bluesky."""

    def bad(name: str, document: dict[str, Any]) -> None:
        raise ValueError("bad subscriber")

    assert isinstance(engine(one_run(), bad).exception(5.0), ValueError)
    engine.ignore_callback_exceptions = True
    with pytest.warns(UserWarning, match="bad subscriber"):
        assert engine(one_run(), bad).result(5.0).exit_status == "success"


def test_hooks_are_called(engine: RunEngine) -> None:
    """RE-30: for states, messages and waits."""
    states: list[tuple[str, str]] = []
    messages: list[str] = []
    waits: list[Any] = []
    engine.state_hook = lambda new, old: states.append((str(new), str(old)))  # type: ignore[assignment]
    engine.msg_hook = lambda msg: messages.append(msg.command)  # type: ignore[assignment]
    engine.waiting_hook = waits.append  # type: ignore[assignment]
    detector = Detector()

    engine([Msg("trigger", detector, group="a"), Msg("wait", None, group="a")]).result(5.0)

    assert states == [("running", "idle"), ("idle", "running")]
    assert messages == ["trigger", "wait"]
    assert len(waits) == 2
    assert waits[-1] is None


def test_a_state_hook_that_raises_does_not_lock_the_engine(engine: RunEngine) -> None:
    """RE-30: the plan can be aborted nevertheless."""

    def hook(new: str, old: str) -> None:
        if new == "aborting":
            raise ValueError("bad hook")

    engine.state_hook = hook  # type: ignore[assignment]
    handle = engine.call(endless())
    assert handle.abort().result(5.0).exit_status == "abort"


def test_interruptions_can_be_recorded(engine: RunEngine, documents: Documents) -> None:
    """RE-31: a pause and a resume are two events of a stream."""
    engine.record_interruptions = True
    flag = Flag()
    handle = engine.call(in_run(flag))
    assert flag.began.wait(5.0)
    assert handle.pause().result(5.0)
    assert handle.resume().result(5.0)
    handle.stop().result(5.0)

    streams = {each["uid"]: each["name"] for each in documents.named("descriptor")}
    events = [each for each in documents.named("event") if "interruptions" in streams.values()]
    assert [each["data"]["interruption"] for each in events] == ["pause", "resume"]


def test_more_commands_are_known(engine: RunEngine) -> None:
    """RE-32: and the list is public."""
    assert {"wait_for_actions", "stash", "clear_cache"} <= set(engine.commands)


def test_commands_can_be_bound(engine: RunEngine) -> None:
    """RE-33, B-28: a name is needed, and a built-in one is not replaced by accident."""

    async def greet(engine: RunEngine, msg: Msg, word: str = "hello") -> str:
        return f"{word} {msg.obj} of {engine.name}"

    def plan(command: str) -> Iterator[Msg]:
        return (yield Msg(command, "x"))

    register_bound_command(engine, greet)
    register_bound_command(engine, partial(greet, word="bye"), name="leave")
    assert engine(plan("greet")).result(5.0).plan_result == "hello x of engine"
    assert engine(plan("leave")).result(5.0).plan_result == "bye x of engine"
    with pytest.raises(ValueError, match="no name"):
        register_bound_command(engine, partial(greet))
    with pytest.raises(ValueError, match="replace=True"):
        register_bound_command(engine, greet, name="sleep")
    register_bound_command(engine, greet, name="sleep", replace=True)


def test_engines_share_one_loop_and_run_side_by_side() -> None:
    """RE-34: of two plans that wait for each other each goes on, in one thread."""
    here, there = threading.Event(), threading.Event()

    def meeting(mine: threading.Event, other: threading.Event) -> Iterator[Msg]:
        mine.set()
        while not other.is_set():
            yield from sleep(0.005)

    with RunEngine() as one, RunEngine() as two:
        assert one.loop is two.loop
        futures = [one(meeting(here, there)), two(meeting(there, here))]
        for future in futures:
            future.result(10.0)


def test_an_engine_with_its_own_loop_leaves_the_global_one_alone() -> None:
    """RE-34, B-29: devices connect in the global loop."""
    loop = asyncio.new_event_loop()
    with RunEngine() as shared:
        with RunEngine(loop=loop) as own:
            assert own.loop is loop
            assert bluesky_engine.get_bluesky_event_loop() is shared.loop
            assert own(answer(1)).result(5.0).plan_result == 1
        assert not loop.is_running()
    loop.close()


def test_a_timeout_aborts_the_plan(engine: RunEngine, documents: Documents) -> None:
    """RE-41: with the reason ``timeout``."""
    flag = Flag()
    handle = engine.call(in_run(flag), timeout=1.0)

    with pytest.raises(PlanAborted, match="timed out"):
        handle.result(5.0)
    assert handle.reason == "timeout"
    assert flag.cleaned
    assert documents.named("stop")[0]["reason"] == "timeout"


def test_no_timeout_strikes_a_later_plan(engine: RunEngine) -> None:
    """RE-41: the timer belongs to one plan."""
    engine(null(), timeout=0.05).result(5.0)
    assert engine(sleep(0.2)).result(5.0).exit_status == "success"


@pytest.mark.usefixtures("no_other_lease")
def test_threads_live_in_a_context() -> None:
    """RE-42: so that document callbacks may push Tango events."""
    entered: list[str] = []

    class Context:
        def __enter__(self) -> None:
            entered.append(threading.current_thread().name)

        def __exit__(self, *_: object) -> None:
            entered.append("left " + threading.current_thread().name)

    with RunEngine(thread_context=Context, name="pusher") as engine:
        future = engine(sleep(0.05))
        called = threading.Event()
        future.add_done_callback(lambda _: called.set())
        assert called.wait(5.0)
        assert set(entered) == {"bluesky-run-engine", "milonga-pusher"}
    until(lambda: len(entered) == 4)


def test_a_shut_down_engine_takes_no_plans() -> None:
    """RE-40: shutdown is idempotent, and everything that waited is ended."""
    engine = RunEngine()
    running, waiting = engine.call(endless()), engine.call(null(), on_busy="queue")

    assert engine.shutdown(5.0)
    assert engine.shutdown(5.0)

    assert isinstance(running.exception(1.0), PlanAborted)
    assert isinstance(waiting.exception(1.0), PlanAborted)
    with pytest.raises(EngineClosedError):
        engine(answer(0))
    with pytest.raises(TransitionError):
        engine.abort()


@pytest.mark.usefixtures("no_other_lease")
def test_a_held_loop_outlives_its_engines() -> None:
    """RE-40: pytango is bound to a loop for good, so a server holds it."""
    with hold_event_loop() as lease:
        with RunEngine() as one:
            assert one.loop is lease.loop
        assert lease.loop.is_running()
        with RunEngine() as two:
            assert two.loop is lease.loop
    until(lambda: not lease.loop.is_running())


def test_a_forgotten_engine_leaves_no_thread() -> None:
    """B-8: engines that nobody shuts down do not add up."""
    before = our_threads()
    for _ in range(5):
        engine = RunEngine()
        engine(null()).result(5.0)
        del engine
        gc.collect()
    until(lambda: len(our_threads() - before) <= 2)


def test_shutdown_from_the_loop_does_not_deadlock() -> None:
    """RE-39: a document callback may shut the engine down."""
    engine = RunEngine()
    answers: list[bool] = []
    handle = engine.call(in_run(Flag()), lambda *_: answers.append(engine.shutdown(5.0)))

    assert isinstance(handle.exception(5.0), PlanAborted)
    assert answers[0] is False


def test_waiting_in_the_loop_is_refused(engine: RunEngine) -> None:
    """RE-39: it would wait for itself."""
    errors: list[BaseException] = []
    handles: list[Any] = []

    def plan() -> Iterator[Msg]:
        yield from checkpoint()
        try:
            handles[0].result()
        except RuntimeError as error:
            errors.append(error)

    def later() -> Iterator[Msg]:
        while not handles:
            yield from sleep(0.005)
        yield from plan()

    handles.append(engine.call(later()))
    handles[0].result(5.0)
    assert "event loop" in str(errors[0])


def test_an_engine_cannot_be_made_in_its_own_loop(engine: RunEngine) -> None:
    """RE-39: it would wait for the loop in the loop."""

    def plan() -> Iterator[Msg]:
        yield from null()
        RunEngine()

    assert isinstance(engine(plan()).exception(5.0), RuntimeError)


def test_an_engine_cannot_be_made_in_the_thread_of_a_loop_that_is_brought_along() -> None:
    """RE-39: it says so rather than wait."""

    async def main() -> None:
        RunEngine(loop=asyncio.get_running_loop())

    with pytest.raises(RuntimeError, match="its own event loop"):
        asyncio.run(main())


def test_no_engine_is_made_while_the_loop_is_blocked(engine: RunEngine) -> None:
    """B-30: who makes it is told so in time, and where; afterwards nothing is in the way."""
    gate = threading.Event()

    def blocks() -> None:
        gate.wait(30.0)

    engine.loop.call_soon_threadsafe(blocks)

    place = r"found it blocked for 0\.5 s by blocks \(test_run_engine\.py:\d+\)"
    with pytest.raises(EngineBlockedError, match=place):
        RunEngine()

    gate.set()
    with RunEngine() as other:
        assert other.loop is engine.loop


def test_an_engine_that_cannot_be_made_leaves_no_loop_behind() -> None:
    """B-8: nothing has to be collected for its thread to end."""
    before = our_threads()
    with pytest.raises(TypeError, match="md: found 5, expected a mapping") as failure:
        RunEngine(5)  # type: ignore[arg-type]
    until(lambda: our_threads() <= before)
    assert failure.tb is not None  # which keeps the engine


def test_an_engine_is_made_although_the_loop_is_slow(engine: RunEngine) -> None:
    """B-30: a thread that moves, or gets no processor, is not one that is blocked."""

    def works() -> None:
        end = time.monotonic() + 1.0
        turns = 0
        while time.monotonic() < end:
            for _ in range(1000):
                turns += 1

    engine.loop.call_soon_threadsafe(works)
    with RunEngine() as other:
        assert other.loop is engine.loop


def test_panic_is_final() -> None:
    """RE-25: everything raises."""
    with RunEngine() as engine:
        engine._state = "panicked"  # type: ignore[assignment]
        for call in (engine.abort, engine.stop, engine.resume, lambda: engine(answer(0))):
            with pytest.raises(RuntimeError, match="panicked"):
                call()


def test_during_task_blocks_the_worker_only() -> None:
    """RE-01: it gets an event that is set at the end."""

    class Blocked(DuringTask):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def block(self, blocking_event: threading.Event) -> None:
            self.seen.append(threading.current_thread().name)
            assert blocking_event.wait(5.0)

    task = Blocked()
    with RunEngine(during_task=task) as engine:
        engine(sleep(0.02)).result(5.0)
        handle = engine.call(endless())
        assert handle.pause().result(5.0)
        assert handle.resume().result(5.0)
        handle.stop().result(5.0)
    assert task.seen == ["milonga-engine"] * 3


def test_reset_halts_and_forgets(engine: RunEngine) -> None:
    """RE-25: the engine takes a new plan afterwards."""
    handle = engine.call(endless())
    engine.subscribe(Documents())
    engine.reset()
    assert handle.ended.result(5.0).exit_status == "abort"
    assert engine(answer(1)).result(5.0).plan_result == 1
