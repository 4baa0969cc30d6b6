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
    timeout : float, optional
        Seconds that each child may take.
    reject_missing : bool, optional
        Whether the whole command is rejected if a target is missing or not allowed.
    optional : bool, optional
        Whether the target may be unknown, and its failure does not stop a sequence.
    type, skip_subtasks, policy : optional
        For a target that is several children.
    """

    target: Name | None = None
    command: Name | None = None
    argument: ArgumentRule = "full"
    reject_missing: StrictBool = False
    type: CompositeType = TaskType.PARALLEL
    skip_subtasks: StrictBool | None = None
    policy: PolicySpec | None = None

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
    argument, timeout, optional : optional
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
    timeout, optional : optional
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
    timeout : float, optional
        Seconds for all of them together.
    skip_subtasks : bool, optional
        Whether a failure in a sequence rejects the rest; the default is that of the node above.
    optional : bool, optional
        Whether a failure of this node does not stop the sequence that it is a step of.
    policy : PolicySpec, optional
        How their outcomes are joined.
    """

    tasks: "dict[Name, NodeSpec]"
    type: CompositeType = TaskType.SEQUENTIAL
    skip_subtasks: StrictBool | None = None
    policy: PolicySpec | None = None


def _node_tag(value: object) -> str:
    if isinstance(value, CompositeSpec) or (isinstance(value, dict) and "tasks" in value):
        return "<composite>"
    if isinstance(value, InternalSpec) or (isinstance(value, dict) and "internal" in value):
        return "<internal>"
    if isinstance(value, PlanStepSpec) or (isinstance(value, dict) and "plan" in value):
        return "<plan>"
    return "<device>"


def _nothing_is_default(value: object) -> object:
    return {} if value is None else value  # `cbf:` in YAML


NodeSpec = Annotated[
    Annotated[CompositeSpec, Tag("<composite>")]
    | Annotated[DeviceSpec, Tag("<device>")]
    | Annotated[InternalSpec, Tag("<internal>")]
    | Annotated[PlanStepSpec, Tag("<plan>")],
    Discriminator(_node_tag),
    BeforeValidator(_nothing_is_default),
]
"""A node of a command, by the key that it has: `tasks`, `internal`, `plan`, or else a device."""


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
    timeout : float, optional
        Seconds for the whole command.
    skip_subtasks : bool, optional
        Whether a failure in a sequence rejects the rest.
    policy : PolicySpec, optional
        How the outcomes are joined.
    """

    tasks: dict[Name, NodeSpec]
    type: CompositeType = TaskType.SEQUENTIAL
    allowed_states: AllowedStates | None = None
    timeout: Seconds | None = None
    skip_subtasks: StrictBool = False
    policy: PolicySpec | None = None

    @model_validator(mode="after")
    def _not_too_deep(self) -> Self:
        levels = _levels(self)
        if levels > MAX_DEPTH:
            raise ValueError(f"at most {MAX_DEPTH} levels; there are {levels}")
        return self


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
