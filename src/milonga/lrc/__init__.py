"""The long-running-command protocol: serving it and speaking it.

The wire is that of ska-tango-base, versions 1 and 2.
"""

from milonga.lrc._child import ChildDevice, ChildKind, child_device
from milonga.lrc._device import LrcDevice, invoke
from milonga.lrc._expectation import Expectation
from milonga.lrc._invocation import Invocation, OnUpdate, Outcome
from milonga.lrc._job import Job, Reply, Reporter
from milonga.lrc._lane import Lane
from milonga.lrc._network import network
from milonga.lrc._publisher import Publisher
from milonga.lrc._record import CommandRecord, Origin
from milonga.lrc._reply import describe, is_unreachable
from milonga.lrc._requests import TAKEN_TIMED
from milonga.lrc._scheduler import Scheduler, Timer
from milonga.lrc._server import CommandServer
from milonga.lrc._starting import wait_until_started
from milonga.lrc._table import LEGACY_RETENTION, CommandTable, Push
from milonga.lrc._traces import Trace
from milonga.lrc._watched import Sighting, Watch
from milonga.lrc._wire import FINISHED_KEPT, PROTOCOL_VERSIONS

__all__ = [
    "FINISHED_KEPT",
    "LEGACY_RETENTION",
    "PROTOCOL_VERSIONS",
    "TAKEN_TIMED",
    "ChildDevice",
    "ChildKind",
    "CommandRecord",
    "CommandServer",
    "CommandTable",
    "Expectation",
    "Invocation",
    "Job",
    "Lane",
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
    "Trace",
    "Watch",
    "child_device",
    "describe",
    "invoke",
    "is_unreachable",
    "network",
    "wait_until_started",
]
