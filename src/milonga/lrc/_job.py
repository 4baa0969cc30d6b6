"""What a command does, and who has a word in its course."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc._record import Origin

__all__ = ["Job", "Reply", "Reporter"]

Reply = tuple[ResultCode, str]
"""What the caller of a command gets: code, and command id or reason."""


class Reporter(Protocol):
    """How a job tells what becomes of it. Callable from any thread; never raises."""

    def __call__(
        self,
        *,
        status: TaskStatus | None = None,
        progress: object = None,
        result: object = None,
        extend: float | None = None,
    ) -> None:
        """Report any of these; `extend` is how many seconds more than allowed are needed."""


def _nothing() -> None:
    pass


def _nothing_submitted(uid: str) -> None:
    pass


def _nothing_ended(status: TaskStatus, result: object) -> None:
    pass


def _at_once(uid: str, go_on: Callable[[], None]) -> None:  # noqa: ARG001 - whoever waits needs it
    go_on()


def _ends_at_once(status: TaskStatus, result: object, go_on: Callable[[], None]) -> None:  # noqa: ARG001
    go_on()


@dataclass(slots=True)
class Job:
    """One command to be run.

    Parameters
    ----------
    name : str
        The command's name.
    start : callable
        Begins the work and returns at once; gets a `Reporter`.
    abort : callable
        Asks running work to end; it then reports ABORTED.
    is_allowed : callable, optional
        Asked when the command leaves the queue; a false answer rejects it.
    on_accepted, on_started : callable
        Called before the command is queued and when it starts. `on_accepted` may raise to refuse.
    on_submitted : callable
        Called with the command's id before it is queued. What it raises is logged.
    on_ended : callable
        Called with status and result when the command ends, before clients are told.
    before_start : callable
        Called with the id and a function when it is the command's turn; the command starts when
        the function is called, from any thread.
    before_end : callable
        Called with status, result and a function when the command has ended; it counts as ended,
        for everybody, when the function is called, from any thread.
    origin : Origin, optional
        Who called the command.
    work : object, optional
        What the job runs, for whoever made it.
    limit : callable, optional
        Takes the seconds that the command may take, before it starts.
    time_limit : float, optional
        The seconds that it may take, of a job without `limit`.
    safety : bool, optional
        Whether the command overtakes all others.
    interrupts : bool, optional
        Whether one that overtakes has what runs aborted.
    """

    name: str
    start: Callable[[Reporter], None]
    abort: Callable[[], None] = _nothing
    is_allowed: Callable[[], bool] | None = None
    on_accepted: Callable[[], None] = _nothing
    on_submitted: Callable[[str], None] = _nothing_submitted
    on_started: Callable[[], None] = _nothing
    on_ended: Callable[[TaskStatus, object], None] = _nothing_ended
    before_start: Callable[[str, Callable[[], None]], None] = _at_once
    before_end: Callable[[TaskStatus, object, Callable[[], None]], None] = _ends_at_once
    origin: Origin | None = None
    work: object = None
    limit: Callable[[float], None] | None = None
    time_limit: float | None = None
    safety: bool = False
    interrupts: bool = True
    bypass: dict[str, object] = field(default_factory=dict, init=False)
    """What a command that overtakes has passed by; ready for JSON."""
    remark: str = field(default="", init=False)
    """What the message of its result is to say besides."""
    has_begun: bool = field(default=False, init=False)
    is_ending: bool = field(default=False, init=False)
    given_up: bool = field(default=False, init=False)
    joins: str = field(default="", init=False)
    """Of an Abort or a safety command: the id of the one that it joins, known at `on_submitted`."""
