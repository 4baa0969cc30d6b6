"""The control model: enumerations, and state machines as data."""

from milonga.control_model._chosen import (
    AdminMode,
    CommunicationStatus,
    ControlMode,
    HealthState,
    LoggingLevel,
    ObsMode,
    ObsState,
    PowerState,
    ResultCode,
    SimulationMode,
    TaskStatus,
    TestMode,
)
from milonga.control_model._machine import Transitions, allowed_actions, next_state
from milonga.control_model._observation import (
    OBS_COMMANDS,
    OBS_TRANSITIONS,
    ObsCommand,
    ObsStateMachine,
)
from milonga.control_model._operation import (
    ADMIN_MODE_TRANSITIONS,
    COMMAND_STATES,
    COMMUNICATING_MODES,
    FAULT_TRANSITIONS,
    STATE_OF_COMMUNICATION,
    STATE_OF_POWER,
    StateName,
)
from milonga.control_model._status import FINAL_STATUSES, is_final

__all__ = [
    "ADMIN_MODE_TRANSITIONS",
    "COMMAND_STATES",
    "COMMUNICATING_MODES",
    "FAULT_TRANSITIONS",
    "FINAL_STATUSES",
    "OBS_COMMANDS",
    "OBS_TRANSITIONS",
    "STATE_OF_COMMUNICATION",
    "STATE_OF_POWER",
    "AdminMode",
    "CommunicationStatus",
    "ControlMode",
    "HealthState",
    "LoggingLevel",
    "ObsCommand",
    "ObsMode",
    "ObsState",
    "ObsStateMachine",
    "PowerState",
    "ResultCode",
    "SimulationMode",
    "StateName",
    "TaskStatus",
    "TestMode",
    "Transitions",
    "allowed_actions",
    "is_final",
    "next_state",
]
