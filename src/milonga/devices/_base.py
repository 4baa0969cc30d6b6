"""What all Milonga devices have in common: states, modes, and long-running commands.

The interface is that of an SKABaseDevice (lrc-protocol b.1, c).
"""

import itertools
import logging
import threading
from typing import ClassVar

import tango
from tango.server import Device, attribute, command, device_property

from milonga import __version__
from milonga.control_model import (
    ADMIN_MODE_TRANSITIONS,
    COMMAND_STATES,
    COMMUNICATING_MODES,
    AdminMode,
    ControlMode,
    HealthState,
    LoggingLevel,
    ResultCode,
    SimulationMode,
    TaskStatus,
    TestMode,
)
from milonga.devices._lrc_attributes import add_table_attributes, capacity
from milonga.errors import MilongaError, StateModelError
from milonga.lrc import (
    PROTOCOL_VERSIONS,
    CommandServer,
    CommandTable,
    Job,
    Publisher,
    Push,
    Reply,
    Scheduler,
)

__all__ = ["LRC_REPLY", "POWER_COMMANDS", "MilongaDevice", "reply"]

LRC_REPLY = "DevVarLongStringArray"
"""What a long-running command answers: a ResultCode, and its id or the reason of a refusal."""

POWER_COMMANDS = ("On", "Off", "Standby", "Reset")

BUILD_STATE = f"milonga, {__version__}, Tango device servers for hierarchical command tracking."

MAX_EXECUTING = 2
"""How many commands run at the same time: one, and Abort."""

_LEVELS = {
    LoggingLevel.OFF: logging.CRITICAL + 10,
    LoggingLevel.FATAL: logging.CRITICAL,
    LoggingLevel.ERROR: logging.ERROR,
    LoggingLevel.WARNING: logging.WARNING,
    LoggingLevel.INFO: logging.INFO,
    LoggingLevel.DEBUG: logging.DEBUG,
}
_PUSHED = (
    "State",
    "Status",
    "healthState",
    "adminMode",
    "controlMode",
    "simulationMode",
    "testMode",
    "commandedState",
    "longRunningCommandResult",
)


def reply(answer: Reply) -> tuple[list[int], list[str]]:
    """Put a reply into the form of a DevVarLongStringArray."""
    code, text = answer
    return [int(code)], [text]


