"""What a command has for a result where nobody gave it one, and what ends with another one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc._job import Job, Reply
from milonga.lrc._wire import command_name, legal_text

__all__ = [
    "ABORTED",
    "BEING_ABORTED",
    "SHUT",
    "AbortUnderWay",
    "End",
    "Entry",
    "UnderWay",
    "refusal_of",
    "result_of",
]

Entry = tuple[str, Job]
"""A command by its id."""

End = tuple[TaskStatus, object]
"""How a command has ended: status and result."""

ABORTED = (ResultCode.ABORTED, "Command has been aborted")
BEING_ABORTED = (ResultCode.REJECTED, "Queue is being aborted")
SHUT = (ResultCode.REJECTED, "The device is shutting down")

_DEFAULTS: dict[TaskStatus, Reply] = {
    TaskStatus.ABORTED: ABORTED,
    TaskStatus.FAILED: (ResultCode.FAILED, "Command failed without a message"),
    TaskStatus.REJECTED: (ResultCode.REJECTED, "Command was rejected without a message"),
}


@dataclass(slots=True, eq=False)
class UnderWay:
    """A command that others may join, with those that did. Guarded by the lock of the server.

    Parameters
    ----------
    uid : str
        Of the one that does the work.
    """

    uid: str
    members: list[Entry] = field(default_factory=list)
    """Those that are in the tables: the one that does the work, and those that end with it."""
    end: End | None = None


@dataclass(slots=True, eq=False)
class AbortUnderWay(UnderWay):
    """An Abort."""

    result: Reply | None = None
    """With what it will have ended."""
    cancel: Callable[[], Any] | None = None
    """Drops the timer that bounds it."""

    def take(self, status: TaskStatus, result: object) -> None:
        """Take how it has ended; without a result in the words that SKA clients look for."""
        if self.result is not None:
            return
        if isinstance(result, tuple):
            self.result = result
        else:
            self.result = _DEFAULTS.get(status, (ResultCode.OK, "Abort completed OK"))


def result_of(uid: str, status: TaskStatus, result: object) -> object:
    """Return the result of a command that has ended, with a text where it came without."""
    if result is not None:
        return result
    done = (ResultCode.OK, f"{command_name(uid)} command completed OK")
    return _DEFAULTS.get(status, done)


def refusal_of(job: Job) -> Reply | None:
    """Ask whether a command may still run; return its result if not."""
    try:
        if job.is_allowed is None or job.is_allowed():
            return None
    except Exception as error:  # noqa: BLE001 - a device's own code
        return (
            ResultCode.REJECTED,
            f"Exception from 'is_cmd_allowed' method: {legal_text(error)}",
        )
    return ResultCode.NOT_ALLOWED, "Command is not allowed"
