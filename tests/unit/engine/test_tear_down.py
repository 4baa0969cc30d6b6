"""What is done when a plan is over has an end, also where a device never answers."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from bluesky.plan_stubs import null, open_run
from bluesky.utils import Msg

from milonga.engine import PlanHalted, PlanHandle, RunEngine

from .conftest import Documents, Motor, endless, until


class Hanging(Motor):
    """Never gets to rest."""

    def __init__(self) -> None:
        super().__init__("hanging")
        self.asked_to_stop = threading.Event()

    async def stop(self, success: bool = True) -> None:  # type: ignore[override]
        """Hang."""
        self.asked_to_stop.set()
        await asyncio.Event().wait()


def moving(motor: Motor, end: str) -> Iterator[Msg]:
    """Move, in a run that is left open, and end in a way."""
    yield from open_run()
    yield Msg("set", motor, 1, group="a")
    if end == "fails":
        raise ValueError("the plan's own")
    if end == "goes on":
        yield from endless()


def torn_down(engine: RunEngine, end: str) -> PlanHandle:
    """Bring a plan to where its tear-down hangs."""
    motor = Hanging()
    handle = engine.call(moving(motor, end))
    assert motor.asked_to_stop.wait(5.0)
    return handle


def is_usable(engine: RunEngine) -> bool:
    """Whether the engine is idle and runs another plan."""
    until(lambda: engine.state == "idle")
    return engine([Msg("null")]).result(5.0).exit_status == "success"


@pytest.mark.parametrize("verb", ["halt", "abort", "stop", "timeout"])
@pytest.mark.parametrize(
    ("end", "kind", "exit_status"), [("fails", ValueError, "fail"), ("well", PlanHalted, "abort")]
)
def test_a_plan_ends_although_a_device_hangs(
    engine: RunEngine,
    documents: Documents,
    verb: str,
    end: str,
    kind: type[Exception],
    exit_status: str,
) -> None:
    """RE-22, RE-23: a halt at once, the others after `halt_after`.

    What a plan has failed with stays; one that had ended well is halted, since what belongs to it
    was not done.
    """
    engine.halt_after = 60.0 if verb == "halt" else 0.05
    if verb == "timeout":
        handle = engine.call(moving(Hanging(), end), timeout=1.0)  # it is over by then
    else:
        handle = torn_down(engine, end)
        getattr(handle, verb)()

    result = handle.ended.result(5.0)

    assert isinstance(handle.exception(), kind)
    assert result.exit_status == documents.named("stop")[0]["exit_status"] == exit_status
    assert ("cleanup was not over" in handle.reason) is (verb != "halt")
    assert is_usable(engine)


@pytest.mark.parametrize("verb", ["halt", "abort", "stop"])
def test_the_tear_down_of_a_plan_that_was_ended_has_its_time(engine: RunEngine, verb: str) -> None:
    """RE-23: one verb is enough, whatever the devices do."""
    engine.halt_after = 0.05
    motor = Hanging()
    handle = engine.call(moving(motor, "goes on"))
    until(lambda: motor.moves)

    getattr(handle, verb)("enough")

    assert isinstance(handle.exception(5.0), PlanHalted)
    assert handle.reason == "enough; cleanup was not over 0.05 s later"
    assert is_usable(engine)


def test_an_abort_ends_a_pause_that_hangs(engine: RunEngine) -> None:
    """RE-22: a device that cannot be paused gets `halt_after`."""
    engine.halt_after = 0.05
    motor = Hanging()
    handle = engine.call(moving(motor, "goes on"))
    until(lambda: motor.moves)
    handle.pause()
    assert motor.asked_to_stop.wait(5.0)

    handle.abort()

    assert isinstance(handle.exception(5.0), PlanHalted)


def test_a_device_that_hangs_keeps_no_other_moving(engine: RunEngine) -> None:
    """RE-22: all are told to stop, in whatever order the plan has met them."""
    motors: list[Any] = [Hanging(), Motor("one"), Hanging(), Motor("two")]

    def plan() -> Iterator[Msg]:
        for number, motor in enumerate(motors):
            yield Msg("set", motor, number, group="a")

    handle = engine.call(plan())

    until(lambda: motors[0].asked_to_stop.is_set() and motors[2].asked_to_stop.is_set())
    assert (motors[1].stopped, motors[3].stopped) == (1, 1)
    handle.halt()
    assert handle.wait(5.0)


def test_what_a_halt_leaves_is_unstaged(engine: RunEngine) -> None:
    """RE-23: by the tear-down that was broken off."""

    class Staged(Hanging):
        unstaged = 0

        def stage(self) -> list[Any]:
            return [self]

        def unstage(self) -> list[Any]:
            self.unstaged += 1
            return [self]

    device = Staged()

    def plan() -> Iterator[Msg]:
        yield Msg("stage", device)
        yield Msg("set", device, 1, group="a")
        yield from null()

    handle = engine.call(plan())
    assert device.asked_to_stop.wait(5.0)
    handle.halt()
    assert handle.wait(5.0)
    assert device.unstaged == 1
