"""Latches, actions, the mark of continuous plans, and the stub that waits for them."""

import asyncio
import functools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest
from bluesky.plan_stubs import close_run, null, open_run, sleep
from bluesky.utils import IllegalMessageSequence, Msg

from milonga.engine import RunEngine
from milonga.engine._latch import LatchWait
from milonga.engine.actions import (
    Action,
    ContinousPlan,
    ContinuousPlan,
    SRLatch,
    continous,
    continuous,
    is_continuous,
)
from milonga.engine.plan_stubs import ReadPace, read_while_waiting, wait_for_actions
from milonga.engine.plans import live

from .conftest import Detector, Documents, until


def parked(latch: SRLatch, number: int = 1) -> bool:
    """Whether so many waits are on a latch."""
    return len(latch._parked) >= number


# Latches


def test_a_latch_starts_reset_and_flips() -> None:
    """AC-01: made without a loop, and each way twice changes nothing."""
    latch = SRLatch()
    assert not latch.is_set()
    latch.set()
    latch.set()
    assert latch.is_set()
    latch.reset()
    latch.reset()
    assert not latch.is_set()


def test_waiting_is_for_a_level() -> None:
    """AC-02: at once if it is there, else until then; all waiters wake."""

    async def main() -> None:
        latch = SRLatch()
        await asyncio.wait_for(latch.wait_for_reset(), 5.0)
        waits = [asyncio.ensure_future(latch.wait_for_set()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waits)
        latch.set()
        await asyncio.wait_for(asyncio.gather(*waits), 5.0)
        await asyncio.wait_for(latch.wait_for_set(), 5.0)

    asyncio.run(main())


def test_a_pulse_wakes_who_is_parked() -> None:
    """AC-03: although the latch has flipped back."""

    async def main() -> None:
        latch = SRLatch()
        wait = asyncio.ensure_future(latch.wait_for_set())
        await asyncio.sleep(0)
        latch.set()
        latch.reset()
        await asyncio.wait_for(wait, 5.0)
        assert not latch._parked

    asyncio.run(main())


def test_a_pulse_between_looking_and_parking_is_seen() -> None:
    """AC-05: a waiter says from when on it wants to hear of changes."""

    async def main() -> bool:
        latch = SRLatch()
        mark = latch.mark()
        latch.set()
        latch.reset()
        return await asyncio.wait_for(LatchWait({latch: mark}, "set").wait(None), 5.0)

    assert asyncio.run(main())


def test_a_plan_sees_a_latch_of_another_thread_at_once(engine: RunEngine) -> None:
    """AC-04, B-11: not at the end of its timeout, however slow the machine is."""
    latch = SRLatch()
    seen: list[float] = []

    def plan() -> Iterator[Msg]:
        for _ in range(20):
            yield from wait_for_actions({"go": latch}, timeout=30.0)
            seen.append(time.perf_counter())
            latch.reset()

    future = engine(plan())
    delays = []
    for number in range(20):
        until(lambda: parked(latch))
        began = time.perf_counter()
        latch.set()
        until(lambda number=number: len(seen) > number)
        delays.append(seen[number] - began)
    future.result(5.0)
    assert sorted(delays)[10] < 1.0
    assert max(delays) < 15.0


def test_no_pulse_between_two_waits_is_lost(engine: RunEngine) -> None:
    """AC-05, B-12: twelve pulses while the plan is busy, twelve answers."""
    latch = SRLatch()

    def plan() -> Iterator[Msg]:
        answers = []
        for _ in range(12):
            yield from null()
            latch.set()
            latch.reset()
            answers.append((yield from wait_for_actions({"go": latch}, timeout=0.0)))
        answers.append((yield from wait_for_actions({"go": latch}, timeout=0.0)))
        return answers

    answers = engine(plan()).result(5.0).plan_result
    assert answers == [("go", latch)] * 12 + [None]


def test_a_pulse_before_the_first_wait_of_a_run_counts(engine: RunEngine) -> None:
    """AC-05: the run has begun, so it is news."""
    latch, began, pulsed = SRLatch(), threading.Event(), threading.Event()

    def plan() -> Iterator[Msg]:
        yield from null()
        began.set()
        while not pulsed.is_set():
            yield from sleep(0.001)
        return (yield from wait_for_actions({"go": latch}, timeout=None))

    future = engine(plan())
    assert began.wait(5.0)
    latch.set()
    latch.reset()
    pulsed.set()
    assert future.result(5.0).plan_result[0] == "go"


def test_no_trigger_is_lost_while_the_one_before_is_seen() -> None:
    """AC-05: at the first moment at which another thread can come in."""
    latch = SRLatch()

    class Gap:
        """A lock after which something happens, once."""

        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.happens = [latch.trigger]

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *_: object) -> None:
            self.lock.release()
            if self.happens:
                self.happens.pop()()

    latch.trigger()
    latch._lock = Gap()  # type: ignore[assignment]

    mark = latch.consume("set", None)
    assert mark is not None
    assert latch.consume("set", mark) is not None


