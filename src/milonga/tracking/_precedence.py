"""Which outcome wins: rules in their order, each a function that decides or passes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._findings import Findings, weight_of
from milonga.tracking._rules import needed_successes
from milonga.tracking._subtask import SubtaskResult, Verdict

__all__ = ["Decision", "decide"]


@dataclass(frozen=True, slots=True)
class Decision:
    """An outcome without its message; `detail` is what a number can say, as "PST success 1/3"."""

    status: TaskStatus
    code: ResultCode
    health: HealthState | None = None
    detail: str = ""


def decide(found: Findings) -> Decision:
    """Return what the first rule that applies decides."""
    decisions = (rule(found) for rule in _PRECEDENCE)
    return next((made for made in decisions if made is not None), _ALL_WELL)


def _aborted(found: Findings) -> Decision | None:
    """AG-02: an abort dominates; the health is that of the failures."""
    if not found.verdicts[Verdict.ABORTED]:
        return None
    failure = _critical(found) or _remaining(found)
    health = failure.health if failure is not None else None
    return Decision(TaskStatus.ABORTED, ResultCode.ABORTED, health)


def _critical(found: Findings) -> Decision | None:
    """AG-07: the failure of a critical device is the task's, whatever the others did."""
    if any(subtask.verdict is not Verdict.REJECTED for subtask in found.critical):
        return Decision(TaskStatus.FAILED, _failure_code(found.critical), HealthState.FAILED)
    if not found.critical:
        return None
    failure = _remaining(found)
    health = failure.health if failure is not None else None
    return Decision(TaskStatus.REJECTED, _rejection_code(found.critical), health)


def _group(found: Findings) -> Decision | None:
    """AG-09, AG-10: so many of a group must succeed."""
    kind = found.rules.group_of(found.task_name)
    bad = [*found.failures, *found.rejected]
    if kind is None or not bad:
        return None
    members = found.total - found.ignored
    succeeded = members - len(bad)
    label = "success" if kind == "group" else f"{kind} success"
    detail = f"{label} {succeeded}/{members}"
    needed = needed_successes(found.rules.min_success, members)
    enough = succeeded >= needed
    if found.rules.weights:
        enough, detail = _weighed(found, bad, detail)
        needed = 0  # said already
    if len(bad) == members == len(found.rejected):
        return Decision(TaskStatus.REJECTED, _rejection_code(bad), None, detail)
    if enough:
        return Decision(TaskStatus.COMPLETED, ResultCode.FAILED, HealthState.DEGRADED, detail)
    if needed > 1:
        detail = f"{detail}, {needed} needed"
    if not found.serious and found.tolerable and not found.rejected:
        return Decision(TaskStatus.COMPLETED, ResultCode.FAILED, HealthState.DEGRADED, detail)
    status = _status_of(found.serious)
    code = _failure_code(found.serious) if status is TaskStatus.FAILED else ResultCode.FAILED
    return Decision(status, code, HealthState.FAILED, detail)


def _weighed(found: Findings, bad: Sequence[SubtaskResult], detail: str) -> tuple[bool, str]:
    """Tell whether the successes weigh enough, and add to `detail` what they weigh."""
    total = found.total_weight - found.ignored_weight
    weight = total - sum(weight_of(found.rules, subtask) for subtask in bad)
    quorum = found.rules.min_success
    needed = quorum * total if isinstance(quorum, float) else min(float(quorum), total)
    enough = weight >= needed - 1e-9
    return enough, f"{detail}, weight {weight:g} of {total:g}, {needed:g} needed"


def _kinds(found: Findings) -> Decision | None:
    """Fail a task of many kinds when one of them is below its own quorum."""
    if not found.short or not (found.failures or found.rejected):
        return None
    if not found.failures and not found.verdicts[Verdict.OK]:
        return None  # all were rejected
    status = _status_of(found.serious)
    return Decision(status, ResultCode.FAILED, HealthState.FAILED, ", ".join(found.short))


def _remaining(found: Findings) -> Decision | None:
    """AG-11: the remaining failures, grave if abnormal or if nothing succeeded."""
    detail = ", ".join(found.within.values())
    if _status_of(found.serious) is TaskStatus.FAILED:
        code = _failure_code(found.serious)
        return Decision(TaskStatus.FAILED, code, HealthState.FAILED, detail)
    if not found.serious and not found.tolerable:
        return None
    nothing_done = not found.tolerable and not found.verdicts[Verdict.OK]
    health = HealthState.FAILED if nothing_done else HealthState.DEGRADED
    return Decision(TaskStatus.COMPLETED, ResultCode.FAILED, health, detail)


def _rejected(found: Findings) -> Decision | None:
    """AG-12: where all were rejected nothing has happened; where some were, part of the work."""
    if not found.rejected:
        return None
    if len(found.rejected) + found.ignored == found.total:
        return Decision(TaskStatus.REJECTED, _rejection_code(found.rejected))
    detail = ", ".join(found.within.values())
    return Decision(TaskStatus.COMPLETED, ResultCode.FAILED, HealthState.DEGRADED, detail)


# AG-13: nothing that counts went wrong.
_ALL_WELL = Decision(TaskStatus.COMPLETED, ResultCode.OK)

_PRECEDENCE: tuple[Callable[[Findings], Decision | None], ...] = (
    _aborted,
    _critical,
    _group,
    _kinds,
    _remaining,
    _rejected,
)


def _status_of(failures: Sequence[SubtaskResult]) -> TaskStatus:
    """Return FAILED if an executor broke down, COMPLETED if all ran to their end."""
    if any(subtask.verdict is Verdict.ABNORMAL for subtask in failures):
        return TaskStatus.FAILED
    return TaskStatus.COMPLETED


def _failure_code(failures: Sequence[SubtaskResult]) -> ResultCode:
    """Return UNKNOWN if nobody can tell what became of any of the failures, else FAILED."""
    unknown = all(
        subtask.verdict is Verdict.ABNORMAL and subtask.result_code is ResultCode.UNKNOWN
        for subtask in failures
    )
    return ResultCode.UNKNOWN if unknown and failures else ResultCode.FAILED


def _rejection_code(rejected: Sequence[SubtaskResult]) -> ResultCode:
    """Return NOT_ALLOWED if that is what all were told, else REJECTED."""
    if all(subtask.result_code is ResultCode.NOT_ALLOWED for subtask in rejected):
        return ResultCode.NOT_ALLOWED
    return ResultCode.REJECTED
