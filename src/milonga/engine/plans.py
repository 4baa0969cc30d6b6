"""Plans that are ready to be put on the list of a device.

They are bluesky's own with typed parameters, so that a client can be told what they take, and one
that goes on until it is stopped. A site's own plans look the same, in a module of its own.
"""

# bluesky is annotated in parts only.
# mypy: untyped-calls-exclude="bluesky"

from collections.abc import Sequence
from typing import Any

from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky.preprocessors import run_wrapper, stage_wrapper
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from milonga.engine._stubs_waiting import check_period
from milonga.engine.actions import Action, continuous
from milonga.engine.plan_stubs import read_while_waiting, wait_for_actions

__all__ = ["count", "live", "move", "rel_scan", "scan"]


def count(
    detectors: Sequence[Readable[Any]], num: int = 1, delay: float = 0.0
) -> MsgGenerator[str | None]:
    """Read detectors several times.

    Parameters
    ----------
    detectors : sequence
        What to read.
    num : int, optional
        How often.
    delay : float, optional
        Seconds from one reading to the next.
    """
    return (yield from bp.count(list(detectors), num=num, delay=delay))


def scan(
    detectors: Sequence[Readable[Any]], motor: Movable[Any], start: float, stop: float, num: int
) -> MsgGenerator[str | None]:
    """Read detectors at equal steps of a motor.

    Parameters
    ----------
    detectors : sequence
        What to read; the motor is read as well.
    motor : Movable
        What to move.
    start, stop : float
        First and last position.
    num : int
        How many positions.
    """
    return (yield from bp.scan(list(detectors), motor, start, stop, num=num))


def rel_scan(
    detectors: Sequence[Readable[Any]], motor: Movable[Any], start: float, stop: float, num: int
) -> MsgGenerator[str | None]:
    """Do what `scan` does from where the motor is, and bring it back.

    Parameters
    ----------
    detectors, motor, num : sequence, Movable, int
        As for `scan`.
    start, stop : float
        First and last position, from where the motor is.
    """
    return (yield from bp.rel_scan(list(detectors), motor, start, stop, num=num))


def move(motor: Movable[Any], position: float) -> MsgGenerator[None]:
    """Move a motor and wait until it is there; makes no run."""
    yield from bps.mv(motor, position)


@continuous(togglable=True, pausable=True)
def live(
    detectors: Sequence[Readable[Any]],
    period: float = 0.1,
    record: Action = Action(  # noqa: B008 - each run gets a copy
        name="record",
        description="Whether readings are recorded.",
        togglable=True,
        toggle_states=("recording", "waiting"),
    ),
) -> MsgGenerator[None]:
    """Read detectors again and again while `record` is on, until the plan is stopped.

    Parameters
    ----------
    detectors : sequence
        What to read.
    period : float, optional
        Seconds from one reading to the next; positive and finite.

    Raises
    ------
    ValueError
        If `period` is something else; before any device is touched.
    """
    check_period("period", period)
    read = list(detectors)

    def body() -> MsgGenerator[None]:
        while True:
            yield from bps.checkpoint()
            yield from wait_for_actions(record.event_map, timeout=None)
            yield from read_while_waiting(
                read, record.event_map, refresh_period=period, wait_for="reset", final_read=False
            )

    md = {"plan_name": "live", "detectors": [each.name for each in read]}
    yield from stage_wrapper(run_wrapper(body(), md=md), read)
