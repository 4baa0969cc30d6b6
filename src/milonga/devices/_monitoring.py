"""What a device tells the monitor of its process."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import CommandServer, Job
from milonga.monitoring import Check, Monitor, Pulse, Sample, process_monitor
from milonga.tracking import parse_result

__all__ = ["DeviceMonitor", "watch_event_loop"]

STUCK_AFTER = 3.0
"""Seconds after which a device whose thread does nothing is not ready."""

DEAD_AFTER = 60.0
"""Seconds after which only a restart of the process helps."""

LOOP_DEAD_AFTER = 300.0
"""Seconds after which only a restart of the process helps to an event loop that a plan blocks.

Longer than for a device's thread: a plan may compute, and end; and what is no plan goes on.
"""

ChildFigures = Callable[[], Mapping[str, Mapping[str, int]]]


class DeviceMonitor:
    """Counts a device's commands, and tells how its thread and its children are.

    Parameters
    ----------
    device : str
        The device's name.
    commands : CommandServer
        Its commands.
    call_soon : callable
        Runs a function on the thread that starts and ends commands.
    """

    def __init__(
        self,
        device: str,
        commands: CommandServer,
        call_soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._device = device
        self._commands = commands
        self._pulse = Pulse(call_soon)
        self._children: ChildFigures | None = None
        self._monitor = process_monitor()
        self._monitor.add_source(self, self._samples)
        name = f"{device}: the thread that starts and ends commands"
        self._monitor.add_check(self, name, Check.READY, lambda: self._stuck(STUCK_AFTER))
        self._monitor.add_check(self, name, Check.LIVE, lambda: self._stuck(DEAD_AFTER))

    def follow(self, job: Job) -> None:
        """Count a command when it ends."""
        started: list[float] = []
        on_started, on_ended = job.on_started, job.on_ended

        def start() -> None:
            started.append(time.monotonic())
            on_started()

        def end(status: TaskStatus, result: object) -> None:
            seconds = time.monotonic() - started[0] if started else None
            outcome = _outcome(status, result)
            self._monitor.command_ended(self._device, job.name, outcome, seconds)
            on_ended(status, result)

        job.on_started, job.on_ended = start, end

    def refused(self, command: str) -> None:
        """Count a command that was refused when it was called."""
        self._monitor.command_ended(self._device, command, TaskStatus.REJECTED.name.lower())

    def watch_children(self, figures: ChildFigures) -> None:
        """Tell how the links to children are, as `figures` says by resource locator."""
        self._children = figures

    def close(self) -> None:
        """Tell nothing any more."""
        self._monitor.remove(self)

    def _stuck(self, limit: float) -> str:
        lag = self._pulse.lag()
        return f"stuck for {lag:.1f} s" if lag >= limit else ""

    def _samples(self) -> Iterator[Sample]:
        of_device = (("device", self._device),)
        yield Sample(
            "milonga_worker_lag_seconds",
            "For how long the thread that starts and ends commands has done nothing.",
            self._pulse.lag(),
            of_device,
        )
        figures = self._commands.statistics()
        for state in ("queued", "executing"):
            text = f"Commands that are {state}."
            yield Sample(f"milonga_commands_{state}", text, figures.get(state, 0), of_device)
        waiting = figures.get("push_waiting", 0)
        yield Sample("milonga_pushes_waiting", "Pushes that wait.", waiting, of_device)
        yield from _counters("milonga_reports", _REPORTS, figures, _COMMANDS_NOW, of_device)
        children = self._children() if self._children is not None else {}
        for child, of_child in children.items():
            labels = (*of_device, ("child", child))
            up = of_child.get("connected", 0)
            yield Sample("milonga_child_up", "Whether a child answers.", up, labels)
            for name in _CHILD_NOW & of_child.keys() - {"connected"}:
                more = (*labels, ("what", name))
                yield Sample("milonga_child_links", _LINKS, of_child[name], more)
            yield from _counters("milonga_child_events", _EVENTS, of_child, _CHILD_NOW, labels)


def _counters(
    metric: str,
    text: str,
    figures: Mapping[str, int],
    present: frozenset[str],
    labels: tuple[tuple[str, str], ...],
) -> Iterator[Sample]:
    """Yield what only grows; what is so now is something else."""
    for name, value in figures.items():
        if name not in present:
            yield Sample(metric, text, value, (*labels, ("what", name)), is_counter=True)


class Lag(Protocol):
    """How an event loop kept up so far, see `milonga.engine.LoopWatchdog`."""

    @property
    def worst(self) -> float:
        """Seconds for which it was blocked at most."""

    @property
    def blocked(self) -> int:
        """How often it was blocked for too long."""


class Watchdog(Protocol):
    """Knows how an event loop kept up."""

    def statistics(self) -> Lag:
        """Return it."""


def watch_event_loop(
    loop: asyncio.AbstractEventLoop,
    watchdog: Watchdog,
    monitor: Monitor | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Tell whether the event loop of all engines of this process does what it is given.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The loop; it may be given again.
    watchdog : Watchdog
        Looks after the loop while plans run.
    monitor : Monitor, optional
        Whom to tell; the process's own by default.
    clock : callable, optional
        Monotonic time in seconds.
    """
    pulse = Pulse(loop.call_soon_threadsafe, clock)

    def hindrance(limit: float) -> str:
        lag = pulse.lag()
        return f"blocked by a plan for {lag:.1f} s" if lag >= limit else ""

    def samples() -> Iterator[Sample]:
        text = "For how long the event loop of all engines has done nothing."
        yield Sample("milonga_engine_loop_lag_seconds", text, pulse.lag())
        so_far = watchdog.statistics()
        text = "For how long a plan has blocked the event loop at most."
        yield Sample("milonga_engine_loop_worst_lag_seconds", text, so_far.worst)
        text = "How often a plan has blocked the event loop for longer than is right."
        yield Sample("milonga_engine_loop_blocked", text, so_far.blocked, is_counter=True)

    monitor = monitor or process_monitor()
    monitor.add_source(loop, samples)
    name = "the event loop of all engines"
    monitor.add_check(loop, name, Check.READY, lambda: hindrance(STUCK_AFTER))
    monitor.add_check(loop, name, Check.LIVE, lambda: hindrance(LOOP_DEAD_AFTER))


_COMMANDS_NOW = frozenset({"queued", "executing", "remembered", "push_waiting"})
_CHILD_NOW = frozenset(
    {
        *("connected", "outstanding", "recent", "protocol", "watched", "watch_subscriptions"),
        *("foreign_outstanding", "calls_waiting", "calls_running"),
    }
)
"""Figures that are so now; all others only grow."""

_LINKS = "What a link to a child has now: commands on their way, attributes watched, and the like."
_REPORTS = "What became of reports and pushes of a device's commands."
_EVENTS = "Events of a child, and how its commands were followed: heard, read, found, lost."


def _outcome(status: TaskStatus, result: object) -> str:
    if status is not TaskStatus.COMPLETED:
        return status.name.lower()
    code, _ = parse_result(result, status)
    return (ResultCode.OK if code is None else code).name.lower()
