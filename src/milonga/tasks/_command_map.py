"""The command map: what each command does to which children, as validated data.

A map is written by people in YAML or JSON, so a refusal names the place, what was found there and
what was expected, for all mistakes at once.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    RootModel,
    StrictBool,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from milonga.errors import CommandMapError
from milonga.tasks._arguments import ArgumentRule, KeysArgument, ValueArgument
from milonga.tasks._kinds import MAX_DEPTH, TaskType
from milonga.tasks._late_specs import AnalysisSpec, ConfirmSpec
from milonga.tasks._parts import (
    EVERY_CHILD,
    AllowedStates,
    CompositeType,
    Model,
    Name,
    PolicySpec,
    Seconds,
)
from milonga.tasks._problems import describe_problems

__all__ = [
    "CommandMap",
    "CommandSpec",
    "CompositeSpec",
    "DeviceSpec",
    "InternalSpec",
    "NodeSpec",
    "PlanStepSpec",
    "default_command_map",
]


_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class _Node(Model):
    timeout: Seconds | None = None
    max_timeout: Seconds | None = None
    optional: StrictBool = False


class DeviceSpec(_Node):
    """A command to a child, or to all children of a group.

    Parameters
    ----------
    target : str, optional
        Name of a child or of a group, or ``"*"`` for all children; the node's own name if absent.
    command : str, optional
        Command of the child; the mapped command if absent.
    argument : optional
        "full", "none", ``{"keys": [...]}`` or ``{"value": ...}``.
    timeout, max_timeout : float, optional
        Seconds that each child may take, and those that it may take if it asks for more.
    reject_missing : bool, optional
        Whether the whole command is rejected if a target is missing or not allowed.
    optional : bool, optional
        Whether the target may be unknown, and its failure does not stop a sequence.
    type, skip_subtasks, policy : optional
        For a target that is several children.
    trust_result : bool, optional
        In a safety command: whether the result of a child will do that has no `until` for it, such
        as one whose own command is a safety command.
    """

    target: Name | None = None
    command: Name | None = None
    argument: ArgumentRule = "full"
    reject_missing: StrictBool = False
    type: CompositeType = TaskType.PARALLEL
    skip_subtasks: StrictBool | None = None
    policy: PolicySpec | None = None
    trust_result: StrictBool = False

    @model_validator(mode="before")
    @classmethod
    def _fold_join(cls, data: object) -> object:
        return fold_join(data)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.optional and self.reject_missing:
            raise ValueError("one of optional and reject_missing; they contradict each other")
        return self


class InternalSpec(_Node):
    """A method of the device itself.

    Parameters
    ----------
    internal : str
        Name of the method.
    argument, timeout, max_timeout, optional : optional
        As for a `DeviceSpec`.
    """

    internal: Name
    argument: ArgumentRule = "full"


class PlanStepSpec(_Node):
    """A plan that the device runs.

    Parameters
    ----------
    plan : str
        Name of a plan that the device allows, or a function as ``module:function``, which is
        allowed by being named here.
    arguments : optional
        "full" for the command's own argument, or what the plan takes, by parameter.
    timeout, max_timeout, optional : optional
        As for a `DeviceSpec`.
    """

    plan: Name
    arguments: Literal["full"] | dict[Name, JsonValue] = Field(default="full")

    @field_validator("plan")
    @classmethod
    def _found_somewhere(cls, plan: str) -> str:
        if ":" in plan and not _FUNCTION.fullmatch(plan):
            raise ValueError("the name of a plan, or module:function")
        return plan

    @property
    def is_function(self) -> bool:
        """Whether the plan is given by the place where it is defined."""
        return ":" in self.plan

    def argument(self, of_command: str | None) -> str | None:
        """Return what the plan gets, as JSON text, given the argument of the command."""
        return of_command if self.arguments == "full" else json.dumps(self.arguments)


class CompositeSpec(_Node):
    """Nodes that run one after the other or all together.

    Parameters
    ----------
    tasks : mapping
        Name of the node to node, in order.
    type : {"sequential", "parallel"}, optional
        How they run.
    timeout, max_timeout : float, optional
        Seconds for all of them together, and those that they may take if one asks for more.
    skip_subtasks : bool, optional
        Whether a failure in a sequence rejects the rest; the default is that of the node above.
    optional : bool, optional
        Whether a failure of this node does not stop the sequence that it is a step of.
    policy : PolicySpec, optional
        How their outcomes are joined. The key ``join`` is a short form: "all", "any", how many
        must succeed, or which part of them.
    """

    tasks: "dict[Name, NodeSpec]"
    type: CompositeType = TaskType.SEQUENTIAL
    skip_subtasks: StrictBool | None = None
    policy: PolicySpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _fold_join(cls, data: object) -> object:
        return fold_join(data)


def fold_join(data: object) -> object:
    """Put the short form of a join rule, ``join``, into the node's policy.

    Examples
    --------
    >>> fold_join({"tasks": {}, "join": 3})
    {'tasks': {}, 'policy': {'min_success': 3}}
    """
    if not isinstance(data, dict) or "join" not in data:
        return data
    rest = {key: value for key, value in data.items() if key != "join"}
    join, policy = data["join"], rest.get("policy") or {}
    word = isinstance(join, str)
    key = "join" if word else "min_success"
    if isinstance(policy, dict) and key in policy:
        raise ValueError(f"one of join and policy.{key}; they say the same")
    return rest | {"policy": {**policy, key: join}} if isinstance(policy, dict) else data


def _node_tag(value: object) -> str:
    if isinstance(value, CompositeSpec) or (isinstance(value, dict) and "tasks" in value):
        return "<composite>"
    if isinstance(value, InternalSpec) or (isinstance(value, dict) and "internal" in value):
        return "<internal>"
    if isinstance(value, PlanStepSpec) or (isinstance(value, dict) and "plan" in value):
        return "<plan>"
    if isinstance(value, ConfirmSpec) or _is_kind(value, "confirm", "prompt"):
        return "<confirm>"
    if isinstance(value, AnalysisSpec) or _is_kind(value, "analysis", "analysis"):
        return "<analysis>"
    return "<device>"


def _is_kind(value: object, kind: str, key: str) -> bool:
    return isinstance(value, dict) and (value.get("type") == kind or key in value)


def _nothing_is_default(value: object) -> object:
    return {} if value is None else value  # `cbf:` in YAML


NodeSpec = Annotated[
    Annotated[CompositeSpec, Tag("<composite>")]
    | Annotated[DeviceSpec, Tag("<device>")]
    | Annotated[InternalSpec, Tag("<internal>")]
    | Annotated[PlanStepSpec, Tag("<plan>")]
    | Annotated[ConfirmSpec, Tag("<confirm>")]
    | Annotated[AnalysisSpec, Tag("<analysis>")],
    Discriminator(_node_tag),
    BeforeValidator(_nothing_is_default),
]
"""A node of a command, by the key that it has.

