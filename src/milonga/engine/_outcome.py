"""What the end of a plan means for a command: behaviours 5.1 as one table.

`situation_of` reads it from the engine's side, `situation_from` from the command's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bluesky.run_engine import WaitForTimeoutError
from bluesky.utils import FailedStatus

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.engine._handle import PlanHandle, PlanState
from milonga.engine._interruptions import PlanTimedOut
from milonga.errors import StatusTimeoutError

__all__ = [
    "SITUATIONS",
    "Meaning",
    "Situation",
    "meaning_of",
    "ran_out",
    "situation_from",
    "situation_of",
]


class Situation(StrEnum):
    """Where a command, or the plan that does it, stands."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    STOPPED = "stopped"
    PARTIAL = "partial"
    FAILED = "failed"
    BROKEN = "broken"
    REJECTED = "rejected"
    ABORTED = "aborted"
    TIMED_OUT = "timed out"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Meaning:
    """What a situation is called elsewhere.

    Parameters
    ----------
    status, code : TaskStatus, ResultCode
        On the LRC wire.
    health : HealthState, optional
        What it says about the device.
    analysis : str
        Status of a task in the sense of LUTE.
    record : str
        Status of a record; `PENDING` while it is not finished.
    """

    status: TaskStatus
    code: ResultCode
    health: HealthState | None
    analysis: str
    record: str

    @property
    def is_final(self) -> bool:
        """Whether the command is over."""
        return self.record != "PENDING"


_S, _R, _H = TaskStatus, ResultCode, HealthState
SITUATIONS: dict[Situation, Meaning] = {
    Situation.WAITING: Meaning(_S.QUEUED, _R.QUEUED, None, "PENDING", "PENDING"),
    Situation.RUNNING: Meaning(_S.IN_PROGRESS, _R.STARTED, None, "RUNNING", "PENDING"),
    Situation.PAUSED: Meaning(_S.IN_PROGRESS, _R.STARTED, None, "STOPPED", "PENDING"),
    Situation.DONE: Meaning(_S.COMPLETED, _R.OK, None, "COMPLETED", "SUCCESS"),
    Situation.STOPPED: Meaning(_S.COMPLETED, _R.OK, None, "COMPLETED", "SUCCESS"),
    Situation.PARTIAL: Meaning(_S.COMPLETED, _R.FAILED, _H.DEGRADED, "COMPLETED", "PARTIAL"),
    Situation.FAILED: Meaning(_S.COMPLETED, _R.FAILED, _H.FAILED, "FAILED", "FAILURE"),
    Situation.BROKEN: Meaning(_S.FAILED, _R.FAILED, _H.FAILED, "FAILED", "FAILURE"),
    Situation.REJECTED: Meaning(_S.REJECTED, _R.REJECTED, None, "FAILED", "FAILURE"),
    Situation.ABORTED: Meaning(_S.ABORTED, _R.ABORTED, None, "CANCELLED", "FAILURE"),
    Situation.TIMED_OUT: Meaning(_S.FAILED, _R.FAILED, _H.FAILED, "TIMEDOUT", "FAILURE"),
    Situation.FORGOTTEN: Meaning(_S.FAILED, _R.UNKNOWN, _H.FAILED, "FAILED", "LOST"),
}
"""One row for each situation; PARTIAL and LOST as decided in behaviours 8."""

_DEADLINES = (StatusTimeoutError, WaitForTimeoutError)

_OF_STATE = {
    PlanState.QUEUED: Situation.WAITING,
    PlanState.STARTING: Situation.WAITING,
    PlanState.PAUSED: Situation.PAUSED,
    PlanState.DONE: Situation.DONE,
    PlanState.FAILED: Situation.BROKEN,
    PlanState.STOPPED: Situation.STOPPED,
    PlanState.ABORTED: Situation.ABORTED,
    PlanState.HALTED: Situation.ABORTED,
}


def meaning_of(situation: Situation) -> Meaning:
    """Return what a situation is called elsewhere.

    Examples
    --------
    >>> meaning_of(Situation.TIMED_OUT).status.name
    'FAILED'
    """
    return SITUATIONS[situation]


def situation_of(handle: PlanHandle) -> Situation:
    """Return where a plan stands."""
    situation = _OF_STATE.get(handle.state, Situation.RUNNING)
    if isinstance(handle.interruption, PlanTimedOut):
        return Situation.TIMED_OUT
    outcome = handle.outcome
    if situation is Situation.BROKEN and outcome is not None and ran_out(outcome.exception):
        return Situation.TIMED_OUT
    return situation


def ran_out(error: BaseException | None) -> bool:
    """Whether an error says that something had not happened in its time.

    Statuses that are combined or awaited have the one that ran out among their causes. Devices of
    ophyd-async fail with a plain TimeoutError; farther down, that may be anything.
    """
    failure = error.__cause__ if isinstance(error, FailedStatus) else error
    if isinstance(failure, TimeoutError) and failure.errno is None:  # else the network's
        return True
    return any(isinstance(each, _DEADLINES) for each in _causes(failure))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def situation_from(
    status: Any, code: Any = None, text: str = "", *, degraded: bool = False
) -> Situation:
    """Return the situation of a command from what is seen on the wire.

    Parameters
    ----------
    status : TaskStatus or int
        Status of the command.
    code : ResultCode or int, optional
        Its result code.
    text : str, optional
        Its message, which tells a stop from an end and a deadline from a bug.
    degraded : bool, optional
        Whether the device called itself DEGRADED by it.
    """
    status = TaskStatus(status)
    code = None if code is None else ResultCode(code)
    if status is _S.COMPLETED and code not in {None, _R.OK}:
        return Situation.PARTIAL if degraded else Situation.FAILED
    if status is _S.COMPLETED:
        return Situation.STOPPED if text.startswith("stopped") else Situation.DONE
    if status is _S.FAILED:
        if code is _R.UNKNOWN:
            return Situation.FORGOTTEN
        return Situation.TIMED_OUT if "timed out" in text else Situation.BROKEN
    return {
        _S.STAGING: Situation.WAITING,
        _S.QUEUED: Situation.WAITING,
        _S.IN_PROGRESS: Situation.RUNNING,
        _S.ABORTED: Situation.ABORTED,
        _S.REJECTED: Situation.REJECTED,
        _S.NOT_FOUND: Situation.FORGOTTEN,
    }[status]
