"""Plans of an imaginary site, named in the topology of the tests; also what a bad site does."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bluesky import plan_stubs as bps
from bluesky.preprocessors import run_decorator
from bluesky.protocols import Movable
from bluesky.utils import MsgGenerator

from milonga.engine.actions import Action, continuous
from milonga.engine.plan_stubs import declare_steps, invoke, invoke_all, step_done, wait_for_actions


def configure(
    position: float = 0.0,
    motor: Movable[Any] | None = None,
    children: list[str] = ["cbf", "pst"],  # noqa: B006 - never changed
) -> MsgGenerator[None]:
    """Configure two children and then a third, and move a motor if there is one."""
    yield from declare_steps(2)
    yield from invoke_all(children, "Configure", "{}")
    yield from step_done()
    yield from invoke("pss", "Configure", "{}")
    yield from step_done()
    if motor is not None:
        yield from bps.mv(motor, position)


def assign(receptors: list[str] = []) -> MsgGenerator[None]:  # noqa: B006 - never changed
    """Have nothing to do with what is assigned."""
    yield from bps.null()


def command(child: str, name: str) -> MsgGenerator[str]:
    """Give one command to one child."""
    status = yield from invoke(child, name)
    return status.outcome[1] if status.outcome else ""


def raising() -> MsgGenerator[None]:
    """Open a run, and fail."""
    yield from bps.open_run()
    raise OSError("no beam")


def nonsense() -> MsgGenerator[None]:
    """Yield what is no message."""
    yield 42  # type: ignore[misc]


def blocking(seconds: float = 60.0, gate: Path | None = None) -> MsgGenerator[None]:
    """Wait in the event loop, which nobody should do, until there is a file if one is named."""
    yield from bps.null()
    mark = Path(os.environ["MILONGA_DATA"], "blocking")  # says that the loop is blocked from here
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (gate and gate.exists()):
        time.sleep(min(0.05, seconds))
    yield from bps.null()


@continuous(togglable=True, pausable=False)
def endless() -> MsgGenerator[None]:
    """Go on, and do not like to be paused."""
    while True:
        yield from bps.checkpoint()
        yield from bps.sleep(0.01)


def listening(
    notes: Path,
    times: int = 1,
    snap: Action = Action(name="snap", description="Note the time."),  # noqa: B008
    gate: Action = Action(name="gate", togglable=True, toggle_states=("open", "shut")),  # noqa: B008
) -> MsgGenerator[None]:
    """Note when an action is seen, several times."""

    @run_decorator()
    def body() -> MsgGenerator[None]:
        with notes.open("a") as file:
            for _ in range(times):
                yield from bps.checkpoint()
                name, _latch = yield from wait_for_actions(
                    snap.event_map | gate.event_map, timeout=None
                )
                file.write(f"{name} {time.time()!r}\n")
                file.flush()
                if name == "gate":
                    yield from wait_for_actions(gate.event_map, timeout=None, wait_for="reset")
                    file.write(f"shut {time.time()!r}\n")
                    file.flush()

    yield from body()


def steps(seconds: float, number: int, words: Sequence[str] = ()) -> MsgGenerator[None]:
    """Take a known number of steps."""
    yield from declare_steps(number)
    for _ in range(number):
        yield from bps.checkpoint()
        yield from bps.sleep(seconds / number)
        yield from step_done()
