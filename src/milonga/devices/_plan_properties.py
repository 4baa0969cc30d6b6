"""What the device properties say of plans: which there are, and what they may use.

Plain data: nothing of the engine is loaded here, since most devices run no plans.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from milonga.devices._named_lines import NamedModel, read_named_lines
from milonga.errors import ArgumentError, CommandMapError
from milonga.tasks import CommandMap, CommandSpec, CompositeSpec, PlanStepSpec

__all__ = [
    "PLAN_SOURCE",
    "EngineLimits",
    "PlanDeviceSpec",
    "RunPlanArgument",
    "plans_named_in",
    "read_plan_devices",
    "read_plans",
    "read_run_plan",
]

_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"

PLAN_SOURCE = re.compile(rf"{_DOTTED}:{_DOTTED}")
"""A function in a module: ``module:function``."""

_ENTRY = re.compile(rf"(?:(?P<name>[^=\s:]+)=)?(?P<source>{PLAN_SOURCE.pattern})")


class PlanDeviceSpec(NamedModel):
    """A device that plans can use.

    Parameters
    ----------
    name : str
        What plans and clients call it; also the first part of the keys of its readings.
    type : str
        ``motor``, ``detector``, or ``module:Class`` of an ophyd-async device.
    trl : str
        Tango resource locator of the device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]+$")]
    type: Annotated[str, Field(pattern=rf"^(motor|detector|{PLAN_SOURCE.pattern})$")]
    trl: Annotated[str, Field(pattern=r"^(tango://[^/\s]+/)?[^/\s]+/[^/\s]+/[^/\s]+$")]


@dataclass(frozen=True)
class EngineLimits:
    """What the properties say of the engine's patience.

    Parameters
    ----------
    halt_after : float
        Seconds for the cleanup of a plan that was told to end.
    max_queued : int
        How many plans may wait.
    lag_limit : float
        Seconds for which a plan may block the event loop before that is logged.

    Raises
    ------
    CommandMapError
        If one of them is not positive.
    """

    halt_after: float = 10.0
    max_queued: int = 32
    lag_limit: float = 1.0

    def __post_init__(self) -> None:
        named = {
            "HaltAfter": self.halt_after,
            "MaxQueuedPlans": self.max_queued,
            "LoopLagLimit": self.lag_limit,
        }
        for name, value in named.items():
            if not value > 0:
                raise CommandMapError(f"Property {name}: found {value}; expected a number > 0")


class RunPlanArgument(BaseModel):
    """What RunPlan takes.

    Parameters
    ----------
    plan : str
        Name of a plan that the device allows.
    arguments : mapping, optional
        What the plan takes, by parameter; devices by their names.
    on_busy : {"reject", "queue"}, optional
        What to do while another plan runs, or is paused.
    timeout : float, optional
        Seconds after which the plan is aborted; that of the property PlanTimeout if absent.
    analysis : str, optional
        Name of an analysis that is run on the plan's documents when it has worked.
    transaction_id, interface : str, optional
        As in any command.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: Annotated[str, Field(strict=True, min_length=1)]
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    on_busy: Literal["reject", "queue"] = "reject"
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    analysis: Annotated[str, Field(strict=True, min_length=1)] | None = None
    transaction_id: str | None = None
    interface: str | None = None


def read_run_plan(text: str | None) -> RunPlanArgument:
    """Read the argument of RunPlan.

    Raises
    ------
    ArgumentError
        Naming each field that is wrong, what was found there and what was expected.

    Examples
    --------
    >>> read_run_plan('{"plan": "count", "arguments": {"num": 3}}').arguments
    {'num': 3}
    """
    try:
        return RunPlanArgument.model_validate_json(text or "{}")
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'argument'}: found"
            f" {str(each['input'])[:60]!r}; expected: {each['msg']}"
            for each in error.errors(include_url=False)
        )
        raise ArgumentError(f"RunPlan: {problems}") from error


def read_plans(lines: Iterable[str]) -> dict[str, str]:
    """Read the property Plans: ``module:function`` or ``name=module:function`` a line.

    Returns
    -------
    dict
        Source by the name of the plan.

    Raises
    ------
    CommandMapError
        If a line has another form, or two plans have one name.

    Examples
    --------
    >>> read_plans(["site.plans:tune", "map=site.plans:make_map"])
    {'tune': 'site.plans:tune', 'map': 'site.plans:make_map'}
    """
    plans: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        entry = _ENTRY.fullmatch(line.strip())
        if entry is None:
            raise CommandMapError(
                f"Property Plans, line {number}: found {line!r}; expected module:function or"
                " name=module:function"
            )
        source = entry["source"]
        name = entry["name"] or source.rpartition(":")[2]
        if name in plans:
            raise CommandMapError(
                f"Property Plans, line {number}: found {name!r} again; expected it once"
            )
        plans[name] = source
    return plans


def read_plan_devices(lines: Iterable[str]) -> tuple[PlanDeviceSpec, ...]:
    """Read the property PlanDevices: one JSON object a line.

    Raises
    ------
    CommandMapError
        If a line is no such object, or two have the same name.
    """
    return tuple(read_named_lines("PlanDevices", PlanDeviceSpec, lines).values())


def plans_named_in(command_map: CommandMap) -> dict[str, tuple[str, ...]]:
    """Return which plans each command of a map runs; commands that run none are left out."""
    named = {name: tuple(_plans_of(spec)) for name, spec in command_map.items()}
    return {name: plans for name, plans in named.items() if plans}


def _plans_of(spec: CommandSpec | CompositeSpec) -> Iterator[str]:
    for node in spec.tasks.values():
        if isinstance(node, PlanStepSpec):
            yield node.plan
        elif isinstance(node, CompositeSpec):
            yield from _plans_of(node)
