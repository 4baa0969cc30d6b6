"""Parts of which a command map is made: children, policies, states."""

import math
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)

from milonga.tasks._kinds import TaskType

__all__ = [
    "EVERY_CHILD",
    "AllowedStates",
    "ChildSpec",
    "CompositeType",
    "Model",
    "Name",
    "PolicySpec",
    "Seconds",
    "UntilSpec",
]

EVERY_CHILD = "*"

Name = Annotated[str, Field(min_length=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


def _composite_type(value: object) -> object:
    name = value.value if isinstance(value, TaskType) else value
    name = name.lower() if isinstance(name, str) else name
    if name in ("sequential", "parallel"):
        return name
    raise ValueError("'sequential' or 'parallel'")


CompositeType = Annotated[TaskType, BeforeValidator(_composite_type)]


class Model(BaseModel):
    """Data in which an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UntilSpec(Model):
    """What a child looks like when a command's work is over.

    A child with long-running commands must say so by its result and by this.

    Parameters
    ----------
    attribute : str, optional
        The attribute that tells.
    reached : sequence of str
        Values, as texts, with which the work is done.
    failed : sequence of str, optional
        Values with which it has failed.
    timeout : float, optional
        Seconds to the value: from the call, or from the result of a child that gives one; the
        command's own deadline if absent.
    """

    attribute: Name = "State"
    reached: Annotated[tuple[Name, ...], Field(min_length=1)]
    failed: tuple[Name, ...] = ("FAULT",)
    timeout: Seconds | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        both = sorted({*self.reached} & {*self.failed})
        if both:
            raise ValueError(f"reached and failed have no value in common; both name {both}")
        return self


class ChildSpec(Model):
    """A child device.

    Parameters
    ----------
    name : str
        Short name, unique among the children.
    trl : str
        Tango resource locator of the device.
    groups : sequence of str, optional
        Groups that the child belongs to.
    kind : {"auto", "lrc", "state", "plain"}, optional
        How its commands are followed: by the long-running-command protocol, by an attribute that
        reaches a value, or by their return. "auto" finds out when the child is reached.
    until : mapping, optional
        Command to what its end looks like. A child of kind "state" tells its ends by this alone;
        one with long-running commands ends well only if its result and this agree.
    skip_when_reached : bool, optional
        Whether a command is left out that leads to where the child already is: what `until`
        says, or for On, Off and Standby the State of that name.
    timeouts : mapping, optional
        Command to the seconds that it may take at this child, whatever the command map says;
        ``"*"`` for all others.
    abort_all : bool, optional
        Whether the child is told to Abort when it does not take the abort of a command by its id.
        That ends everything there, also what others have started.
    """

    name: Name
    trl: Annotated[str, Field(pattern=r"^(tango://[^/\s]+/)?[^/\s]+/[^/\s]+/[^/\s]+$")]
    groups: tuple[Name, ...] = ()
    kind: Literal["auto", "lrc", "state", "plain"] = "auto"
    until: dict[Name, UntilSpec] = Field(default_factory=dict)
    skip_when_reached: StrictBool = True
    timeouts: dict[Name, Seconds] = Field(default_factory=dict)
    abort_all: StrictBool = False

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == EVERY_CHILD:
            raise ValueError("another name, since '*' stands for all children")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "state" and not self.until:
            raise ValueError("the key until where kind is 'state': when each command is over")
        if self.kind == "plain" and self.until:
            raise ValueError("no key until where kind is 'plain'")
        return self

    def timeout_of(self, command: str) -> float | None:
        """Return the seconds that a command may take at this child, if that is said."""
        return self.timeouts.get(command, self.timeouts.get(EVERY_CHILD))

    def is_meant_by(self, target: str) -> bool:
        """Tell whether `target` is the child's name, one of its groups, or ``"*"``."""
        return target in {self.name, EVERY_CHILD} or target in self.groups


class PolicySpec(Model):
    """How the outcomes of subtasks become the outcome of their node.

    Parameters
    ----------
    critical : sequence of str, optional
        Children or groups whose failure is the failure of the whole.
    optional : sequence of str, optional
        Children or groups whose failure is shown, but never critical, whatever their names say.
    min_success : int or float, optional
        How many subtasks, or which part of them (0 to 1), must succeed.
    join : {"all", "any"}, optional
        "any" is satisfied by one success, as `min_success` 1 is.
    weights : mapping, optional
        Child, or subtask of the node, to how much its success counts; 1 for the others.
        `min_success` then is a sum of weights, or a part of their total.
    """

    critical: tuple[Name, ...] = ()
    optional: tuple[Name, ...] = ()
    min_success: StrictInt | StrictFloat | None = None
    join: Literal["all", "any"] = "all"
    weights: dict[Name, Weight] = Field(default_factory=dict)

    @field_validator("min_success")
    @classmethod
    def _countable(cls, value: float | None) -> float | None:
        most = 1 if type(value) is float else math.inf
        if value is not None and not 0 <= value <= most:
            raise ValueError("a number of subtasks, or a part of them as a float from 0 to 1")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        both = sorted(set(self.critical) & set(self.optional))
        if both:
            raise ValueError(f"each name in one of critical and optional; in both: {both}")
        if self.join == "any" and self.min_success not in {None, 1}:
            raise ValueError("no min_success other than 1 where join is 'any'")
        if self.weights and self.min_success is None:
            raise ValueError("the key min_success where there are weights: how much is enough")
        return self

    @property
    def quorum(self) -> float | None:
        """How many subtasks must succeed, or which part of them; None if it does not matter."""
        return 1 if self.join == "any" else self.min_success


class AllowedStates(Model):
    """In which states of a child a command may be sent to it.

    Parameters
    ----------
    attr_name : str
        Attribute of the child.
    attr_value, attr_values : str or sequence of str
        Names of the values; one of the two keys.
    """

    attr_name: Name
    attr_value: Name | tuple[Name, ...] = ()
    attr_values: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.attr_value) == bool(self.attr_values):
            raise ValueError("one of the keys attr_value and attr_values, with at least one name")
        return self

    @property
    def values(self) -> frozenset[str]:
        """The names of the allowed values, in upper case."""
        values = self.attr_values or self.attr_value
        names = (values,) if isinstance(values, str) else values
        return frozenset(name.upper() for name in names)