class MilongaDevice(Device):
    """A device whose commands are long-running and tracked.

    A subclass says what a command does by `make_job`.
    """

    AdminModeDefault = device_property(
        dtype=str, default_value="OFFLINE", doc="Admin mode of a device that was never told one."
    )
    CommandTimeout = device_property(
        dtype=float, default_value=60.0, doc="Seconds that a command has, unless it has its own."
    )
    MaxQueuedTasks = device_property(
        dtype=int, default_value=32, doc="How many commands may wait while one runs."
    )
    LoggingLevelDefault = device_property(
        dtype="DevUShort", default_value=4, doc="LoggingLevel after initialisation."
    )

    _sizes: ClassVar[dict[str, int]] = {}

    def init_device(self) -> None:
        """Start anew, with no commands."""
        super().init_device()
        self.logger = logging.getLogger(f"milonga.device.{self.get_name()}")
        self._pushes = itertools.count()
        self._state_lock = threading.Lock()
        self._health = HealthState.UNKNOWN
        self._admin_mode = AdminMode.OFFLINE
        self._control_mode = ControlMode.REMOTE
        self._simulation_mode = SimulationMode.FALSE
        self._test_mode = TestMode.NONE
        self._logging_level = LoggingLevel.OFF
        self._commanded_state = "None"
        self.set_logging_level(LoggingLevel(self.LoggingLevelDefault))
        size = capacity(self.MaxQueuedTasks, MAX_EXECUTING)
        self._sizes[type(self).__name__] = max(size, self._sizes.get(type(self).__name__, 0))
        self.scheduler = Scheduler(f"milonga {self.get_name()}", tango.EnsureOmniThread)
        self._table = CommandTable(size, MAX_EXECUTING)
        self._publisher = Publisher(self._push, self.scheduler.call_later, _is_busy)
        self.commands = CommandServer(
            self._table, self._publisher, self.scheduler.call_soon, self.MaxQueuedTasks
        )
        for name in _PUSHED:
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)
        self.set_change_event("_lrcEvent", True, False)
        self._set_operational_state(tango.DevState.DISABLE)
        self._change_admin_mode(self._initial_admin_mode())

    def initialize_dynamic_attributes(self) -> None:
        """Add the attributes whose sizes depend on the queue's."""
        add_table_attributes(
            self, self._read_table, self._sizes[type(self).__name__], MAX_EXECUTING
        )

    def delete_device(self) -> None:
        """Give every command a final state, and end what this device has started."""
        self.commands.close("The device was shut down while the command was under way")
        self.scheduler.close()
        self._publisher.close()
        super().delete_device()

    # What subclasses say

    def make_job(self, name: str, argument: str | None) -> Job:
        """Return what the command `name` does; raise `MilongaError` to refuse it."""
        raise NotImplementedError(name, argument)

    def make_abort_job(self) -> Job:
        """Return how an abort is carried on."""
        return Job("Abort", lambda report: report(status=TaskStatus.COMPLETED))

    # For subclasses

    def publish(self, attribute_name: str, value: object) -> None:
        """Push `value` of an attribute to its subscribers, in order; from any thread."""
        self.put([self.numbered(attribute_name, value)])

    def numbered(self, attribute_name: str, value: object) -> Push:
        """Return a push that comes after all that were numbered before it."""
        return Push(attribute_name, value, next(self._pushes))

    def put(self, pushes: list[Push]) -> None:
        """Send pushes, in order; from any thread that holds no lock."""
        self._publisher.put(pushes)

    def power_command(self, name: str) -> Reply:
        """Submit On, Off, Standby or Reset."""
        state = self.get_state()
        if name == "On" and state is tango.DevState.ALARM:
            return (
                ResultCode.REJECTED,
                "Device is in ALARM state, which is already a substate of ON.",
            )
        if name.upper() == state.name:
            return ResultCode.REJECTED, f"Device is already in {state.name} state."
        return self.submit(name)

    def submit(self, name: str, argument: str | None = None) -> Reply:
        """Submit a command; what Milonga refuses on purpose is REJECTED with its reason."""
        try:
            return self.commands.submit(self.make_job(name, argument))
        except MilongaError as error:
            return ResultCode.REJECTED, str(error)

    def power_started(self, name: str) -> None:
        """Tell where the device is to go; On, Off, Standby and Reset call this when they start."""
        state = self.get_state().name
        target = ("ON" if state == "FAULT" else state) if name == "Reset" else name.upper()
        self._commanded_state = target
        self.publish("commandedState", target)

    def power_reached(self, name: str) -> None:
        """Take the state that the command leads to; to be called when it has worked."""
        target = self._commanded_state if name == "Reset" else name.upper()
        self._set_operational_state(getattr(tango.DevState, target))

    def set_health(self, health: HealthState) -> None:
        """Take a health state; pushed only if it changed."""
        self._health = health
        self.publish("healthState", health)

    # Attributes

    @attribute(dtype=str)
    def buildState(self) -> str:
        """Name, version and description of the software."""
        return BUILD_STATE

    @attribute(dtype=str)
    def versionId(self) -> str:
        """Version of the software."""
        return __version__

    @attribute(dtype=LoggingLevel)
    def loggingLevel(self) -> LoggingLevel:
        """How much the device logs."""
        return self._logging_level

    @loggingLevel.write
    def loggingLevel(self, level: int) -> None:
        self.set_logging_level(LoggingLevel(level))

    @attribute(dtype=HealthState)
    def healthState(self) -> HealthState:
        """How well the device can do its work."""
        return self._health

    @attribute(dtype=AdminMode, memorized=True, hw_memorized=True)
    def adminMode(self) -> AdminMode:
        """What the device may be used for."""
        return self._admin_mode

    @adminMode.write
    def adminMode(self, mode: int) -> None:
        wanted = AdminMode(mode)
        if self._admin_mode not in ADMIN_MODE_TRANSITIONS[wanted]:
            raise StateModelError(
                f"Action to_{wanted.name.lower()} is not allowed in admin mode"
                f" {self._admin_mode.name}"
            )
        self._change_admin_mode(wanted)

    @attribute(dtype=ControlMode, memorized=True, hw_memorized=True)
    def controlMode(self) -> ControlMode:
        """Where the device takes its commands from."""
        return self._control_mode

    @controlMode.write
    def controlMode(self, mode: int) -> None:
        self._control_mode = ControlMode(mode)
        self.publish("controlMode", self._control_mode)

    @attribute(dtype=SimulationMode, memorized=True, hw_memorized=True)
    def simulationMode(self) -> SimulationMode:
        """Whether the device simulates its hardware."""
        return self._simulation_mode

    @simulationMode.write
    def simulationMode(self, mode: int) -> None:
        self._simulation_mode = SimulationMode(mode)
        self.publish("simulationMode", self._simulation_mode)

    @attribute(dtype=TestMode, memorized=True, hw_memorized=True)
    def testMode(self) -> TestMode:
        """Whether the device is under test."""
        return self._test_mode

    @testMode.write
    def testMode(self, mode: int) -> None:
        self._test_mode = TestMode(mode)
        self.publish("testMode", self._test_mode)

    @attribute(dtype=str)
    def commandedState(self) -> str:
        """The state that the last started command leads to."""
        return self._commanded_state

    @attribute(dtype=("DevLong64",), max_dim_x=2)
    def lrcProtocolVersions(self) -> tuple[int, int]:
        """Lowest and highest version of the long-running-command protocol that is served."""
        return PROTOCOL_VERSIONS

    @attribute(dtype=(str,), max_dim_x=2)
    def _lrcEvent(self) -> tuple[str, ...]:
        """News of one command, as change events only: its id, and JSON of what is new."""
        return ()

    @attribute(dtype=(str,), max_dim_x=2)
    def longRunningCommandResult(self) -> tuple[str, ...]:
        """Deprecated: id and JSON of the latest result."""
        return self._table.value("longRunningCommandResult")

    # Commands

    @command(dtype_out=LRC_REPLY)
    def On(self) -> tuple[list[int], list[str]]:
        """Switch on."""
        return reply(self.power_command("On"))

    @command(dtype_out=LRC_REPLY)
    def Off(self) -> tuple[list[int], list[str]]:
        """Switch off."""
        return reply(self.power_command("Off"))

    @command(dtype_out=LRC_REPLY)
    def Standby(self) -> tuple[list[int], list[str]]:
        """Go to stand-by."""
        return reply(self.power_command("Standby"))

    @command(dtype_out=LRC_REPLY)
    def Reset(self) -> tuple[list[int], list[str]]:
        """Recover from a fault."""
        return reply(self.power_command("Reset"))

    @command(dtype_out=LRC_REPLY)
    def Abort(self) -> tuple[list[int], list[str]]:
        """End all commands, here and at the children. Never queued, never refused."""
        return reply(self.commands.abort(self.make_abort_job()))

    @command(dtype_out=LRC_REPLY)
    def AbortCommands(self) -> tuple[list[int], list[str]]:
        """Do what Abort does; deprecated."""
        self.commands.abort(self.make_abort_job())
        return reply((ResultCode.STARTED, "Aborting commands"))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def AbortCommand(self, command_id: str) -> tuple[list[int], list[str]]:
        """End one command, by its id, and leave the others."""
        return reply(self.commands.abort_one(command_id))

    @command(dtype_in=str, dtype_out=str)
    def CheckLongRunningCommandStatus(self, command_id: str) -> str:
        """Return the status of a command by its id; NOT_FOUND if it is not known."""
        return self._table.status_of(command_id).name

    @command(dtype_out=(str,))
    def GetVersionInfo(self) -> list[str]:
        """Return class, name and version of the software."""
        return [f"{type(self).__name__}, {BUILD_STATE}"]

    def is_On_allowed(self) -> bool:
        """Tell whether On may be called."""
        return self._in_state_for("On")

    def is_Off_allowed(self) -> bool:
        """Tell whether Off may be called."""
        return self._in_state_for("Off")

    def is_Standby_allowed(self) -> bool:
        """Tell whether Standby may be called."""
        return self._in_state_for("Standby")

    def is_Reset_allowed(self) -> bool:
        """Tell whether Reset may be called."""
        return self._in_state_for("Reset")

    def set_logging_level(self, level: LoggingLevel) -> None:
        """Make this device log no more than `level` says."""
        self._logging_level = level
        self.logger.setLevel(_LEVELS[level])

    def _in_state_for(self, name: str) -> bool:
        return self.get_state().name in COMMAND_STATES[name]

    def _read_table(self, name: str) -> tuple[str, ...]:
        return self._table.value(name)

    def _initial_admin_mode(self) -> AdminMode:
        try:
            return AdminMode[self.AdminModeDefault.upper()]
        except KeyError:
            expected = ", ".join(mode.name for mode in AdminMode)
            raise StateModelError(
                f"Property AdminModeDefault: found {self.AdminModeDefault!r}; expected one of"
                f" {expected}"
            ) from None

    def _change_admin_mode(self, mode: AdminMode) -> None:
        communicating = self._admin_mode in COMMUNICATING_MODES
        self._admin_mode = mode
        self.publish("adminMode", mode)
        if mode in COMMUNICATING_MODES and not communicating:
            self._set_operational_state(tango.DevState.OFF)
        elif mode not in COMMUNICATING_MODES:
            self._set_operational_state(tango.DevState.DISABLE)

    def _set_operational_state(self, state: tango.DevState) -> None:
        with self._state_lock:
            if state is self.get_state() and self._state_was_set:
                return
            self._state_was_set = True
            self.set_state(state)
            status = f"The device is in {state.name} state."
            self.set_status(status)
            pushes = [self.numbered("State", state), self.numbered("Status", status)]
        self.put(pushes)

    _state_was_set = False

    def _push(self, name: str, value: object) -> None:
        self.push_change_event(name, value)
        if name != "_lrcEvent":
            self.push_archive_event(name, value)


def _is_busy(error: Exception) -> bool:
    """Tell whether a push failed because a command holds the device."""
    return isinstance(error, tango.DevFailed) and any(
        entry.reason == "API_CommandTimedOut" for entry in error.args
    )