# Actions


def test_an_action_takes_keywords_only() -> None:
    """AC-06: its latch is neither taken nor shown; subclasses may have a name."""
    with pytest.raises(TypeError):
        Action("snap")  # type: ignore[misc]

    @dataclass(kw_only=True, eq=False)
    class Snap(Action):
        name: str = "snap"

    assert Snap().name == "snap"
    assert [each.name for each in fields(Action) if each.init] == [
        "name",
        "description",
        "togglable",
        "toggle_states",
    ]
    assert "latch" not in repr(Action(name="x"))


def test_the_latch_is_made_once() -> None:
    """AC-07, B-13: also when many threads ask for it first."""
    for _ in range(50):
        action, barrier = Action(name="go"), threading.Barrier(4)
        found: list[SRLatch] = []

        def ask(action: Action = action, barrier: Any = barrier, found: Any = found) -> None:
            barrier.wait(5.0)
            found.append(action.event_map["go"])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5.0)
        assert len({id(each) for each in found}) == 1


def test_actions_are_themselves() -> None:
    """AC-08: before and after their latch is made; they can be keys."""
    one, two = Action(name="go"), Action(name="go")
    assert one != two
    assert one.latch is one.latch
    assert {one: 1, two: 2}[one] == 1


def test_a_latch_that_was_left_set_does_not_start_the_next_run(engine: RunEngine) -> None:
    """AC-09, B-13: nor does one that is set between two runs."""
    action = Action(name="go", togglable=True)

    def plan() -> Iterator[Msg]:
        return (yield from wait_for_actions(action.event_map, timeout=0.01))

    action.toggle(on=True)
    assert engine(plan()).result(5.0).plan_result == ("go", action.latch)
    assert not action.latch.is_set()
    assert engine(plan()).result(5.0).plan_result is None
    action.toggle(on=True)
    assert engine(plan()).result(5.0).plan_result is None


def test_a_plan_that_waits_does_not_start_with_what_another_was_told(engine: RunEngine) -> None:
    """AC-09, B-13: its run begins when it gets the engine, not when it is given to it."""
    action = Action(name="go")

    def plan(answers: int) -> Iterator[Msg]:
        seen = 0
        while seen < answers:
            yield from wait_for_actions(action.event_map, timeout=None)
            seen += 1
        return (yield from wait_for_actions(action.event_map, timeout=0.01))

    first = engine.call(plan(1))
    second = engine.call(plan(0), on_busy="queue")
    until(lambda: parked(action.latch))
    action.trigger()

    assert first.result(5.0).plan_result is None
    assert second.result(5.0).plan_result is None


def test_an_action_belongs_to_one_run_at_a_time(engine: RunEngine) -> None:
    """AC-09: another engine that wants it is refused."""
    action = Action(name="go")
    first = engine.call(wait_for_actions(action.event_map, timeout=None))
    until(lambda: parked(action.latch))
    with RunEngine() as other:
        error = other(wait_for_actions(action.event_map, timeout=None)).exception(5.0)
        assert isinstance(error, RuntimeError)
        first.stop().result(5.0)
        second = other(wait_for_actions(action.event_map, timeout=None))
        until(lambda: parked(action.latch))
        action.trigger()
        assert second.result(5.0).plan_result[0] == "go"


def test_a_togglable_action_has_labels() -> None:
    """AC-10: set is the first state."""
    lamp = Action(name="lamp", togglable=True, toggle_states=("Lit", "Dark"))
    assert lamp.state_label == "Dark"
    assert lamp.toggle() is True
    assert lamp.state_label == "Lit"
    assert lamp.toggle(on=False) is False
    with pytest.raises(ValueError, match="togglable"):
        Action(name="snap").toggle()


