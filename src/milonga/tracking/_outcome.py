"""Outcomes, what makes them, and how result codes are joined."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._coercion import ObsModes, fault_text
from milonga.tracking._messages import clip, printable
from milonga.tracking._subtask import MAX_TEXT_BYTES, SubtaskResult

__all__ = [
    "AggregationOutcome",
    "AggregationPolicy",
    "PolicyFactory",
    "failed_outcome",
    "join_result_codes",
    "running_outcome",
]

# From the weakest to the one that dominates all others (AG-14).
_JOIN_ORDER = (
    ResultCode.OK,
    ResultCode.QUEUED,
    ResultCode.STARTED,
    ResultCode.UNKNOWN,
    ResultCode.REJECTED,
    ResultCode.NOT_ALLOWED,
    ResultCode.FAILED,
    ResultCode.ABORTED,
)
_RANK = {code: rank for rank, code in enumerate(_JOIN_ORDER)}


def join_result_codes(codes: Iterable[ResultCode]) -> ResultCode:
    """Return the code that stands for all; OK for none.

    Examples
    --------
    >>> join_result_codes([ResultCode.OK, ResultCode.REJECTED, ResultCode.UNKNOWN])
    <ResultCode.REJECTED: 5>
    """
    return max(codes, key=_RANK.__getitem__, default=ResultCode.OK)


@dataclass(frozen=True, slots=True)
class AggregationOutcome:
    """What has become of a task.

    Parameters
    ----------
    status : TaskStatus
        How far the task is.
    result_code : ResultCode
        What it achieved.
    message : str
        Text for people.
    health_state : HealthState or None
        DEGRADED or FAILED; None is no opinion.
    """

    status: TaskStatus
    result_code: ResultCode
    message: str
    health_state: HealthState | None = None


class AggregationPolicy(Protocol):
    """Anything that can judge a list of subtasks."""

    def aggregate(self, subtasks: list[SubtaskResult], /) -> AggregationOutcome:
        """Return the outcome of a task with these subtasks; a final one if all are final."""
        ...


# Called with task_name, operation, obs_mode and is_root, by position.
PolicyFactory = Callable[[str, ObsModes | None, ObsModes | None, bool], AggregationPolicy]


def running_outcome(begun: bool, health: HealthState | None = None) -> AggregationOutcome:
    """Return the outcome of a task that is not over: at work, or waiting to be."""
    if begun:
        return AggregationOutcome(TaskStatus.IN_PROGRESS, ResultCode.STARTED, "", health)
    return AggregationOutcome(TaskStatus.QUEUED, ResultCode.QUEUED, "", health)


def failed_outcome(task_name: str, fault: BaseException) -> AggregationOutcome:
    """Return the outcome of a task whose own tracking broke down (TH-03)."""
    text = clip(printable(f"tracking of {task_name} failed: {fault_text(fault)}"), MAX_TEXT_BYTES)
    return AggregationOutcome(TaskStatus.FAILED, ResultCode.FAILED, text, HealthState.FAILED)
