"""How the outcomes of subtasks become the outcome of their task.

Pure functions over immutable values: nothing here waits, logs or locks.
"""

from dataclasses import replace

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._coercion import ObsModes
from milonga.tracking._findings import Findings, find
from milonga.tracking._messages import CauseList, compose, printable, split_causes
from milonga.tracking._outcome import AggregationOutcome, running_outcome
from milonga.tracking._precedence import Decision, decide
from milonga.tracking._rules import PolicyRules
from milonga.tracking._subtask import SubtaskResult, Verdict, joined_health

__all__ = ["TaskAggregationPolicy"]


class TaskAggregationPolicy:
    """Judges a task by its subtasks: aborts first, then critical devices, groups, and the rest.

    The same list always gives the same outcome, and nothing in it is changed. Its order matters
    only for the order of causes in the message.

    Parameters
    ----------
    task_name : str
        Name of the task.
    operation, obs_mode : str, tuple of str or None
        What the task is done for, free for the rules to use.
    is_root : bool
        Whether the message begins with a header.
    rules : PolicyRules
        Which devices matter, and how.
    group_policy : bool, optional
        Whether a quorum decides; overrules the rules when given.

    Examples
    --------
    >>> policy = TaskAggregationPolicy("On", is_root=True)
    >>> policy.aggregate([SubtaskResult("a", TaskStatus.COMPLETED)]).message
    'Task On completed'
    """

    def __init__(
        self,
        task_name: str,
        operation: ObsModes | None = None,
        obs_mode: ObsModes | None = None,
        is_root: bool = False,
        *,
        rules: PolicyRules = PolicyRules(),  # noqa: B008 - a value that never changes
        group_policy: bool | None = None,
    ) -> None:
        self.task_name = task_name
        self.operation = operation
        self.obs_mode = obs_mode
        self.is_root = is_root
        self.rules = rules if group_policy is None else replace(rules, group_policy=group_policy)

    def aggregate(self, subtasks: list[SubtaskResult], /) -> AggregationOutcome:
        """Return what has become of a task with these subtasks; one without any is completed."""
        found = find(self.task_name, subtasks, self.rules, self.obs_mode)
        waiting = found.verdicts[Verdict.QUEUED]
        if found.verdicts[Verdict.RUNNING] or waiting:
            return running_outcome(waiting < found.total, found.health)
        decision = decide(found)
        if decision.status is not TaskStatus.REJECTED or found.failures:
            decision = replace(decision, health=joined_health(decision.health, found.health))
        return AggregationOutcome(
            decision.status, decision.code, self._message(decision, found), decision.health
        )

    def _message(self, decision: Decision, found: Findings) -> str:
        causes = CauseList()
        if decision.code is not ResultCode.OK:
            for subtask in found.culprits:
                causes.add(*_causes_of(subtask))
        verb = _verb(decision)
        return compose(
            printable(f"Task {self.task_name} {verb}") if self.is_root else None,
            decision.detail,
            causes,
            verb,
            limits=(self.rules.max_causes, self.rules.max_message_bytes),
        )


def _causes_of(subtask: SubtaskResult) -> tuple[list[str], int]:
    known = (*subtask.devices, *subtask.failed_devices)
    causes, more = split_causes(subtask.message, subtask.device_name, known)
    if causes or more:
        return causes, more
    names = subtask.blamed_devices or (subtask.name,)
    code = subtask.result_code
    if code is None or code in {ResultCode.OK, ResultCode.STARTED, ResultCode.QUEUED}:
        code = _CODE_BY_VERDICT[subtask.verdict]
    text = f"failed without message (ResultCode {code.name})"
    return [printable(f"{name}: {text}") for name in names], 0


_CODE_BY_VERDICT = {
    Verdict.FAILED: ResultCode.FAILED,
    Verdict.ABNORMAL: ResultCode.FAILED,
    Verdict.REJECTED: ResultCode.REJECTED,
    Verdict.ABORTED: ResultCode.ABORTED,
}

_VERBS = {
    TaskStatus.ABORTED: "aborted",
    TaskStatus.REJECTED: "rejected",
    TaskStatus.FAILED: "failed",
}


def _verb(decision: Decision) -> str:
    if decision.status in _VERBS:
        return _VERBS[decision.status]
    if decision.code is ResultCode.OK:
        return "completed"
    if decision.health is HealthState.DEGRADED:
        return "completed in DEGRADED state"
    return "failed"
