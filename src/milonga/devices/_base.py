"""What all Milonga devices have in common: versions, states and modes.

The interface is that of an SKABaseDevice (lrc-protocol b.1, c, e.1, e.2).
"""

import threading
from importlib.metadata import PackageNotFoundError, version

import tango
from tango.server import attribute, command, device_property

from milonga import __version__
from milonga.control_model import (
    ADMIN_MODE_TRANSITIONS,
    COMMAND_STATES,
    COMMUNICATING_MODES,
    STATE_OF_COMMUNICATION,
    AdminMode,
    CommunicationStatus,
    ControlMode,
    HealthState,
    ResultCode,
    SimulationMode,
    TestMode,
)
from milonga.devices._debugging import debug_port
from milonga.devices._logging import LoggingDevice
from milonga.devices._tracked import LRC_REPLY, LrcReply, latin1, reply
from milonga.errors import MilongaError, StateModelError
from milonga.lrc import Reply

__all__ = ["POWER_COMMANDS", "MilongaDevice"]

POWER_COMMANDS = ("On", "Off", "Standby", "Reset")

BUILD_STATE = f"milonga, {__version__}, Tango device servers for hierarchical command tracking."

_PUSHED = (
    "State",
    "Status",
    "healthState",
    "adminMode",
    "controlMode",
    "simulationMode",
    "testMode",
    "commandedState",
)


class MilongaDevice(LoggingDevice):
    """A tracked device with the states, modes and power commands of an SKA device.

    A subclass takes up its properties in `set_up`, says what its commands do in `make_job`, and
    follows its component in `communicate`.
    """

    AdminModeDefault = device_property(
        dtype=str, default_value="OFFLINE", doc="Admin mode of a device that was never told one."
    )
    CommandTimeout = device_property(
        dtype=float,
        default_value=60.0,
        doc="Seconds that a command has, unless it has its own. 0: no limit on a leaf device.",
    )
    DebugEnabled = device_property(
        dtype=bool, default_value=False, doc="Whether DebugDevice may be called."
    )
    SkaLevel = device_property(
        dtype="DevShort", default_value=4, doc="How important the device is, from 1 to 6."
    )
    GroupDefinitions = device_property(
        dtype=(str,), default_value=(), doc="Groups of devices, as JSON; kept for compatibility."
    )

    submittable: tuple[str, ...] = POWER_COMMANDS

    def init_device(self) -> None:
        """Start anew; a property that is wrong leads to FAULT, with the reason in Status."""
        super().init_device()
        self._state_lock = threading.Lock()
        self._state_was_set = False
        self._failed_init = False
        self._health = HealthState.UNKNOWN
        self._admin_mode = AdminMode.OFFLINE
        self._control_mode = ControlMode.REMOTE
        self._simulation_mode = SimulationMode.FALSE
        self._test_mode = TestMode.NONE
        self._commanded_state = "None"
        self.announce(*_PUSHED)
        for name in ("milonga", "ska_control_model", "ska_tango_base"):
            _add_version(self, name)
        self._set_operational_state("INIT")
        try:
            self.set_up()
            mode = self._initial_admin_mode()
        except MilongaError as error:
            self.logger.error("init_device failed: %s", error)  # noqa: TRY400 - the text says it
            self._failed_init = True
            self._set_operational_state("FAULT", f" - init_device failed. {error}")
            return
        self._set_operational_state("DISABLE")
        self._change_admin_mode(mode)

    # What subclasses say

    def set_up(self) -> None:
        """Take up the properties; raise `MilongaError` for one that is wrong."""

    def communicate(self, wanted: bool) -> None:
        """Begin or stop to talk to the component, as the admin mode says; tell by `connected`."""
        status = CommunicationStatus
        self.connected(status.ESTABLISHED if wanted else status.DISABLED, state="OFF")

    def default_timeout(self) -> float | None:
        """Return CommandTimeout."""
        return self.CommandTimeout if self.CommandTimeout > 0 else None

    # For subclasses

    def connected(self, status: CommunicationStatus, state: str | None = None) -> None:
        """Take note of the communication with the component, and of the state that it is in."""
        forced = STATE_OF_COMMUNICATION[status]
        if forced is not None or state is not None:
            self._set_operational_state(forced or str(state))

    def refusal_before_queue(self, name: str) -> Reply | None:
        """Refuse a power command that has nothing to do, and all if the device did not start."""
        if self._failed_init:
            return self.not_set_up(name)
        state = self.get_state().name
        if name not in POWER_COMMANDS:
            return None
        if name == "On" and state == "ALARM":
            text = "Device is in ALARM state, which is already a substate of ON."
            return ResultCode.REJECTED, text
        if name.upper() == state:
            return ResultCode.REJECTED, f"Device is already in {state} state."
        return None

    @staticmethod
    def not_set_up(name: str) -> Reply:
        """Return the refusal of a call to a device of which a property is wrong."""
        text = f"{name}: init_device failed; see Status, put right what it names, call Init"
        return ResultCode.REJECTED, text

    def power_started(self, name: str) -> None:
        """Tell where the device is to go; to be called when a power command starts."""
        state = self.get_state().name
        target = ("ON" if state == "FAULT" else state) if name == "Reset" else name.upper()
        self._commanded_state = target
        self.publish("commandedState", target)

    def power_reached(self, name: str) -> None:
        """Take the state that a power command leads to; to be called when it has worked.

        A device that was taken out of use meanwhile stays DISABLE.
        """
        if self._admin_mode not in COMMUNICATING_MODES:
            return
        self._set_operational_state(self._commanded_state if name == "Reset" else name.upper())

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
                f"Action to_{wanted.name.replace('_', '').lower()} is not allowed in admin mode"
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

    # Commands

    @command(dtype_out=LRC_REPLY)
    def On(self) -> LrcReply:
        """Switch on."""
        return reply(self.submit("On"))

    @command(dtype_out=LRC_REPLY)
    def Off(self) -> LrcReply:
        """Switch off."""
        return reply(self.submit("Off"))

    @command(dtype_out=LRC_REPLY)
    def Standby(self) -> LrcReply:
        """Go to stand-by."""
        return reply(self.submit("Standby"))

    @command(dtype_out=LRC_REPLY)
    def Reset(self) -> LrcReply:
        """Recover from a fault."""
        return reply(self.submit("Reset"))

    @command(dtype_out="DevUShort")
    def DebugDevice(self) -> int:
        """Let a debugger attach, on loopback only; return its port. A second call is a breakpoint.

        Refused unless the property DebugEnabled is set, and debugpy is installed.
        """
        return debug_port(self.DebugEnabled)

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

    def _in_state_for(self, name: str) -> bool:
        return self.get_state().name in COMMAND_STATES[name]

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
        communicating, wanted = (m in COMMUNICATING_MODES for m in (self._admin_mode, mode))
        self._admin_mode = mode
        self.publish("adminMode", mode)
        if wanted is not communicating and not self._failed_init:  # else State stays as it is
            self.communicate(wanted)

    def _set_operational_state(self, name: str, remark: str = ".") -> None:
        state = getattr(tango.DevState, name)
        with self._state_lock:
            if state is self.get_state() and self._state_was_set:
                return
            self._state_was_set = True
            self.set_state(state)
            status = latin1(f"The device is in {name} state{remark}")
            self.set_status(status)
            pushes = [self.numbered("State", state), self.numbered("Status", status)]
        self.put(pushes)


def _add_version(device: tango.DeviceImpl, package: str) -> None:
    try:
        device.add_version_info(package, version(package.replace("_", "-")))
    except PackageNotFoundError:
        return
