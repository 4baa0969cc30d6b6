"""Commands that this device has given up, and that may still run at its children.

A child that refuses an abort, does not answer it, or is not there when the time is up has not
ended what it was sent. Each such command is followed on, until the child shows that it has ended,
and every Abort asks for its end again.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from milonga.control_model import TaskStatus, is_final
from milonga.devices._tree_job import Ticket
from milonga.lrc import ChildDevice, ChildKind, Invocation, Trace
from milonga.tasks import BaseTask, Cancellable, LeafTask, TaskType
from milonga.tracking import AbortAnswer

__all__ = ["Unconfirmed", "UnconfirmedCommands"]

_log = logging.getLogger(__name__)

AbortListener = Callable[[AbortAnswer, str], None]
CallLater = Callable[[float, Callable[[], None]], Cancellable]

FOLLOW_AGAIN = 2.0
"""Seconds after which a command that was lost sight of is looked for again."""

NOT_LINKED = "communication with the child is not established"


class DeviceOf(Protocol):
    """The way to a child, see `ChildLinks.device`."""

    def __call__(self, target: str) -> ChildDevice | None:
        """Return it; None while nobody talks to it."""


class UnconfirmedCommands:
    """All of one device. Safe across threads.

    Parameters
    ----------
    device_of : callable
        The way to a child.
    call_later : callable
        ``call_later(delay, function)``.
    """

    KEPT = 256
    """How many are remembered; the oldest go first, with a warning."""

    def __init__(self, device_of: DeviceOf, call_later: CallLater) -> None:
        self._device_of = device_of
        self._call_later = call_later
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str], Unconfirmed] = OrderedDict()

    def all(self) -> tuple["Unconfirmed", ...]:
        """Return those that may run now."""
        with self._lock:
            return tuple(self._known.values())

    def as_data(self) -> list[dict[str, str]]:
        """Return device, command, its id there, and the id of ours it was part of, for JSON."""
        return [
            {
                "device": one.target,
                "command": one.command,
                "command_id": one.command_id,
                "task": one.task,
            }
            for one in self.all()
        ]

    def close(self) -> None:
        """Follow none any more."""
        with self._lock:
            known, self._known = list(self._known.values()), OrderedDict()
        for one in known:
            one.close()

    def watcher(self, ticket: Ticket) -> "TreeWatcher":
        """Return an observer for the tree of the command of a ticket."""
        return TreeWatcher(ticket, self._add)

    def _add(self, target: str, command: str, command_id: str, task: str) -> None:
        device = self._device_of(target)
        # of others the id is our own, and their work is ended by no id
        if device is None or device.kind_of(command) is not ChildKind.LRC:
            return
        one = Unconfirmed(target, command, command_id, task, self._drop, self._look_later)
        with self._lock:
            self._known[target, command_id] = one
            forgotten = self._known.popitem(last=False)[1] if len(self._known) > self.KEPT else None
        if forgotten is not None:
            _log.warning("%s: nobody asks for the end of %s any more", *forgotten.key)
            forgotten.close()
        one.follow(device)

    def _look_later(self, one: "Unconfirmed") -> None:
        """Follow a command again that was lost sight of: its child may be back by then."""

        def look() -> None:
            device = self._device_of(one.target)
            if device is None:
                self._look_later(one)
            elif one.is_out_of_sight:
                one.follow(device)

        if one.is_out_of_sight:
            self._call_later(FOLLOW_AGAIN, look)

    def _drop(self, one: "Unconfirmed") -> None:
        with self._lock:
            self._known.pop(one.key, None)
        one.close()


class TreeWatcher:
    """Looks which leaves of one tree end without a word of the child.

    Parameters
    ----------
    ticket : Ticket
        Of the tree's command.
    found : callable
        Called with the child, the command, its id there, and the id of the tree's command.
    """

    def __init__(self, ticket: Ticket, found: Callable[[str, str, str, str], None]) -> None:
        self._ticket = ticket
        self._found = found

    def node_started(self, node: BaseTask) -> None:
        """Nothing is to be noted."""

    def node_accepted(self, leaf: LeafTask, command_id: str) -> None:
        """Nothing is to be noted."""

    def node_progressed(self, node: BaseTask, progress: int) -> None:
        """Nothing is to be noted."""

    def node_ended(self, node: BaseTask, payload: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Tell of a leaf whose command may still run."""
        if (
            isinstance(node, LeafTask)
            and node.task_type is TaskType.DEVICE
            and node.command_name != "Abort"
            and node.command_id is not None
            and node.is_unconfirmed
        ):
            task = self._ticket.command_id
            self._found(node.target, node.command_name, node.command_id, task)