def test_a_triggered_action_resets_when_it_was_seen(engine: RunEngine) -> None:
    """AC-10: it stays set until then."""
    snap = Action(name="snap")
    snap.trigger()
    assert snap.latch.is_set()

    def plan() -> Iterator[Msg]:
        first = yield from wait_for_actions(snap.event_map, timeout=None)
        second = yield from wait_for_actions(snap.event_map, timeout=0.0)
        return first, second

    assert engine(plan()).result(5.0).plan_result == (("snap", snap.latch), None)
    assert not snap.latch.is_set()


# Continuous plans


def test_continuous_plans_are_marked() -> None:
    """AC-11: the function is the same one; the last mark counts."""

    def plan(a: int) -> Iterator[Msg]:
        yield from null()

    assert continuous(plan) is plan
    assert (plan.__togglable__, plan.__pausable__) == (True, False)  # type: ignore[attr-defined]
    continuous(togglable=False, pausable=True)(plan)
    assert (plan.__togglable__, plan.__pausable__) == (False, True)  # type: ignore[attr-defined]
    assert continous is continuous
    assert ContinousPlan is ContinuousPlan


def test_the_mark_is_seen() -> None:
    """AC-12: on functions and methods; `is_continuous` also looks into partials."""

    class Station:
        @continuous
        def live(self) -> Iterator[Msg]:
            yield from null()

    def plain() -> Iterator[Msg]:
        yield from null()

    live = Station().live
    partial = functools.partial(live)
    assert isinstance(live, ContinuousPlan)
    assert not isinstance(plain, ContinuousPlan)
    assert not isinstance(partial, ContinuousPlan)
    assert is_continuous(partial)
    assert not is_continuous(plain)


def test_what_cannot_be_marked_is_refused() -> None:
    """AC-13, AC-14: with a text that says what to do."""

    class Station:
        def live(self) -> Iterator[Msg]:
            yield from null()

    with pytest.raises(TypeError, match="in its class"):
        continuous(Station().live)
    with pytest.raises(TypeError, match="expected a plan function"):
        continuous(5)  # type: ignore[arg-type]
    continuous(togglable=False, pausable=True)(Station.live)


# Waiting in plans


@pytest.mark.parametrize("wait_for", ["set", "reset"])
def test_a_level_that_is_there_is_seen_at_once(engine: RunEngine, wait_for: str) -> None:
    """PS-03, PS-04: for both sides; nothing in time is None."""
    latch = SRLatch()
    if wait_for == "set":
        latch.set()
    plan = wait_for_actions({"a": latch}, timeout=None, wait_for=wait_for)
    assert engine(plan).result(5.0).plan_result == ("a", latch)
    other = "reset" if wait_for == "set" else "set"
    assert engine(wait_for_actions({"a": SRLatch()})).result(5.0).plan_result is None
    assert other != wait_for


def test_of_several_the_first_in_order_wins(engine: RunEngine) -> None:
    """PS-05, B-10: or all are given, and those not given come next."""
    latches = {name: SRLatch() for name in "abc"}
    for name in "cb":
        latches[name].trigger()

    def plan() -> Iterator[Msg]:
        first = yield from wait_for_actions(latches, timeout=None)
        rest = yield from wait_for_actions(latches, timeout=None, all=True)
        return first[0], [name for name, _ in rest]

    assert engine(plan()).result(5.0).plan_result == ("b", ["c"])


def test_nonsense_is_refused(engine: RunEngine) -> None:
    """PS-06, PS-07: no latches, no such side; names may be anything."""
    for plan in (
        wait_for_actions({}),
        wait_for_actions({"a": SRLatch()}, wait_for="maybe"),
    ):
        assert isinstance(engine(plan).exception(5.0), ValueError)
    assert isinstance(engine(wait_for_actions({"a": 1})).exception(5.0), TypeError)  # type: ignore[dict-item]
    latch = SRLatch()
    latch.set()
    assert engine(wait_for_actions({7: latch})).result(5.0).plan_result == (7, latch)


def test_a_wait_survives_pauses(engine: RunEngine) -> None:
    """PS-08, B-9: five of them; the plan gets the latch and nothing is left on it."""
    latch = SRLatch()
    handle = engine.call(wait_for_actions({"go": latch}, timeout=None))
    for _ in range(5):
        until(lambda: parked(latch))
        assert handle.pause().result(5.0)
        assert not latch._parked
        assert handle.resume().result(5.0)
    latch.set()
    assert handle.result(5.0).plan_result == ("go", latch)


