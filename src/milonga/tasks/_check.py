"""Whether a command map fits the children and methods that it will meet."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from pydantic import JsonValue

from milonga.tasks._answers import steps_named_in
from milonga.tasks._arguments import ValueArgument
from milonga.tasks._command_map import (
    CommandMap,
    CommandSpec,
    CompositeSpec,
    DeviceSpec,
    InternalSpec,
    NodeSpec,
    PlanStepSpec,
)
from milonga.tasks._late_specs import AnalysisSpec, ConfirmSpec
from milonga.tasks._parts import EVERY_CHILD, ChildSpec, PolicySpec
from milonga.tasks._problems import problem
from milonga.tasks._safety import unconfirmed

__all__ = ["Surroundings", "check_children", "check_command_map"]


class Surroundings:
    """The names that a command map may use.

    Parameters
    ----------
    children : sequence of ChildSpec
        All children that there are in the deployment.
    methods : iterable of str
        Methods that can be steps.
    known_groups : iterable of str, optional
        Groups that may be named although no child belongs to them.
    plans, analyses : iterable of str, optional
        Names of the plans and of the analyses that the device allows.
    """

    def __init__(
        self,
        children: Sequence[ChildSpec],
        methods: Iterable[str],
        known_groups: Iterable[str] = (),
        plans: Iterable[str] = (),
        analyses: Iterable[str] = (),
    ) -> None:
        self.children = tuple(children)
        self.methods = frozenset(methods)
        self.plans = frozenset(plans)
        self.analyses = frozenset(analyses)
        groups = {group for child in children for group in child.groups}
        self.targets = groups | set(known_groups) | {child.name for child in children}

    def meant_by(self, target: str) -> tuple[ChildSpec, ...]:
        """Return the children that a target stands for."""
        return tuple(child for child in self.children if child.is_meant_by(target))

    def problems(self, path: str, node: NodeSpec) -> Iterator[str]:
        """Yield what does not fit in a node, and in those below it."""
        if isinstance(node, CompositeSpec):
            yield from self.policy_problems(path, node.policy)
            for name, child in node.tasks.items():
                yield from self.problems(f"{path}.tasks.{name}", child)
        elif isinstance(node, InternalSpec):
            if node.internal not in self.methods:
                yield problem(f"{path}.internal", repr(node.internal), _one_of(self.methods))
        elif isinstance(node, PlanStepSpec):
            if not node.is_function and node.plan not in self.plans:
                expected = f"module:function, or {_one_of(self.plans)}"
                yield problem(f"{path}.plan", repr(node.plan), expected)
        elif isinstance(node, AnalysisSpec):
            if node.analysis not in self.analyses:
                yield problem(f"{path}.analysis", repr(node.analysis), _one_of(self.analyses))
        elif isinstance(node, DeviceSpec):
            yield from self.policy_problems(path, node.policy)
            yield from self._target_problems(path, node)

    def _target_problems(self, path: str, node: DeviceSpec) -> Iterator[str]:
        name = path.rpartition(".tasks.")[2]
        target = node.target or name
        if target == EVERY_CHILD or target in self.targets or node.optional:
            return
        expected = f"a child or group, {_one_of(self.targets)}"
        if node.target is None:
            hint = ", or one of the keys target, tasks, internal, plan, prompt, analysis in it"
            yield problem(path, f"the unknown keyword {name!r}", expected + hint)
        else:
            yield problem(f"{path}.target", repr(target), f"{expected} or '{EVERY_CHILD}'")

    def policy_problems(self, path: str, policy: PolicySpec | None) -> Iterator[str]:
        """Yield the names in a policy that nobody bears."""
        if policy is None:
            return
        for key in ("critical", "optional"):
            for name in getattr(policy, key):
                if name not in self.targets:
                    expected = f"a child or group, {_one_of(self.targets)}"
                    yield problem(f"{path}.policy.{key}", repr(name), expected)

    def command_problems(self, name: str, spec: CommandSpec) -> Iterator[str]:
        """Yield what does not fit in a command."""
        yield from self.policy_problems(name, spec.policy)
        for task, node in spec.tasks.items():
            yield from self.problems(f"{name}.tasks.{task}", node)
        yield from _answer_problems(name, spec)
        nodes = dict(_nodes(name, spec.tasks.items()))
        yield from unconfirmed(name, spec, nodes, self.meant_by)


def _answer_problems(name: str, spec: CommandSpec) -> Iterator[str]:
    """Yield the answers that are named though nobody is asked for them."""
    nodes = list(_nodes(name, spec.tasks.items()))
    asked = [path.rpartition(".tasks.")[2] for path, node in nodes if isinstance(node, ConfirmSpec)]
    for step in sorted({step for step in asked if asked.count(step) > 1}):
        yield problem(name, f"{step!r} as the name of several steps that ask", "it once")
    for path, node in nodes:
        for step in steps_named_in(_value_of(node)):
            if step not in asked:
                expected = f"a step that asks, {_one_of(asked)}"
                yield problem(path, f"$answer of {step!r}", expected)


def _nodes(path: str, tasks: Iterable[tuple[str, NodeSpec]]) -> Iterator[tuple[str, NodeSpec]]:
    for name, node in tasks:
        yield f"{path}.tasks.{name}", node
        if isinstance(node, CompositeSpec):
            yield from _nodes(f"{path}.tasks.{name}", node.tasks.items())


def _value_of(node: NodeSpec) -> JsonValue:
    """Return the part of a node in which answers can be named."""
    if isinstance(node, DeviceSpec | InternalSpec):
        return node.argument.value if isinstance(node.argument, ValueArgument) else None
    if isinstance(node, PlanStepSpec):
        return node.arguments
    return node.parameters if isinstance(node, AnalysisSpec) else None


def _one_of(names: Collection[str]) -> str:
    return f"one of {', '.join(sorted(names))}" if names else "but there are none"


def check_children(children: Sequence[ChildSpec]) -> list[str]:
    """Return what is wrong with a list of children: names and devices must be unique.

    Parameters
    ----------
    children : sequence of ChildSpec
        The children of one device.

    Returns
    -------
    list of str
        One line for each problem.
    """
    found = []
    for what in ("name", "trl"):
        seen: set[str] = set()
        for number, child in enumerate(children):
            # Tango does not tell upper from lower case in the names of devices.
            value = child.name if what == "name" else child.trl.lower()
            if value in seen:
                found.append(problem(f"children.{number}.{what}", f"{value!r} again", "it once"))
            seen.add(value)
    return found


def check_command_map(
    command_map: CommandMap,
    children: Sequence[ChildSpec],
    methods: Iterable[str],
    *,
    known_groups: Iterable[str] = (),
    plans: Iterable[str] = (),
    analyses: Iterable[str] = (),
) -> list[str]:
    """Return what in a command map does not fit the children and methods that there are.

    Parameters
    ----------
    command_map : CommandMap
        The map.
    children : sequence of ChildSpec
        All children that there are in the deployment.
    methods : iterable of str
        Names of the methods that can be steps.
    known_groups : iterable of str, optional
        Groups that may be named although no child belongs to them.
    plans, analyses : iterable of str, optional
        Names of the plans and of the analyses that the device allows.

    Returns
    -------
    list of str
        Lines ``path: found X, expected Y``; empty if all fits.

    Examples
    --------
    >>> commands = CommandMap.from_data({"On": {"tasks": {"cbf": {}, "fpga": {}}}})
    >>> children = [ChildSpec(name="cbf01", trl="mid-csp/cbf/01", groups=("cbf",))]
    >>> for line in check_command_map(commands, children, []):
    ...     print(line.partition(",")[0])
    On.tasks.fpga: found the unknown keyword 'fpga'
    """
    around = Surroundings(children, methods, known_groups, plans, analyses)
    found = check_children(children)
    for name, spec in command_map.items():
        found.extend(around.command_problems(name, spec))
    return found