class Unconfirmed:
    """One command that may still run at a child. Safe across threads.

    Parameters
    ----------
    target : str
        The child's resource locator.
    command, command_id : str
        What was called there, and the id that the child gave it.
    task : str
        Id of this device's command that it was part of.
    on_over : callable
        Called with this once the child shows that the command has ended.
    on_lost : callable
        Called with this once nobody can tell any more whether it has.
    """

    def __init__(
        self,
        target: str,
        command: str,
        command_id: str,
        task: str,
        on_over: Callable[["Unconfirmed"], None],
        on_lost: Callable[["Unconfirmed"], None],
    ) -> None:
        self.target = target
        self.command = command
        self.command_id = command_id
        self.task = task
        self._on_over = on_over
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._invocation: Invocation | None = None
        self._device: ChildDevice | None = None
        self._is_over = False
        self._is_lost = False
        self._said = ""
        self._listener: AbortListener | None = None
        self._timer: Cancellable | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.target, self.command_id

    @property
    def is_out_of_sight(self) -> bool:
        """Whether the command is to be followed, and is not, as nobody knew what became of it."""
        with self._lock:
            return self._is_lost and not self._is_over

    def follow(self, device: ChildDevice) -> Invocation:
        """Follow the command at the child, from now on."""
        with self._lock:
            self._is_lost = False
        trace = Trace(self.command, datetime.now(UTC))
        invocation = device.resume(trace, self._heard, command_id=self.command_id)
        with self._lock:
            earlier, self._invocation = self._invocation, invocation
            self._device = device
            over = self._is_over
        if over:
            invocation.close()
        if earlier is not None:
            earlier.close()
        return invocation

    def ask(
        self,
        device: ChildDevice | None,
        listener: AbortListener,
        call_later: CallLater,
        patience: float,
    ) -> None:
        """Ask the child again to end it; returns at once.

        Parameters
        ----------
        device : ChildDevice or None
            The child; None while nobody talks to it.
        listener : callable
            Called once with the answer: ACK only when the command has ended.
        call_later : callable
            ``call_later(delay, function)``.
        patience : float
            Seconds that the child has to end it.
        """
        with self._lock:
            over = self._is_over
            if not over:
                self._listener, self._said = listener, ""
        if over:
            listener(AbortAnswer.NOT_NEEDED, f"{self.command} has ended")
        elif device is None:
            self._answer(AbortAnswer.NO_ANSWER, NOT_LINKED)
        else:
            invocation = self.follow(device)
            seconds = patience + invocation.abort_grace
            timer = call_later(seconds, lambda: self._give_up(seconds))
            with self._lock:
                self._timer = timer
            invocation.abort()

    def close(self) -> None:
        """Follow it no longer."""
        with self._lock:
            self._is_over = True
            invocation, self._invocation = self._invocation, None
        if invocation is not None:
            invocation.close()

    def _heard(self, **news: Any) -> None:
        """Take what is told of the command; from any thread."""
        if news.get("lost"):
            self._is_lost = True
        answer, status = news.get("abort_ack"), news.get("status")
        if answer is not None:
            self._take(AbortAnswer(answer), str(news.get("abort_text", "")))
        if isinstance(status, TaskStatus) and is_final(status):
            if self._is_lost:
                self._on_lost(self)
            else:
                self._end()

    def _take(self, answer: AbortAnswer, text: str) -> None:
        if answer.is_good:
            self._said = text
            return
        device = self._device
        if answer is AbortAnswer.NO_ANSWER and device is not None and not device.is_connected:
            answer, text = AbortAnswer.UNREACHABLE, device.reason
        self._answer(answer, text)

    def _give_up(self, seconds: float) -> None:
        said = f"{self._said}, but " if self._said else ""
        self._answer(AbortAnswer.NO_ANSWER, f"{said}did not end within {seconds:.4g} s")

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
        self._answer(AbortAnswer.ACK, "it has ended")
        self._on_over(self)

    def _answer(self, answer: AbortAnswer, text: str) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if listener is not None:
            words = text if answer.is_good else f"{self.command} may still run: {text}"
            listener(answer, words)
