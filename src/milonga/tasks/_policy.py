"""The rules by which a composite of a command judges its subtasks.

Names of children and groups are exact here; parts of names, by which the rules of `tracking` go,
are for deployments that have no command map.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from milonga.tasks._kinds import TaskType, Tolerance
from milonga.tasks._node import BaseTask
from milonga.tasks._parts import ChildSpec, PolicySpec
from milonga.tracking import PolicyRules, TaskAggregationPolicy

__all__ = ["NamedRules", "policy_factory_for"]

PolicyFactory = Callable[..., Any]
_NO_POLICY = PolicySpec()


@dataclass(frozen=True)
class NamedRules(PolicyRules):
    """Rules that know some devices and subtasks by their names, in lower case."""

    critical_names: frozenset[str] = frozenset()
    optional_names: frozenset[str] = frozenset()

    def is_critical(self, name: str, obs_mode: Any, **more: Any) -> bool:
        """Tell whether the failure of the device or subtask of this name is the task's."""
        if self.is_optional(name, obs_mode):
            return False
        by_name = name.lower() in self.critical_names
        return by_name or PolicyRules.is_critical(self, name, obs_mode, **more)

    def is_optional(self, name: str, obs_mode: Any) -> bool:
        """Tell whether the failure of the device or subtask of this name can only degrade."""
        return name.lower() in self.optional_names or PolicyRules.is_optional(self, name, obs_mode)


def policy_factory_for(
    policy: PolicySpec | None,
    quorum: float | None,
    children: Sequence[ChildSpec],
    subtasks: Sequence[BaseTask],
) -> PolicyFactory | None:
    """Return what makes the policy of a composite; None if nothing is said about it.

    Parameters
    ----------
    policy : PolicySpec or None
        What the command map says. Where it lists critical names, kinds that are guessed from the
        names of devices are no longer critical.
    quorum : int or float or None
        How many subtasks of this composite must succeed.
    children : sequence of ChildSpec
        All children of the deployment.
    subtasks : sequence of BaseTask
        Subtasks of the composite, whose optional ones are never critical.

    Returns
    -------
    callable or None
        A `policy_factory` for `milonga.tracking.TaskTracker`.
    """
    optional = _optional_names(subtasks)
    if policy is None and quorum is None and not optional:
        return None
    policy = policy or _NO_POLICY
    given: dict[str, Any] = {}
    if "critical" in policy.model_fields_set:
        given["critical_kinds"] = ()
    if quorum is not None:
        given |= {"group_policy": True, "min_success": quorum}
    elif "join" in policy.model_fields_set:
        given["group_policy"] = False
    if policy.weights and quorum is not None:
        given["weights"] = tuple(_weights(policy.weights, children))
    rules = NamedRules(
        critical_names=_names(policy.critical, children),
        optional_names=_names(policy.optional, children) | optional,
        **given,
    )
    return partial(TaskAggregationPolicy, rules=rules)


def _weights(
    weights: Mapping[str, float], children: Sequence[ChildSpec]
) -> Iterator[tuple[str, float]]:
    """Yield names and weights: of subtasks, and of children also by their devices."""
    for name, weight in weights.items():
        yield name, weight
        yield from ((child.trl, weight) for child in children if child.name == name)


def _names(targets: Iterable[str], children: Sequence[ChildSpec]) -> frozenset[str]:
    meant = [child for child in children if any(child.is_meant_by(name) for name in targets)]
    return frozenset(name.lower() for child in meant for name in (child.name, child.trl))


def _optional_names(subtasks: Sequence[BaseTask]) -> frozenset[str]:
    """Return who works in optional nodes only, and the names of these nodes."""
    needed: set[str] = set()
    spared: set[str] = set()
    for name, optional in _workers(subtasks, False):
        (spared if optional else needed).add(name.lower())
    return frozenset(spared - needed)


def _workers(subtasks: Sequence[BaseTask], optional: bool) -> Iterator[tuple[str, bool]]:
    for task in subtasks:
        spared = optional or task.tolerance is Tolerance.FAILURE
        is_device = task.task_type is TaskType.DEVICE
        yield (next(task.leaves()).target if is_device else task.name), spared
        yield from _workers(task.subtasks, spared)
