"""Enumerations of the SKA control model, with its names and values.

Source: the SKA control model as used by ska-tango-base 1.3. Where `ska_control_model` is
installed its own classes are used, so that ``is`` and `isinstance` agree with other SKA
software in the process.
"""

from enum import IntEnum

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


class ResultCode(IntEnum):
    """What a command achieved, or how its submission was answered."""

    OK = 0
    STARTED = 1
    QUEUED = 2
    FAILED = 3
    UNKNOWN = 4
    REJECTED = 5
    NOT_ALLOWED = 6
    ABORTED = 7


class TaskStatus(IntEnum):
    """How far a task is; COMPLETED says only that it ran to its end."""

    STAGING = 0
    QUEUED = 1
    IN_PROGRESS = 2
    ABORTED = 3
    NOT_FOUND = 4
    COMPLETED = 5
    REJECTED = 6
    FAILED = 7


class AdminMode(IntEnum):
    """What a device may be used for."""

    ONLINE = 0
    OFFLINE = 1
    ENGINEERING = 2
    NOT_FITTED = 3
    RESERVED = 4


class HealthState(IntEnum):
    """How well a device can do its work."""

    OK = 0
    DEGRADED = 1
    FAILED = 2
    UNKNOWN = 3


class ControlMode(IntEnum):
    """Where a device takes its commands from."""

    REMOTE = 0
    LOCAL = 1


class SimulationMode(IntEnum):
    """Whether a device simulates its hardware."""

    FALSE = 0
    TRUE = 1


class TestMode(IntEnum):
    """Whether a device is under test."""

    __test__ = False  # its name makes pytest take it for a test

    NONE = 0
    TEST = 1


class LoggingLevel(IntEnum):
    """How much a device logs."""

    OFF = 0
    FATAL = 1
    ERROR = 2
    WARNING = 3
    INFO = 4
    DEBUG = 5


class ObsState(IntEnum):
    """How far the observation of a subarray is."""

    EMPTY = 0
    RESOURCING = 1
    IDLE = 2
    CONFIGURING = 3
    READY = 4
    SCANNING = 5
    ABORTING = 6
    ABORTED = 7
    RESETTING = 8
    FAULT = 9
    RESTARTING = 10


class ObsMode(IntEnum):
    """What kind of observation a device takes part in."""

    IDLE = 0
    IMAGING = 1
    PULSAR_SEARCH = 2
    PULSAR_TIMING = 3
    DYNAMIC_SPECTRUM = 4
    TRANSIENT_SEARCH = 5
    VLBI = 6
    CALIBRATION = 7


class PowerState(IntEnum):
    """Whether a component has power; not on the wire."""

    UNKNOWN = 0
    NO_SUPPLY = 1
    OFF = 2
    STANDBY = 3
    ON = 4


class CommunicationStatus(IntEnum):
    """Whether a device talks to its component; not on the wire. Counts from 1."""

    DISABLED = 1
    NOT_ESTABLISHED = 2
    ESTABLISHED = 3