def test_a_latch_set_while_paused_is_seen(engine: RunEngine) -> None:
    """PS-08: after the resume, even if it was a pulse."""
    latch = SRLatch()
    handle = engine.call(wait_for_actions({"go": latch}, timeout=None))
    until(lambda: parked(latch))
    assert handle.pause().result(5.0)
    latch.set()
    latch.reset()
    handle.resume()
    assert handle.result(5.0).plan_result == ("go", latch)


def test_a_wait_survives_a_suspender(engine: RunEngine) -> None:
    """PS-08: the plan gets the latch although its message was repeated."""
    latch, released = SRLatch(), asyncio.Event()
    handle = engine.call(wait_for_actions({"go": latch}, timeout=None))
    until(lambda: parked(latch))
    engine.request_suspend(released.wait)
    until(lambda: not parked(latch))
    engine.loop.call_soon_threadsafe(released.set)
    until(lambda: parked(latch))
    latch.set()
    assert handle.result(5.0).plan_result == ("go", latch)


def reading(latch: SRLatch, detector: Detector, **options: Any) -> Iterator[Msg]:
    """Read within a run until the latch is set."""
    yield from open_run()
    answer = yield from read_while_waiting([detector], {"go": latch}, **options)
    yield from close_run()
    return answer


def test_reading_needs_an_open_run(engine: RunEngine) -> None:
    """PS-09: the plan is told so, and the engine is idle again."""
    plan = read_while_waiting([Detector()], {"go": SRLatch()})
    assert isinstance(engine(plan).exception(5.0), IllegalMessageSequence)
    assert engine.state == "idle"


@pytest.mark.parametrize("final", [True, False])
def test_reading_ends_with_the_latch(
    engine: RunEngine, documents: Documents, *, final: bool
) -> None:
    """PS-09, PS-10, B-24: with one more event, or none."""
    latch = SRLatch()
    latch.set()
    plan = reading(latch, Detector(), final_read=final)
    assert engine(plan).result(5.0).plan_result == ("go", latch)
    assert len(documents.named("event")) == int(final)


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.mark.parametrize("period", [0.0, -1.0, float("nan"), float("inf")])
def test_a_period_that_is_none_is_refused_before_the_first_message(period: float) -> None:
    """PS-11: with its name; not in the middle of a run, as a division by zero."""
    with pytest.raises(
        ValueError, match=r"refresh_period: found .* expected a positive and finite"
    ):
        next(read_while_waiting([], {"go": SRLatch()}, refresh_period=period))
    with pytest.raises(ValueError, match=r"^period: found .* expected a positive and finite"):
        next(live([], period))


def test_each_read_is_due_a_period_after_the_start_of_the_last() -> None:
    """PS-11: what a read takes is not added, and turns that went by are left out."""
    clock = Clock()
    pace = ReadPace(clock=clock)
    plan = read_while_waiting([], {"go": SRLatch()}, refresh_period=1.0, pace=pace)
    waits: list[float] = []
    reads = iter([0.25, 0.25, 2.5, 0.25, 0.25])
    msg = next(plan)
    while len(waits) < 5:
        answer = None
        if msg.command == "wait_for_actions":
            waits.append(msg.kwargs["timeout"])
            clock.now += msg.kwargs["timeout"]
        elif msg.command == "null":  # what stands for the read of no devices
            clock.now += next(reads)
        msg = plan.send(answer)
    assert waits == [1.0, 0.75, 0.75, 0.5, 0.75]
    assert pace.missed == 2


def test_reads_keep_their_pace(engine: RunEngine, documents: Documents) -> None:
    """PS-11, B-24: the period is from start to start, and what is missed is counted."""
    latch, pace = SRLatch(), ReadPace()
    slow = Detector(reading=0.03)
    future = engine(reading(latch, slow, refresh_period=0.02, pace=pace))
    until(lambda: pace.reads >= 8)
    latch.set()
    future.result(5.0)
    assert pace.missed >= 6, "each read takes longer than a turn, so each second turn is missed"
    assert pace.reads == len(documents.named("event"))

    latch, pace = SRLatch(), ReadPace()
    quick = Detector()
    began = time.monotonic()
    future = engine(reading(latch, quick, refresh_period=0.02, pace=pace))
    until(lambda: pace.reads >= 20)
    counted = pace.reads + pace.missed  # before the time is: none too many
    took = time.monotonic() - began
    latch.set()
    future.result(5.0)
    assert took / counted >= 0.018
