"""Plans that are hard to end, each in its own way; run by a device for `benchmarks.plans`."""

import asyncio
import time
from pathlib import Path

from bluesky import plan_stubs as bps
from bluesky.preprocessors import finalize_wrapper, run_decorator
from bluesky.utils import MsgGenerator

from milonga.engine.actions import Action, continuous
from milonga.engine.plan_stubs import wait_for_actions

SNAP = Action(name="snap", description="Note the time.")


@run_decorator()
def _endless(*, checkpoints: bool = True) -> MsgGenerator[None]:
    while True:
        if checkpoints:
            yield from bps.checkpoint()
        yield from bps.sleep(0.002)


def ordinary() -> MsgGenerator[None]:
    """Go on, with checkpoints, in a run."""
    yield from _endless()


@run_decorator()
def counted(notes: Path) -> MsgGenerator[None]:
    """Go on like an ordinary plan, and note how many tasks the event loop has."""
    with notes.open("a") as file:
        while True:
            yield from bps.checkpoint()
            file.write(f"{len(asyncio.all_tasks())}\n")
            yield from bps.sleep(0.002)


def unchecked() -> MsgGenerator[None]:
    """Go on without checkpoints."""
    yield from _endless(checkpoints=False)


def blocking(mark: Path, seconds: float) -> MsgGenerator[None]:
    """Keep the event loop from everything else, which nobody should do."""
    yield from bps.null()
    mark.touch()
    time.sleep(seconds)
    yield from bps.null()


def unclean() -> MsgGenerator[None]:
    """Go on, and fail in the cleanup."""

    def cleanup() -> MsgGenerator[None]:
        yield from bps.null()
        raise OSError("the shutter is stuck")

    yield from finalize_wrapper(_endless(), cleanup)


@continuous
def listening(notes: Path, snap: Action = SNAP) -> MsgGenerator[None]:
    """Note when the action is seen."""
    while True:
        yield from bps.checkpoint()
        yield from wait_for_actions(snap.event_map, timeout=None)
        with notes.open("a") as file:
            file.write(f"{time.time()!r}\n")
