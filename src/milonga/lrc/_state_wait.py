"""Waiting until an attribute of a device says that a command's work is over.

What counts is read from the device after the command has returned. An event only says when to
read: it may tell of a time before the command, and may not come at all.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import Unreachable
from milonga.lrc._expectation import Expectation
from milonga.lrc._recurring import Recurring
from milonga.lrc._reply import describe
from milonga.lrc._values import is_one_of, plain_value

if TYPE_CHECKING:
    from milonga.lrc._link import Link
    from milonga.lrc._watched import Watch

__all__ = ["StateWait"]

Finish = Callable[[TaskStatus, ResultCode, str], None]


class StateWait:
    """Reads an attribute until it has a value that ends a command.

    Parameters
    ----------
    link : Link
        The connection to the device.
    expectation : Expectation
        The attribute and its values.
    period : float
        Seconds between reads.
    skip : bool
        Whether the command need not be sent if the value is reached already.
    """

    LAST_READ = 3.5
    """Seconds that the read at the deadline may take, before the deadline counts as missed."""

    def __init__(
        self, link: "Link", expectation: Expectation, period: float, *, skip: bool
    ) -> None:
        self._link = link
        self._expectation = expectation
        self._period = period
        self._skip = skip
        self._before: object = None
        self._value: object = None
        self._has_moved = False
        self._lock = threading.Lock()
        self._is_late = False
        self._closed = threading.Event()
        self._finish: Finish | None = None
        self._watch: Watch | None = None
        self._problem = ""
        self._reading = Recurring(link.network, self._look)

    def is_over_before(self) -> str:
        """Look before the command is sent; tell why it need not be, or nothing.

        May wait for the network.
        """
        self.read_before()
        is_known = self._before is not None
        if self._skip and is_known and is_one_of(self._before, self._expectation.reached):
            return f"{self._expectation.attribute} is {self._before} already"
        return ""

    def read_before(self) -> None:
        """Take note of the value before the command; may wait for the network."""
        # if it cannot be read, the command itself will tell what is wrong
        with suppress(tango.DevFailed, Unreachable):
            self._before = self._read()

    @property
    def found(self) -> str:
        """What was found when the attribute was read last, for people."""
        name = self._expectation.attribute
        told = f"{name} is {self._value}" if self._value is not None else f"{name} was not read"
        return self._problem or told

    @property
    def value(self) -> object:
        """What was read last; None before that."""
        return self._value

    def was_before(self, value: object) -> None:
        """Take note of a value from before the command."""
        self._before = value

    def begin(self, finish: Finish) -> None:
        """Wait for the value, now that the command has returned. Returns at once."""
        self._finish = finish
        watch = self._link.watches.watch(
            self._expectation.attribute, lambda _: self._reading.wake(), self._period
        )
        with self._lock:
            self._watch = watch
        if self._closed.is_set():
            watch.close()
        self._reading.wake()

    def reach_deadline(self) -> None:
        """Read once more; then the deadline is missed. Returns at once."""
        self._is_late = True
        self._reading.wake()
        self._link.network.call_later(self.LAST_READ, self._miss)

    def close(self) -> None:
        """Read no more. Returns at once."""
        self._closed.set()
        with self._lock:
            watch, self._watch = self._watch, None
        self._reading.stop()
        if watch is not None:
            watch.close()

    def _read(self) -> object:
        proxy = self._link.fresh_proxy()
        value = proxy.read_attribute(self._expectation.attribute)
        labels = self._link.labels(self._expectation.attribute)
        return plain_value(value.value, labels)

    def _look(self) -> float | None:
        late = self._is_late
        try:
            value = self._read()
        except (tango.DevFailed, Unreachable) as error:
            self._problem = describe(error) if isinstance(error, tango.DevFailed) else str(error)
            self._link.watches.look_soon()  # tells whether the device is there at all
        else:
            self._problem = ""
            self._judge(value)
        if late:
            self._miss()
        return self._period

    def _judge(self, value: object) -> None:
        finish, wanted = self._finish, self._expectation
        if finish is None:
            return
        self._has_moved = self._has_moved or value != self._before
        self._value = value
        if is_one_of(value, wanted.reached):
            finish(TaskStatus.COMPLETED, ResultCode.OK, f"is done: {wanted.attribute} is {value}")
        elif self._has_moved and is_one_of(value, wanted.failed):
            text = f"failed: {wanted.attribute} is {value}"
            finish(TaskStatus.FAILED, ResultCode.FAILED, text)

    def _miss(self) -> None:
        finish, wanted = self._finish, self._expectation
        if finish is not None:
            expected = " or ".join(wanted.reached)
            text = f"is late: {self.found} after {wanted.timeout:g} s, expected {expected}"
            finish(TaskStatus.FAILED, ResultCode.FAILED, text)
