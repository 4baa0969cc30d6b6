"""What the execution of a tree needs from outside, declared as protocols."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

__all__ = [
    "Cancellable",
    "DeviceCaller",
    "ExecutionContext",
    "Invocation",
    "LeafAction",
    "Looking",
    "NoWork",
    "Runtime",
    "Subdivided",
    "TimedCaller",
    "utc_now",
]


def utc_now() -> datetime:
    """Return the time of day, aware and in UTC."""
    return datetime.now(UTC)


class Invocation(Protocol):
    """A command on its way at a child device, or other work of a leaf."""

    @property
    def command_id(self) -> str | None:
        """The id that the child gave to the command; None while it is not known."""

    def abort(self) -> None:
        """Ask for the end of the work; return at once."""

    def close(self) -> None:
        """Stop listening; idempotent, and returns at once."""


class NoWork:
    """The invocation of work that never began, or is over."""

    command_id: str | None = None

    def abort(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is reported."""


@runtime_checkable
class Subdivided(Protocol):
    """An invocation that can tell more of its work than the tree knows, such as a plan."""

    def details(self) -> dict[str, Any]:
        """Return what is to be added to the leaf's snapshot, ready for JSON; from any thread.

        A key ``children`` has the snapshots of parts of the work.
        """


class Looking(Protocol):
    """An invocation that can look once more what has become of the work."""

    def look_again(self) -> None:
        """Look; return at once. What is found is told as an update; after it ``looked=True``."""


@runtime_checkable
class TimedCaller(Protocol):
    """A way to child devices that tells them how long they may take."""

    def invoke_within(
        self,
        target: str,
        command: str,
        argument: str | None,
        on_update: Callable[..., None],
        seconds: float,
    ) -> Invocation:
        """Do what `DeviceCaller.invoke` does, for a command that may take so many seconds."""


class DeviceCaller(Protocol):
    """The way to child devices."""

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Invocation:
        """Start `command` at `target`; return at once and never raise.

        `on_update` may be called from any thread, several times, with any of the keywords
        `status`, `progress`, `result`, `error` and others. A start that is refused, or a child
        that cannot be reached, is reported through it as well. ``abort_ack`` and ``abort_text``
        tell what the child answered when it was asked to end the command, see
        `milonga.tracking.AbortAnswer`; ``extend`` asks for that many seconds more, ``alive``
        only says that the child has the command, and ``gone`` that it does not know it any more.
        An action that completes a leaf's argument tells it by ``argument``; one whose work says
        something, by ``message``.
        """


class Cancellable(Protocol):
    """A call that is due later."""

    def cancel(self) -> object:
        """Drop the call; harmless when it has been made."""


class Runtime(Protocol):
    """The one thread of a device that starts and ends commands."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call `function` on the thread, after what was given before; from any thread."""

    def call_later(self, delay: float, function: Callable[[], None]) -> Cancellable:
        """Call `function` on the thread after `delay` seconds; from any thread."""


@dataclass(frozen=True)
class ExecutionContext:
    """What a running tree works with.

    Parameters
    ----------
    runtime : Runtime
        Starts steps and keeps time.
    caller : DeviceCaller
        Reaches the child devices.
    logger : logging.Logger, optional
        Takes what goes wrong beside the outcome, such as an abort that a child refuses.
    clock : callable, optional
        Monotonic time in seconds, for deadlines. It must agree with `runtime.call_later`.
    now : callable, optional
        Aware UTC time of day, for `BaseTask.snapshot`.
    deadline_margin : float, optional
        Seconds by which a node that has a timeout of its own must end before its parent's
        deadline, so that the text names the node which was late.
    abort_timeout : float, optional
        Seconds that leaves have to confirm an abort before they are counted as aborted.
    last_look : float, optional
        Seconds that a leaf whose time is up has for a last look at what has become of its work.
    stall_after : float, optional
        Seconds without any news of a child after which its leaf counts as stalled; 0: never.
    run_method : callable, optional
        Runs a method that is a step, and may take its time, on a thread for such; tells whether
        there was room for it. On the runtime's own thread if not given.

    Raises
    ------
    ValueError
        If a time is negative.
    """

    runtime: Runtime
    caller: DeviceCaller
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("milonga.tasks"))
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    deadline_margin: float = 0.0
    abort_timeout: float = 5.0
    last_look: float = 1.0
    stall_after: float = 0.0
    run_method: Callable[[Callable[[], None]], bool] | None = None

    def __post_init__(self) -> None:
        for name in ("deadline_margin", "abort_timeout", "last_look", "stall_after"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: found {getattr(self, name)!r}, expected seconds >= 0")


LeafAction = Callable[[ExecutionContext, Callable[..., None]], Invocation]
"""Starts the work of a leaf.

It is called on the runtime's thread with the context and the function that takes updates. It must
return at once, and must not raise for what can go wrong in ordinary life: that is an update.
"""
