"""Keeps the policy in step with the context, and calls it with no lock held."""

import logging
from threading import Lock

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking._coercion import IS_FINAL, ObsModes, is_a, plain_text, read_health
from milonga.tracking._outbox import log_safely
from milonga.tracking._outcome import AggregationOutcome, AggregationPolicy, PolicyFactory
from milonga.tracking._policy import TaskAggregationPolicy
from milonga.tracking._rules import PolicyRules
from milonga.tracking._subtask import SubtaskResult

__all__ = ["Judge"]


class Judge:
    """A task's policy for its present context. Any thread may call any method.

    A factory that raises, or returns something that cannot judge, is replaced by a policy that
    knows no devices and groups (TH-06).
    """

    def __init__(
        self, task_name: str, is_root: bool, factory: PolicyFactory | None, logger: logging.Logger
    ) -> None:
        self._task_name = task_name
        self._is_root = is_root
        self._factory: PolicyFactory | None = factory or TaskAggregationPolicy
        self._logger = logger
        self._lock = Lock()
        self._version = -1
        self.interim_health: HealthState | None = None
        self.policy: AggregationPolicy = self._minimal(None, None)

    def prepare(self, version: int, operation: ObsModes | None, obs_mode: ObsModes | None) -> None:
        """Make the policy for a context and install it, unless a newer one is in place."""
        policy = self._make(operation, obs_mode)
        with self._lock:
            if version > self._version:
                before, self.policy = self.policy, policy
                self._version = version
            else:
                before = policy
        del before  # outside the lock: it may be the last reference to somebody's object

    def renew(
        self,
        version: int,
        operation: ObsModes | None,
        obs_mode: ObsModes | None,
        subtasks: list[SubtaskResult],
    ) -> None:
        """Make the policy for a changed context, and take its present opinion of the health."""
        self.prepare(version, operation, obs_mode)
        if not subtasks:
            return
        try:
            health = read_health(self.policy.aggregate(subtasks).health_state)
        except Exception as fault:  # noqa: BLE001 - it is asked again when all subtasks are final
            text = "%s: policy failed for the subtasks so far"
            log_safely(self._logger, logging.WARNING, text, self._task_name, fault=fault)
            return
        with self._lock:
            if version == self._version:
                self.interim_health = health

    def final_outcome(
        self,
        version: int,
        operation: ObsModes | None,
        obs_mode: ObsModes | None,
        subtasks: list[SubtaskResult],
    ) -> AggregationOutcome:
        """Judge all subtasks. What the policy raises gets through."""
        if version != self._version:
            self.prepare(version, operation, obs_mode)
        outcome = self.policy.aggregate(subtasks)
        if not is_a(outcome, AggregationOutcome) or not IS_FINAL[TaskStatus(outcome.status)]:
            raise TypeError(
                f"policy of {self._task_name}: found {plain_text(outcome)}, "
                "expected an AggregationOutcome with a final status"
            )
        return AggregationOutcome(
            TaskStatus(outcome.status),
            ResultCode(outcome.result_code),
            plain_text(outcome.message),
            read_health(outcome.health_state),
        )

    def release(self) -> PolicyFactory | None:
        """Let go of the factory, and return it."""
        factory, self._factory = self._factory, None
        return factory

    def _make(self, operation: ObsModes | None, obs_mode: ObsModes | None) -> AggregationPolicy:
        factory = self._factory
        try:
            if factory is not None:
                policy = factory(self._task_name, operation, obs_mode, self._is_root)
                if callable(policy.aggregate):
                    return policy
        except Exception as fault:  # noqa: BLE001 - TH-06
            text = "%s: policy_factory failed, going on with a minimal policy"
            log_safely(self._logger, logging.ERROR, text, self._task_name, fault=fault)
        return self._minimal(operation, obs_mode)

    def _minimal(
        self, operation: ObsModes | None, obs_mode: ObsModes | None
    ) -> TaskAggregationPolicy:
        return TaskAggregationPolicy(
            self._task_name, operation, obs_mode, self._is_root, rules=PolicyRules.minimal()
        )
