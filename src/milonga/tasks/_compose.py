"""From a command and the children that are present to the tree that does it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milonga.errors import CompositionError
from milonga.tasks._arguments import Nothing, hand_on
from milonga.tasks._check import Surroundings, check_children
from milonga.tasks._command_map import (
    CommandSpec,
    CompositeSpec,
    DeviceSpec,
    InternalSpec,
    NodeSpec,
    PlanStepSpec,
)
from milonga.tasks._context import LeafAction
from milonga.tasks._internal import InternalMethod, internal_action
from milonga.tasks._kinds import TaskType, Tolerance
from milonga.tasks._leaf import LeafTask
from milonga.tasks._node import BaseTask
from milonga.tasks._parts import ChildSpec, PolicySpec
from milonga.tasks._policy import policy_factory_for
from milonga.tasks._tree import Task

__all__ = ["PlanFactory", "compose"]

StateReader = Callable[[ChildSpec, str], object]

PlanFactory = Callable[[str | None], LeafAction]
"""Makes the action of a PLAN leaf of its JSON argument; raises a `MilongaError` to refuse it."""


def compose(
    command_name: str,
    spec: CommandSpec,
    argument: str | None,
    children: Sequence[ChildSpec],
    methods: Mapping[str, InternalMethod],
    *,
    policy: PolicySpec | None = None,
    timeout: float | None = None,
    plans: Mapping[str, PlanFactory] | None = None,
    known_groups: Iterable[str] = (),
    is_available: Callable[[ChildSpec], bool] | None = None,
    state_of: StateReader | None = None,
    obs_mode: Any = None,
    completed_callback: Callable[..., None] | None = None,
    progress_callback: Callable[..., None] | None = None,
    logger: logging.Logger | None = None,
) -> Task:
    """Make the tree of a command, with nothing started.

    Targets that are not there are left out, and so are branches in which nothing is left.

    Parameters
    ----------
    command_name : str
        Name of the command; also the root's.
    spec : CommandSpec
        What the command does.
    argument : str or None
        Argument of the command, a JSON text as a rule.
    children : sequence of ChildSpec
        All children of the deployment.
    methods : mapping
        Methods that can be steps, by name.
    policy : PolicySpec, optional
        Policy of nodes that have none, nor have the nodes above them.
    timeout : float, optional
        Seconds for the whole command if `spec` does not say.
    plans : mapping, optional
        What makes the actions of plans that can be steps, by name.
    known_groups : iterable of str, optional
        Groups that may be named although no child belongs to them.
    is_available : callable, optional
        Tells whether a child can be commanded now; all can if not given.
    state_of : callable, optional
        Returns the name of the value of a child's attribute, for `allowed_states`, which are not
        looked at if it is not given. It is called in the caller's thread.
    obs_mode : optional
        Observing mode, for the policy.
    completed_callback, progress_callback, logger : optional
        Those of the root; see `BaseTask`.

    Returns
    -------
    Task
        The root; its leaves' targets are device names.

    Raises
    ------
    milonga.errors.CompositionError
        If the map does not fit the children and methods, a target that must not be missing is
        missing or not allowed, the argument lacks what a node takes, or nothing is left to do.

    Examples
    --------
    >>> from milonga.tasks import ChildSpec, CommandMap
    >>> spec = CommandMap.from_data({"On": {"tasks": {"cbf": {}}}})["On"]
    >>> children = [ChildSpec(name=f"cbf0{n}", trl=f"a/cbf/{n}", groups=("cbf",)) for n in (1, 2)]
    >>> root = compose("On", spec, None, children, {})
    >>> [leaf.target for leaf in root.leaves()]
    ['a/cbf/1', 'a/cbf/2']
    """
    plans = plans or {}
    around = Surroundings(children, methods, known_groups, plans)
    problems = check_children(children) + list(around.command_problems(command_name, spec))
    if problems:
        raise CompositionError("\n".join(problems))
    wants = _Wants(
        command_name, argument, methods, plans, spec, is_available, state_of, logger, obs_mode
    )
    composer = _Composer(wants, around)
    try:
        subtasks = composer.subtasks(command_name, spec.tasks, spec.policy or policy)
        if not subtasks:
            raise CompositionError(composer.nothing_to_do())
        return Task(
            command_name,
            spec.type,
            spec.skip_subtasks,
            completed_callback,
            is_root=True,
            subtasks=subtasks,
            timeout=spec.timeout or timeout,
            progress_callback=progress_callback,
            policy_factory=composer.policy_factory(spec.policy, policy, subtasks),
            **composer.shared,
        )
    except ValueError as error:
        # The bounds of trees, which a fan-out over many children can exceed.
        raise CompositionError(str(error)) from error


@dataclass(frozen=True)
class _Wants:
    """What `compose` was asked for."""

    command: str
    argument: str | None
    methods: Mapping[str, InternalMethod]
    plans: Mapping[str, PlanFactory]
    spec: CommandSpec
    is_available: Callable[[ChildSpec], bool] | None
    state_of: StateReader | None
    logger: logging.Logger | None
    obs_mode: Any


class _Composer:
    """Builds the nodes of one command from the leaves up."""

    def __init__(self, wants: _Wants, around: Surroundings) -> None:
        self._wants = wants
        self._around = around
        self._left_out: list[str] = []
        self.shared: dict[str, Any] = {
            "logger": wants.logger,
            "operation": wants.command,
            "obs_mode": wants.obs_mode,
        }

    def nothing_to_do(self) -> str:
        """Return the text of a command with no leaves, and why it has none."""
        reasons = "; ".join(self._left_out) or "its map has no tasks"
        return f"{self._wants.command}: nothing to do: {reasons}"

    def policy_factory(
        self, own: PolicySpec | None, inherited: PolicySpec | None, subtasks: Sequence[BaseTask]
    ) -> Callable[..., Any] | None:
        """Return the factory for a composite; a quorum that is inherited is for fan-outs."""
        chosen = own or inherited
        quorum = own.quorum if own is not None else None
        return policy_factory_for(chosen, quorum, self._around.children, subtasks)

    def subtasks(
        self,
        path: str,
        nodes: Mapping[str, NodeSpec],
        inherited: PolicySpec | None,
    ) -> list[BaseTask]:
        """Build the nodes that have something to do."""
        built = (
            self._node(f"{path}.tasks.{name}", name, node, inherited)
            for name, node in nodes.items()
        )
        return [task for task in built if task is not None]

    def _node(
        self,
        path: str,
        name: str,
        node: NodeSpec,
        inherited: PolicySpec | None,
    ) -> BaseTask | None:
        if isinstance(node, CompositeSpec):
            return self._composite(path, name, node, inherited)
        if isinstance(node, PlanStepSpec):
            return self._plan(path, name, node)
        try:
            argument = hand_on(node.argument, self._wants.argument, path, node.optional)
        except Nothing:
            self._left_out.append(f"{name}: none of its keys is in the argument")
            return None
        if isinstance(node, InternalSpec):
            return self._internal(name, node, argument)
        return self._device(path, name, node, argument, inherited)

    def _composite(
        self, path: str, name: str, node: CompositeSpec, inherited: PolicySpec | None
    ) -> Task | None:
        subtasks = self.subtasks(path, node.tasks, node.policy or inherited)
        if not subtasks:
            return None
        return Task(
            name,
            node.type,
            node.skip_subtasks,
            subtasks=subtasks,
            timeout=node.timeout,
            tolerance=_tolerance(node.optional, node.policy),
            policy_factory=self.policy_factory(node.policy, inherited, subtasks),
            **self.shared,
        )

    def _plan(self, path: str, name: str, node: PlanStepSpec) -> LeafTask:
        make = self._wants.plans.get(node.plan)
        if make is None:
            raise CompositionError(f"{path}.plan: found {node.plan!r}, which the device has not")
        argument = node.argument(self._wants.argument)
        return LeafTask(
            name,
            node.plan,
            self._wants.command,
            argument,
            task_type=TaskType.PLAN,
            action=make(argument),
            timeout=node.timeout,
            tolerance=_tolerance(node.optional, None),
            **self.shared,
        )

    def _internal(self, name: str, node: InternalSpec, argument: str | None) -> LeafTask:
        return LeafTask(
            name,
            node.internal,
            self._wants.command,
            argument,
            task_type=TaskType.INTERNAL,
            action=internal_action(self._wants.methods[node.internal], argument),
            timeout=node.timeout,
            tolerance=_tolerance(node.optional, None),
            **self.shared,
        )

    def _device(
        self,
        path: str,
        name: str,
        node: DeviceSpec,
        argument: str | None,
        inherited: PolicySpec | None,
    ) -> BaseTask | None:
        chosen = self._present(path, name, node)
        if not chosen:
            return None
        if len(chosen) == 1 and node.policy is None:
            return self._leaf(name, chosen[0], node, argument, _tolerance(node.optional, None))
        return self._fan_out(name, node, argument, chosen, node.policy or inherited)

    def _fan_out(
        self,
        name: str,
        node: DeviceSpec,
        argument: str | None,
        chosen: Sequence[ChildSpec],
        policy: PolicySpec | None,
    ) -> Task:
        leaves = [self._leaf(child.name, child, node, argument) for child in chosen]
        return Task(
            name,
            node.type,
            node.skip_subtasks,
            subtasks=leaves,
            tolerance=_tolerance(node.optional, policy),
            policy_factory=self.policy_factory(policy, None, leaves),
            **self.shared,
        )

    def _leaf(
        self,
        name: str,
        child: ChildSpec,
        node: DeviceSpec,
        argument: str | None,
        tolerance: Tolerance = Tolerance.NOTHING,
    ) -> LeafTask:
        return LeafTask(
            name,
            child.trl,
            node.command or self._wants.command,
            argument,
            timeout=node.timeout,
            tolerance=tolerance,
            **self.shared,
        )

    # Which children take part

    def _present(self, path: str, name: str, node: DeviceSpec) -> list[ChildSpec]:
        """Return the children that the node is for and that can take the command now."""
        target = node.target or name
        meant = self._around.meant_by(target)
        reasons = {child.name: self._hindrance(child) for child in meant}
        hindered = [f"{child}: {reason}" for child, reason in reasons.items() if reason]
        if not meant:
            hindered = [f"{name}: there is no child for {target!r}"]
        if hindered and node.reject_missing:
            raise CompositionError(f"{path}: {'; '.join(hindered)}; the command needs {target!r}")
        self._left_out.extend(hindered)
        return [child for child in meant if not reasons[child.name]]

    def _hindrance(self, child: ChildSpec) -> str:
        """Return why a child cannot take the command, or an empty text."""
        wants = self._wants
        if wants.is_available is not None and not wants.is_available(child):
            return "not available"
        allowed = wants.spec.allowed_states
        if allowed is None or wants.state_of is None:
            return ""
        state = wants.state_of(child, allowed.attr_name)
        state_name = str(getattr(state, "name", state)).upper()
        if state_name in allowed.values:
            return ""
        expected = ", ".join(sorted(allowed.values))
        return f"{allowed.attr_name} found {state_name}, expected one of {expected}"


def _tolerance(optional: bool, policy: PolicySpec | None) -> Tolerance:
    if optional:
        return Tolerance.FAILURE
    has_quorum = policy is not None and policy.quorum is not None
    return Tolerance.PARTIAL if has_quorum else Tolerance.NOTHING
