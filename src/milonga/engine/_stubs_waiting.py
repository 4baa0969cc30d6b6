"""Plan stubs that wait for operators, with or without reading meanwhile."""

# bluesky is annotated in parts only.
# mypy: untyped-calls-exclude="bluesky"

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bluesky import plan_stubs as bps
from bluesky.utils import Msg

from milonga.engine._latch import SRLatch

__all__ = ["ReadPace", "check_period", "read_while_waiting", "wait_for_actions"]


@dataclass
class ReadPace:
    """How often `read_while_waiting` has read, and how often it could not in time.

    Parameters
    ----------
    clock : callable, optional
        Monotonic time in seconds.
    """

    reads: int = 0
    missed: int = 0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)


def wait_for_actions(
    events: Mapping[Any, SRLatch],
    timeout: float | None = 0.001,
    wait_for: str = "set",
    *,
    all: bool = False,  # noqa: A002 - the word that fits
) -> Generator[Msg, Any, Any]:
    """Wait until one of several latches is set, or reset.

    What happened since the last wait of the same run counts too, so no pulse is lost.

    Parameters
    ----------
    events : mapping
        Latches by name, such as `Action.event_map`.
    timeout : float, optional
        Seconds to wait at most. None waits for ever and costs nothing meanwhile; prefer it.
    wait_for : {"set", "reset"}, optional
        Which side to wait for.
    all : bool, optional
        Whether to get a list of every latch that is there, instead of the first.

    Returns
    -------
    tuple, list of tuple, or None
        Name and latch of the first one in the order of `events`; None if none came in time.

    Raises
    ------
    ValueError
        If there are no latches, or `wait_for` is neither.

    Examples
    --------
    >>> from milonga.engine import RunEngine
    >>> from milonga.engine.actions import Action
    >>> snap = Action(name="snap")
    >>> def plan():
    ...     name, latch = yield from wait_for_actions(snap.event_map, timeout=None)
    ...     return name
    >>> with RunEngine() as RE:
    ...     future = RE(plan())
    ...     snap.trigger()
    ...     future.result(timeout=5.0).plan_result
    'snap'
    """
    return (
        yield Msg(
            "wait_for_actions", None, dict(events), timeout=timeout, wait_for=wait_for, all=all
        )
    )


def read_while_waiting(
    objs: Sequence[Any],
    events: Mapping[Any, SRLatch],
    stream_name: str = "primary",
    refresh_period: float = 1 / 60,
    wait_for: str = "set",
    *,
    final_read: bool = True,
    pace: ReadPace | None = None,
) -> Generator[Msg, Any, tuple[Any, SRLatch]]:
    """Read devices again and again until a latch is set, or reset; needs an open run.

    Each turn makes a checkpoint, waits for the latches until the next read is due, and reads.

    Parameters
    ----------
    objs : sequence
        What to trigger and read.
    events : mapping
        Latches by name.
    stream_name : str, optional
        Stream of the events.
    refresh_period : float, optional
        Seconds from the start of one read to the start of the next. A turn that is missed because
        reading takes longer is left out.
    wait_for : {"set", "reset"}, optional
        Which side to wait for.
    final_read : bool, optional
        Whether to read once more after the latch; without it a latch that is there already leads
        to no read at all.
    pace : ReadPace, optional
        Is told how many reads there were and how many were missed.

    Returns
    -------
    tuple
        Name and latch of the one that ended it.

    Raises
    ------
    ValueError
        If `refresh_period` is not positive and finite.
    """
    check_period("refresh_period", refresh_period)
    pace = pace or ReadPace()
    due = pace.clock() + refresh_period
    while True:
        yield from bps.checkpoint()
        left = max(0.0, due - pace.clock())
        fired = yield from wait_for_actions(events, timeout=left, wait_for=wait_for)
        if fired is None or final_read:
            pace.reads += 1
            yield from bps.trigger_and_read(list(objs), name=stream_name)
            # From start to start: the turns that went by during the read are left out.
            missed = max(0, math.ceil((pace.clock() - due) / refresh_period) - 1)
            pace.missed += missed if fired is None else 0
            due += (missed + 1) * refresh_period
        if fired is not None:
            return fired  # type: ignore[no-any-return]


def check_period(name: str, seconds: float) -> None:
    """Raise `ValueError` for a period that is not positive and finite."""
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"{name}: found {seconds!r} s, expected a positive and finite time")
