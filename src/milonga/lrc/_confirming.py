"""A command's success, held back until an attribute of the device says the same.

A device may answer that a command is done before it is, or although it is not. So where it is said
what the end of a command looks like, result and attribute must agree. What is no success is passed
on at once.
"""

import threading
import time
from typing import TYPE_CHECKING

from milonga.control_model import ResultCode, TaskStatus, is_final
from milonga.lrc._expectation import Expectation
from milonga.lrc._state_wait import StateWait
from milonga.tracking import parse_result

if TYPE_CHECKING:
    from milonga.lrc._invocation import Invocation
    from milonga.lrc._link import Link
    from milonga.lrc._scheduler import Timer

__all__ = ["Confirmation", "confirm"]

_NO_OBJECTION = frozenset({None, ResultCode.OK, ResultCode.UNKNOWN})


class Confirmation:
    """Stands between what a device tells of a command, and who waits for its end.

    Parameters
    ----------
    link : Link
        The connection to the device.
    invocation : Invocation
        The command; told the end once it is known.
    expectation : Expectation
        The attribute and its values; its timeout counts from the result.
    period : float
        Seconds between reads.
    """

    def __init__(
        self, link: "Link", invocation: "Invocation", expectation: Expectation, period: float
    ) -> None:
        self._link = link
        self._invocation = invocation
        self._expectation = expectation
        self._wait = StateWait(link, expectation, period, skip=False)
        self._lock = threading.Lock()
        self._result: object = None
        self._since: float | None = None
        self._is_over = False
        self._bound: Timer | None = None

    @property
    def holds(self) -> bool:
        """Whether there is a success that the attribute does not confirm yet."""
        return self._since is not None and not self._is_over

    @property
    def words(self) -> str:
        """What is waited for, and what was found, for people."""
        found = f", not {self._wait.value}" if self._wait.value is not None else ""
        return f"{self._expectation.attribute} is {self._wanted}{found}"

    def before_call(self, *, may_read: bool = True) -> None:
        """Take note how the attribute is before the command.

        If nobody watches it, it is read if that may be done, which may wait for the network.
        """
        known = self._link.watches.known(self._expectation.attribute)
        if known is None and may_read:
            self._wait.read_before()
        else:
            self._wait.was_before(known)

    def passed(
        self, status: TaskStatus | None, result: object
    ) -> tuple[TaskStatus | None, object | None]:
        """Return what is to be told of such news; of a success nothing, as long as it is held."""
        with self._lock:
            if self._is_over:
                return status, result
            known = self._result if result is None else result
            code, _ = parse_result(known, status or TaskStatus.COMPLETED)
            if self._since is not None and status in {None, TaskStatus.COMPLETED}:
                return (None, None) if code in _NO_OBJECTION else (TaskStatus.COMPLETED, known)
            self._result = known
            if status is None or not is_final(status):
                return status, None  # the result goes with the end
            if status is not TaskStatus.COMPLETED or code not in {None, ResultCode.OK}:
                return status, known
            self._since = time.monotonic()
        self._begin()
        return None, None

    def look_last(self) -> None:
        """Read once more, since time is up; then the end is told. Returns at once."""
        self._wait.reach_deadline()

    def abort(self) -> None:
        """End the waiting; what is done at the device is done."""
        self._finish(TaskStatus.ABORTED, ResultCode.ABORTED)

    def close(self) -> None:
        """Hold nothing any more. Returns at once."""
        with self._lock:
            self._is_over = True
            bound, self._bound = self._bound, None
        if bound is not None:
            bound.cancel()
        self._wait.close()

    def _begin(self) -> None:
        bound = self._link.network.call_later(self._expectation.timeout, self.look_last)
        with self._lock:
            self._bound = bound
        self._wait.begin(self._finish)

    def _finish(self, status: TaskStatus, code: ResultCode, _text: str = "") -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            result, since = self._result, self._since
        if status is not TaskStatus.COMPLETED:
            aborted = "; it was aborted" if status is TaskStatus.ABORTED else ""
            result = (code, self._complaint(time.monotonic() - (since or 0.0)) + aborted)
        self._invocation.update(status, result=result)

    def _complaint(self, seconds: float) -> str:
        return (
            f"{self._link.name}: {self._invocation.command} was done by its result, but"
            f" {self._wait.found} {seconds:.1f} s later; expected {self._wanted}"
        )

    @property
    def _wanted(self) -> str:
        return " or ".join(self._expectation.reached)


def confirm(
    link: "Link", invocation: "Invocation", expectation: Expectation, period: float
) -> Confirmation:
    """Let a command succeed only when an attribute agrees; parameters as of `Confirmation`."""
    confirmation = Confirmation(link, invocation, expectation, period)
    invocation.confirmation = confirmation
    return confirmation
