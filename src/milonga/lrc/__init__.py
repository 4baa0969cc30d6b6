"""The long-running-command protocol: serving it and speaking it.

The wire is that of ska-tango-base, versions 1 and 2.
"""

from milonga.lrc._child import ChildDevice, ChildKind, child_device
from milonga.lrc._device import LrcDevice, invoke
from milonga.lrc._expectation import Expectation
from milonga.lrc._invocation import Invocation, OnUpdate, Outcome
from milonga.lrc._network import network
from milonga.lrc._publisher import Publisher
from milonga.lrc._record import Origin
from milonga.lrc._reply import describe
from milonga.lrc._scheduler import Scheduler, Timer
from milonga.lrc._server import CommandServer, Job, Reply, Reporter
from milonga.lrc._table import LEGACY_RETENTION, CommandTable, Push
from milonga.lrc._watched import Sighting, Watch
from milonga.lrc._wire import FINISHED_KEPT, PROTOCOL_VERSIONS

__all__ = [
    "FINISHED_KEPT",
    "LEGACY_RETENTION",
    "PROTOCOL_VERSIONS",
    "ChildDevice",
    "ChildKind",
    "CommandServer",
    "CommandTable",
    "Expectation",
    "Invocation",
    "Job",
    "LrcDevice",
    "OnUpdate",
    "Origin",
    "Outcome",
    "Publisher",
    "Push",
    "Reply",
    "Reporter",
    "Scheduler",
    "Sighting",
    "Timer",
    "Watch",
    "child_device",
    "describe",
    "invoke",
    "network",
]
