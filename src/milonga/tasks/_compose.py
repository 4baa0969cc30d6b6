"""From a command and the children that are present to the tree that does it."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from milonga.errors import CompositionError
from milonga.tasks._answers import Answers, names_answers
from milonga.tasks._arguments import Nothing, hand_on
from milonga.tasks._asking import is_late, patience_of, skips_after_failure
from milonga.tasks._check import Surroundings, check_children
from milonga.tasks._command_map import (
    CommandSpec,
    CompositeSpec,
    DeviceSpec,
    InternalSpec,
    NodeSpec,
    PlanStepSpec,
)
from milonga.tasks._confirm import StepAsker
from milonga.tasks._context import LeafAction
from milonga.tasks._internal import InternalMethod, internal_action
from milonga.tasks._kinds import TaskType, Tolerance
from milonga.tasks._late import AnalysisStarter, analysis_leaf, confirm_leaf, filled_first
from milonga.tasks._late_specs import AnalysisSpec, ConfirmSpec
from milonga.tasks._leaf import LeafTask
from milonga.tasks._node import BaseTask
from milonga.tasks._parts import ChildSpec, PolicySpec
from milonga.tasks._policy import policy_factory_for
from milonga.tasks._tree import Task
from milonga.tasks._wants import PlanFactory, StateReader, Wants, tolerance_of

__all__ = ["PlanFactory", "compose"]


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
    analyses: Mapping[str, AnalysisStarter] | None = None,
    ask: StepAsker | None = None,
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
    analyses : mapping, optional
        What starts the analyses that can be steps, by name.
    ask : callable, optional
        Shows the steps that wait for a person; without it there can be none.
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
    plans, analyses = plans or {}, analyses or {}
    around = Surroundings(children, methods, known_groups, plans, analyses)
    problems = check_children(children) + list(around.command_problems(command_name, spec))
    if problems:
        raise CompositionError("\n".join(problems))
    wants = Wants(
        command_name,
        argument,
        methods,
        plans,
        analyses,
        ask,
        spec,
        is_available,
        state_of,
        logger,
        obs_mode,
    )
    composer = _Composer(wants, around)
    try:
        subtasks = composer.subtasks(command_name, spec.tasks, spec.policy or policy)
        if not subtasks:
            raise CompositionError(composer.nothing_to_do())
        return Task(
            command_name,
            spec.type,
            skips_after_failure(spec),
            completed_callback,
            is_root=True,
            subtasks=subtasks,
            timeout=spec.timeout or (timeout and timeout + patience_of(spec)),
            max_timeout=spec.max_timeout,
            progress_callback=progress_callback,
            policy_factory=composer.policy_factory(spec.policy, policy, subtasks),
            **composer.shared,
        )
    except ValueError as error:
        # The bounds of trees, which a fan-out over many children can exceed.
        raise CompositionError(str(error)) from error


class _Composer:
    """Builds the nodes of one command from the leaves up."""

    def __init__(self, wants: Wants, around: Surroundings) -> None:
        self._wants = wants
        self._around = around
        self._left_out: list[str] = []
        self._answers = Answers()
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
        match node:
            case CompositeSpec():
                return self._composite(path, name, node, inherited)
            case PlanStepSpec():
                return self._plan(path, name, node)
            case ConfirmSpec():
                return self._confirm(path, name, node)
            case AnalysisSpec():
                return self._analysis(name, node)
        return self._with_argument(path, name, node, inherited)

    def _with_argument(
        self,
        path: str,
        name: str,
        node: InternalSpec | DeviceSpec,
        inherited: PolicySpec | None,
    ) -> BaseTask | None:
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
            max_timeout=node.max_timeout,
            tolerance=tolerance_of(node.optional, node.policy),
            policy_factory=self.policy_factory(node.policy, inherited, subtasks),
            **self.shared,
        )

    def _plan(self, path: str, name: str, node: PlanStepSpec) -> LeafTask:
        factory = self._wants.plans.get(node.plan)
        if factory is None:
            raise CompositionError(f"{path}.plan: found {node.plan!r}, which the device has not")

        def make(filled: str | None) -> LeafAction:
            return factory(filled, lambda: leaf.path)

        argument = node.argument(self._wants.argument)
        late = node.arguments != "full" and names_answers(node.arguments)
        leaf = LeafTask(
            name,
            node.plan,
            self._wants.command,
            argument,
            task_type=TaskType.PLAN,
            action=self._filled(argument, make) if late else make(argument),
            timeout=node.timeout,
            max_timeout=node.max_timeout,
            tolerance=tolerance_of(node.optional, None),
            **self.shared,
        )
        return leaf

    def _filled(self, argument: str | None, make: Callable[[str], LeafAction]) -> LeafAction:
        return filled_first(self._answers, argument or "null", make)

    def _confirm(self, path: str, name: str, node: ConfirmSpec) -> LeafTask:
        ask = self._wants.ask
        if ask is None:
            raise CompositionError(f"{path}: found a step that asks a person, which nobody shows")
        return confirm_leaf(
            name,
            ask,
            node.prompt,
            node.input,
            node.timeout,
            self._answers,
            self._wants.command,
            tolerance=tolerance_of(node.optional, None),
            **self.shared,
        )

    def _analysis(self, name: str, node: AnalysisSpec) -> LeafTask:
        return analysis_leaf(
            name,
            node.analysis,
            self._wants.analyses[node.analysis],
            node.parameters,
            self._answers,
            self._wants.command,
            timeout=node.timeout,
            max_timeout=node.max_timeout,
            tolerance=tolerance_of(node.optional, None),
            **self.shared,
        )

    def _internal(self, name: str, node: InternalSpec, argument: str | None) -> LeafTask:
        method = self._wants.methods[node.internal]

        def make(filled: str | None) -> LeafAction:
            return internal_action(method, filled)

        late = is_late(node.argument)
        return LeafTask(
            name,
            node.internal,
            self._wants.command,
            argument,
            task_type=TaskType.INTERNAL,
            action=self._filled(argument, make) if late else make(argument),
            timeout=node.timeout,
            max_timeout=node.max_timeout,
            tolerance=tolerance_of(node.optional, None),
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
            return self._leaf(name, chosen[0], node, argument, tolerance_of(node.optional, None))
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
            tolerance=tolerance_of(node.optional, policy),
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
        command = node.command or self._wants.command
        leaf = LeafTask(
            name,
            child.trl,
            command,
            argument,
            timeout=child.timeout_of(command) or node.timeout,
            max_timeout=node.max_timeout,
            tolerance=tolerance,
            **self.shared,
        )
        if is_late(node.argument):
            call = leaf.action  # with the argument that the leaf has by then
            leaf.replace_action(self._filled(argument, lambda _filled: call))
        return leaf

    # Which children take part

    def _present(self, path: str, name: str, node: DeviceSpec) -> list[ChildSpec]:
        """Return the children that the node is for and that can take the command now."""
        target = node.target or name
        meant = self._around.meant_by(target)
        reasons = {child.name: self._wants.hindrance(child) for child in meant}
        hindered = [f"{child}: {reason}" for child, reason in reasons.items() if reason]
        if not meant:
            hindered = [f"{name}: there is no child for {target!r}"]
        if hindered and node.reject_missing:
            raise CompositionError(f"{path}: {'; '.join(hindered)}; the command needs {target!r}")
        self._left_out.extend(hindered)
        return [child for child in meant if not reasons[child.name]]