The keys are `tasks`, `internal`, `plan`, `prompt` and `analysis`; without one it is a device.
"""


class CommandSpec(Model):
    """What one command does (TR-03).

    Parameters
    ----------
    tasks : mapping
        Name of the node to node, in order.
    type : {"sequential", "parallel"}, optional
        How they run.
    allowed_states : AllowedStates, optional
        States that a child must be in to be sent a command.
    timeout, max_timeout : float, optional
        Seconds for the whole command, and those that it may take if a step asks for more.
    skip_subtasks : bool, optional
        Whether a failure in a sequence rejects the rest.
    policy : PolicySpec, optional
        How the outcomes are joined.
    safety : bool, optional
        Whether it brings to safety: it overtakes the queue and is never refused for what runs.
        It may have a name of its own, which the device then has as a command.
    interrupts : {"running", "none"}, optional
        For a safety command: whether what runs is aborted, or goes on beside it.
    """

    tasks: dict[Name, NodeSpec]
    type: CompositeType = TaskType.SEQUENTIAL
    allowed_states: AllowedStates | None = None
    timeout: Seconds | None = None
    max_timeout: Seconds | None = None
    skip_subtasks: StrictBool = False
    policy: PolicySpec | None = None
    safety: StrictBool = False
    interrupts: Literal["running", "none"] = "running"

    @model_validator(mode="before")
    @classmethod
    def _fold_join(cls, data: object) -> object:
        return fold_join(data)

    @model_validator(mode="after")
    def _not_too_deep(self) -> Self:
        levels = _levels(self)
        if levels > MAX_DEPTH:
            raise ValueError(f"at most {MAX_DEPTH} levels; there are {levels}")
        return self

    @model_validator(mode="after")
    def _safety_waits_for_nobody(self) -> Self:
        if not self.safety:
            if "interrupts" in self.model_fields_set:
                raise ValueError("no key interrupts where safety is not true")
            return self
        if self.allowed_states is not None:
            raise ValueError("no key allowed_states where safety is true")
        others = [name for name, node in _leaves(self) if not isinstance(node, _QUICK)]
        if others:
            found = ", ".join(others)
            raise ValueError(
                f"only steps that are devices or methods where safety is true; {found} is not"
            )
        return self


_QUICK = (DeviceSpec, InternalSpec)


def _leaves(spec: CommandSpec | CompositeSpec) -> Iterator[tuple[str, NodeSpec]]:
    for name, node in spec.tasks.items():
        if isinstance(node, CompositeSpec):
            yield from _leaves(node)
        else:
            yield name, node


def _levels(spec: CommandSpec | CompositeSpec) -> int:
    below = (_levels(n) if isinstance(n, CompositeSpec) else 1 for n in spec.tasks.values())
    return 1 + max(below, default=0)


class CommandMap(RootModel[dict[Name, CommandSpec]]):
    """Command names and what each command does.

    Examples
    --------
    >>> commands = CommandMap.from_data({"On": {"tasks": {"cbf": {}, "pst": {"timeout": 5.0}}}})
    >>> commands["On"].tasks["pst"].timeout
    5.0
    """

    model_config = ConfigDict(frozen=True)

    @classmethod
    def from_data(cls, data: object) -> Self:
        """Make a map of plain data, as YAML and JSON give it.

        Raises
        ------
        milonga.errors.CommandMapError
            With all problems; each line names the place, what was found and what was expected.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = "\n".join(describe_problems(error, _MODELS))
            raise CommandMapError(f"command map is not valid:\n{problems}") from None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Make a map of JSON text.

        Raises
        ------
        milonga.errors.CommandMapError
            As `from_data` does, or if the text is not JSON.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CommandMapError(f"command map: found {error}, expected JSON text") from None
        return cls.from_data(data)

    def merged_over(self, default: "CommandMap") -> "CommandMap":
        """Return a map with the commands of both; where both have one, this map's."""
        return CommandMap(default.root | self.root)

    def names(self) -> list[str]:
        """Return the names of the commands."""
        return list(self.root)

    def items(self) -> Iterator[tuple[str, CommandSpec]]:
        """Yield the commands with their names."""
        yield from self.root.items()

    def __getitem__(self, name: str) -> CommandSpec:
        return self.root[name]

    def __contains__(self, name: object) -> bool:
        return name in self.root

    def __len__(self) -> int:
        return len(self.root)


_MODELS: dict[str, type[BaseModel]] = {
    "": CommandSpec,
    "<composite>": CompositeSpec,
    "<device>": DeviceSpec,
    "<internal>": InternalSpec,
    "<plan>": PlanStepSpec,
    "<confirm>": ConfirmSpec,
    "<analysis>": AnalysisSpec,
    "<keys>": KeysArgument,
    "<value>": ValueArgument,
    "allowed_states": AllowedStates,
    "policy": PolicySpec,
}


def default_command_map(command_names: Iterable[str]) -> CommandMap:
    """Return the map in which each command goes to all children at the same time.

    Parameters
    ----------
    command_names : iterable of str
        Names of the commands.

    Returns
    -------
    CommandMap
        Each command with one node, ``children``.
    """
    children: dict[str, NodeSpec] = {"children": DeviceSpec(target=EVERY_CHILD)}
    return CommandMap(
        {name: CommandSpec(tasks=children, type=TaskType.PARALLEL) for name in command_names}
    )
