"""The shape of a topology file, as pydantic models.

What one field may hold is said here; what fields say about each other is in `_topology_checks`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from milonga.control_model import StateName
from milonga.deploy._topology_records import TopologyRecords
from milonga.tasks import UntilSpec

__all__ = [
    "CLASSES",
    "MAX_DEVICES",
    "Analysis",
    "CommandMaps",
    "Controller",
    "Defaults",
    "Device",
    "External",
    "Leaf",
    "Member",
    "PlanDevice",
    "Policies",
    "ScriptStep",
    "Server",
    "Subarray",
    "TopologyFile",
    "TopologyRecords",
]

CLASSES = (
    "MilongaController",
    "MilongaSubarray",
    "LeafSimulator",
    "MotorSimulator",
    "DetectorSimulator",
)
"""Device classes that `python -m milonga.devices` serves."""

SIMULATORS = {"motor": "MotorSimulator", "detector": "DetectorSimulator"}
"""The class of a plan device that does not say, by its type."""

MAX_DEVICES = 10_000
"""Most subarrays, and most leaves, of one topology."""

_PART = r"[A-Za-z0-9_.\-]+"

Trl = Annotated[str, StringConstraints(pattern=rf"^{_PART}/{_PART}/{_PART}$", max_length=255)]
AnyTrl = Annotated[
    str,
    StringConstraints(
        pattern=rf"^(tango://{_PART}:[0-9]+/)?{_PART}/{_PART}/{_PART}(#dbase=no)?$", max_length=255
    ),
]
Name = Annotated[str, StringConstraints(pattern=rf"^{_PART}$", max_length=100)]
_DOTTED = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
_FUNCTION = f"{_DOTTED}:{_DOTTED}"
PlanEntry = Annotated[str, StringConstraints(pattern=rf"^([^=\s:]+=)?{_FUNCTION}$", max_length=255)]
FunctionName = Annotated[str, StringConstraints(pattern=rf"^{_FUNCTION}$", max_length=255)]
PlanEntries = Annotated[tuple[PlanEntry, ...], Field(strict=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


class Defaults(_Model):
    """What holds for every device that does not say otherwise.

    Parameters
    ----------
    timeout : float
        Seconds that a command may take.
    max_queued : int
        Most commands that wait in a device's queue.
    """

    timeout: Seconds = 60.0
    max_queued: Annotated[int, Field(ge=1, le=10_000)] = 32


class Device(_Model):
    """A Tango device and where it runs."""

    name: Name = ""
    device: Trl
    server: Name
    timeout: Seconds | None = None
    properties: dict[str, JsonValue] = Field(default_factory=dict)


class Analysis(_Model):
    """An analysis that a device may run, in a process of its own.

    Parameters
    ----------
    name : str
        What command maps and clients call it.
    target : str
        The function: ``module:function``.
    parameters_model : str, optional
        Pydantic model of its parameters: ``module:Model``.
    python_path : sequence of str, optional
        Folders in which modules are looked for first.
    timeout : float, optional
        Seconds that it may take.
    environment : sequence of str, optional
        Names of environment variables that it needs beside the usual ones.
    """

    name: Name
    target: FunctionName
    parameters_model: FunctionName | None = None
    python_path: Texts = ()
    timeout: Seconds | None = None
    environment: Texts = ()


class Planner(Device):
    """A device that can run plans.

    Parameters
    ----------
    plans : sequence of str
        The plans that may be run: ``module:function``, or ``name=module:function``.
    plan_devices : sequence of str, optional
        Which of the topology's plan devices its plans may use; all if it does not say.
    data_folder : str, optional
        Where the documents of its runs go.
    document_sink : str, optional
        URL of a Tiled server to which they are delivered from there.
    plan_timeout : float, optional
        Seconds after which a plan is aborted, unless RunPlan says otherwise.
    halt_after : float, optional
        Seconds for the cleanup of a plan that is to end, until it is halted.
    max_queued_plans : int, optional
        How many plans may wait behind the one that runs.
    loop_lag_limit : float, optional
        Seconds for which a plan may block the event loop of its server before that is logged.
    analyses : sequence of Analysis, optional
        The analyses that may be run.
    """

    plans: PlanEntries = ()
    plan_devices: Names | None = None
    data_folder: str | None = None
    document_sink: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    plan_timeout: Seconds | None = None
    halt_after: Seconds | None = None
    max_queued_plans: Annotated[int, Field(ge=1)] | None = None
    loop_lag_limit: Seconds | None = None
    analyses: Annotated[tuple[Analysis, ...], Field(strict=False)] = ()


class Controller(Planner):
    """The device that commands subarrays; its children are all of them unless it lists some."""

    name: Name = "controller"
    class_: str = Field("MilongaController", alias="class")
    children: Names | None = None


class Subarray(Planner):
    """A device that commands leaves as one."""

    id: Annotated[int, Field(ge=1, le=999)]
    class_: str = Field("MilongaSubarray", alias="class")
    groups: Names = ("subarray",)
    children: Names

    def model_post_init(self, _context: Any, /) -> None:
        """Name a subarray after its id, unless it has a name."""
        if not self.name:
            object.__setattr__(self, "name", f"subarray-{self.id:02d}")


class ScriptStep(_Model):
    """How a simulated leaf answers one command; the same as `milonga.devices` takes.

    Parameters
    ----------
    state : str, optional
        State in which it is when the command has worked.
    extend : float, optional
        Seconds more than it was given that the command asks for when it starts.
    safety : bool, optional
        Whether the command overtakes all others there.
    """

    duration: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] | None = None
    steps: Annotated[int, Field(ge=0, le=100)] | None = None
    outcome: Literal["ok", "failed", "rejected", "fault", "refused", "never"] | None = None
    message: str | None = None
    state: StateName | None = None
    extend: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] | None = None
    safety: bool | None = None


class Member(_Model):
    """How a parent treats a device.

    Parameters
    ----------
    groups : sequence of str
        Groups that it belongs to, by which command maps and policies name it.
    kind : {"auto", "lrc", "state", "plain"}
        How its commands are followed; "auto" finds out when the device is reached.
    until : dict
        By command, the attribute and the values with which the work is over: beside the result of
        the command, or in its place at a device that knows no long-running commands.
    skip_when_reached : bool
        Whether a command is left out that leads to where the device already is.
    timeouts : dict
        Seconds that a command may take at this device, by command; ``*`` for all others.
    abort_all : bool
        Whether the device is told to Abort when it does not take the abort of a command by its id.
        That ends everything there, also what others have started.
    """

    groups: Names = ()
    kind: Literal["auto", "lrc", "state", "plain"] = "auto"
    until: dict[Name, UntilSpec] = Field(default_factory=dict)
    skip_when_reached: bool = True
    timeouts: dict[str, Seconds] = Field(default_factory=dict)
    abort_all: bool = False


class External(Member):
    """A device of somebody else, which is commanded but neither registered nor started."""

    name: Name
    device: AnyTrl


class Leaf(Member, Device):
    """A device that does the work, or simulates it."""

    name: Name
    class_: str = Field("LeafSimulator", alias="class")
    script: dict[str, ScriptStep] = Field(default_factory=dict)


class PlanDevice(_Model):
    """A device that plans use and nobody commands otherwise: it has no parent.

    Parameters
    ----------
    name : str
        What plans and clients call it.
    device : str
        Its Tango name.
    type : str
        How plans use it: ``motor``, ``detector``, or ``module:Class`` of an ophyd-async device.
    server : str, optional
        The process that it runs in. One without is somebody else's: neither registered nor started.
    class_ : str, optional
        Its Tango class; default: Milonga's simulator of that type.
    properties : mapping
        Its device properties.
    """

    name: Name
    device: AnyTrl
    type: Annotated[str, StringConstraints(pattern=rf"^(motor|detector|{_FUNCTION})$")]
    server: Name | None = None
    class_: str | None = Field(None, alias="class")
    properties: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_a_class(self) -> Self:
        if self.server and not self.class_ and self.type not in SIMULATORS:
            raise ValueError("the key class, since there is no simulator of this type")
        return self

    @property
    def class_name(self) -> str:
        """Its Tango class."""
        return self.class_ or SIMULATORS.get(self.type, "")


class Server(_Model):
    """A device server process: options beyond those that every one gets.

    Parameters
    ----------
    command : sequence of str, optional
        Program and arguments that start it, to which the instance name is added.
        Default: this Python with ``-m milonga.devices``. ``{python}`` stands for this Python.
    tango_name : str
        The server's Tango name, before the slash.
    classes : sequence of str
        Device classes that the program serves beside Milonga's own.
    environment : dict
        Variables to add to the process's environment.
    """

    command: Texts = ()
    tango_name: Name = "milonga-server"
    classes: Names = ()
    environment: dict[str, str] = Field(default_factory=dict)


class CommandMaps(_Model):
    """Commands by the kind of device that has them; checked by `milonga.tasks`."""

    controller: dict[str, JsonValue] = Field(default_factory=dict)
    subarray: dict[str, JsonValue] = Field(default_factory=dict)


class Policies(_Model):
    """Whose failure counts how, by the kind of device that judges; checked by `milonga.tasks`."""

    controller: dict[str, JsonValue] = Field(default_factory=dict)
    subarray: dict[str, JsonValue] = Field(default_factory=dict)


# pydantic's own length limits count valid items only, and would blame the list for a bad item
def _not_many(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(entries) > MAX_DEVICES:
        raise ValueError(f"at most {MAX_DEVICES}")
    return entries


class TopologyFile(_Model):
    """A whole topology file."""

    name: Name
    description: str = ""
    defaults: Defaults = Defaults()
    controller: Controller | None = None
    subarrays: Annotated[tuple[Subarray, ...], Field(strict=False), AfterValidator(_not_many)] = ()
    external: Annotated[tuple[External, ...], Field(strict=False), AfterValidator(_not_many)] = ()
    leaves: Annotated[tuple[Leaf, ...], Field(strict=False), AfterValidator(_not_many)] = ()
    plan_devices: Annotated[
        tuple[PlanDevice, ...], Field(strict=False), AfterValidator(_not_many)
    ] = ()
    servers: dict[Name, Server] = Field(default_factory=dict)
    records: TopologyRecords = TopologyRecords()
    command_map: CommandMaps = CommandMaps()
    policies: Policies = Policies()
