"""The enumerations in force: ska_control_model's where it is installed, ours elsewhere."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from milonga.control_model._enums import (
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
else:
    try:
        from ska_control_model import (
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
    except ImportError:
        from milonga.control_model._enums import (
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

__all__ = [
    "AdminMode",
    "CommunicationStatus",
    "ControlMode",
    "HealthState",
    "LoggingLevel",
    "ObsMode",
    "ObsState",
    "PowerState",
    "ResultCode",
    "SimulationMode",
    "TaskStatus",
    "TestMode",
]
