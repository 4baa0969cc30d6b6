"""Operational state and admin mode, as tables.

Source: lrc-protocol e.1 and e.2. NO_SUPPLY, which the original leaves out, is OFF here.
"""

from typing import Literal

from milonga.control_model._chosen import AdminMode, CommunicationStatus, PowerState

__all__ = [
    "ADMIN_MODE_TRANSITIONS",
    "COMMAND_STATES",
    "COMMUNICATING_MODES",
    "FAULT_TRANSITIONS",
    "STATE_OF_COMMUNICATION",
    "STATE_OF_POWER",
    "StateName",
]

ADMIN_MODE_TRANSITIONS: dict[AdminMode, frozenset[AdminMode]] = {
    AdminMode.ONLINE: frozenset({AdminMode.OFFLINE, AdminMode.ENGINEERING, AdminMode.ONLINE}),
    AdminMode.ENGINEERING: frozenset({AdminMode.OFFLINE, AdminMode.ENGINEERING, AdminMode.ONLINE}),
    AdminMode.OFFLINE: frozenset(AdminMode),
    AdminMode.NOT_FITTED: frozenset({AdminMode.NOT_FITTED, AdminMode.RESERVED, AdminMode.OFFLINE}),
    AdminMode.RESERVED: frozenset({AdminMode.NOT_FITTED, AdminMode.RESERVED, AdminMode.OFFLINE}),
}
"""For each admin mode that is written: the modes from which it may be."""

COMMUNICATING_MODES = frozenset({AdminMode.ONLINE, AdminMode.ENGINEERING})
"""The admin modes in which a device talks to its component."""

STATE_OF_COMMUNICATION: dict[CommunicationStatus, str | None] = {
    CommunicationStatus.DISABLED: "DISABLE",
    CommunicationStatus.NOT_ESTABLISHED: "UNKNOWN",
    CommunicationStatus.ESTABLISHED: None,
}
"""The operational state that a communication status forces; None leaves it to the component."""

STATE_OF_POWER: dict[PowerState, str | None] = {
    PowerState.UNKNOWN: None,
    PowerState.NO_SUPPLY: "OFF",
    PowerState.OFF: "OFF",
    PowerState.STANDBY: "STANDBY",
    PowerState.ON: "ON",
}
"""The operational state that the component's power means; None leaves it as it is."""

FAULT_TRANSITIONS = frozenset({"STANDBY", "ON", "FAULT"})
"""The operational states in which a fault of the component is taken notice of."""

COMMAND_STATES: dict[str, frozenset[str]] = {
    "On": frozenset({"OFF", "STANDBY", "ON", "ALARM", "UNKNOWN"}),
    "Standby": frozenset({"OFF", "STANDBY", "ON", "ALARM", "UNKNOWN"}),
    "Off": frozenset({"OFF", "STANDBY", "ON", "ALARM", "UNKNOWN", "FAULT"}),
    "Reset": frozenset({"STANDBY", "ON", "ALARM", "FAULT"}),
}
"""The operational states in which a command may be called; a command not listed may always."""

StateName = Literal[
    "ON",
    "OFF",
    "CLOSE",
    "OPEN",
    "INSERT",
    "EXTRACT",
    "MOVING",
    "STANDBY",
    "FAULT",
    "INIT",
    "RUNNING",
    "ALARM",
    "DISABLE",
    "UNKNOWN",
]
"""The names of the operational states."""
