"""The interface of an SKA device as data: what its clients may count on.

Each table is one of the specification of the long-running-command protocol, whose letters are in
the names. `DIFFERENCES` says where Milonga differs on purpose, and why; nothing else may differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

BOTH, CHANGE, NEITHER = "change and archive", "change", "none"
"""Which events can be subscribed to."""

ANYTHING = object()
"""A start value that is not laid down."""


@dataclass(frozen=True)
class Attribute:
    """What a device says of one attribute, and its value after the start."""

    type: str
    dim_x: int = 1
    events: str = NEITHER
    start: object = ANYTHING
    writable: bool = False
    memorised: bool = False
    unit: str = ""
    limits: tuple[str, str] = ("Not specified", "Not specified")
    labels: str = ""


def _mode(labels: str, start: int) -> Attribute:
    return Attribute(
        "DevEnum", events=BOTH, start=start, writable=True, memorised=True, labels=labels
    )


_TEXT = "DevString"
_OBS_STATES = (
    "EMPTY RESOURCING IDLE CONFIGURING READY SCANNING ABORTING ABORTED RESETTING FAULT RESTARTING"
)

B1_BASE: Mapping[str, Attribute] = {
    "State": Attribute("DevState", events=BOTH, start="DISABLE"),
    "Status": Attribute(_TEXT, events=BOTH, start="The device is in DISABLE state."),
    "buildState": Attribute(_TEXT),
    "versionId": Attribute(_TEXT),
    "loggingLevel": Attribute(
        "DevEnum", start=4, writable=True, labels="OFF FATAL ERROR WARNING INFO DEBUG"
    ),
    "loggingTargets": Attribute(_TEXT, 4, start=("tango::logger",), writable=True),
    "healthState": Attribute("DevEnum", events=BOTH, start=3, labels="OK DEGRADED FAILED UNKNOWN"),
    "adminMode": _mode("ONLINE OFFLINE ENGINEERING NOT_FITTED RESERVED", start=1),
    "controlMode": _mode("REMOTE LOCAL", start=0),
    "simulationMode": _mode("FALSE TRUE", start=0),
    "testMode": _mode("NONE TEST", start=0),
    "commandedState": Attribute(_TEXT, events=BOTH, start="None"),
    "lrcProtocolVersions": Attribute("DevLong64", 2, start=(1, 2)),
    "lrcQueue": Attribute(_TEXT, 66, events=BOTH, start=()),
    "lrcExecuting": Attribute(_TEXT, 3, events=BOTH, start=()),
    "lrcFinished": Attribute(_TEXT, 100, events=BOTH, start=()),
    "_lrcEvent": Attribute(_TEXT, 2, events=CHANGE, start=()),
    "longRunningCommandsInQueue": Attribute(_TEXT, 66, events=BOTH, start=()),
    "longRunningCommandIDsInQueue": Attribute(_TEXT, 66, events=BOTH, start=()),
    "longRunningCommandStatus": Attribute(_TEXT, 132, events=BOTH, start=()),
    "longRunningCommandInProgress": Attribute(_TEXT, 2, events=BOTH, start=()),
    "longRunningCommandProgress": Attribute(_TEXT, 4, events=BOTH, start=()),
    "longRunningCommandResult": Attribute(_TEXT, 2, events=BOTH, start=("", "")),
}

B2_CONTROLLER: Mapping[str, Attribute] = {
    "elementLoggerAddress": Attribute(_TEXT, start=""),
    "elementAlarmAddress": Attribute(_TEXT, start=""),
    "elementTelStateAddress": Attribute(_TEXT, start=""),
    "elementDatabaseAddress": Attribute(_TEXT, start=""),
    "maxCapabilities": Attribute(_TEXT, 20, start=("BAND1:3", "PSS:2")),
    "availableCapabilities": Attribute(_TEXT, 20, start=("BAND1:3", "PSS:2")),
}

B3_OBS_DEVICE: Mapping[str, Attribute] = {
    "obsState": Attribute("DevEnum", events=BOTH, start=0, labels=_OBS_STATES),
    "commandedObsState": Attribute("DevEnum", events=BOTH, start=0, labels=_OBS_STATES),
    "obsMode": Attribute(
        "DevEnum",
        events=BOTH,
        start=0,
        labels="IDLE IMAGING PULSAR_SEARCH PULSAR_TIMING DYNAMIC_SPECTRUM TRANSIENT_SEARCH VLBI"
        " CALIBRATION",
    ),
    "configurationProgress": Attribute("DevUShort", start=0, unit="%", limits=("0", "100")),
    "configurationDelayExpected": Attribute("DevUShort", start=0, unit="seconds"),
}

B4_SUBARRAY: Mapping[str, Attribute] = {
    "activationTime": Attribute("DevDouble", start=0.0, unit="s"),
    "assignedResources": Attribute(_TEXT, 512, start=()),
    "configuredCapabilities": Attribute(_TEXT, 10, start=()),
}

REFUSED_EVENT = "API_AttributePollingNotStarted"
"""The reason with which a subscription is refused to an attribute that has no such events."""

LRC = "DevVarLongStringArray"

C_COMMANDS: Mapping[str, tuple[str, str]] = {
    "Init": ("DevVoid", "DevVoid"),
    "State": ("DevVoid", "DevState"),
    "Status": ("DevVoid", _TEXT),
    "On": ("DevVoid", LRC),
    "Standby": ("DevVoid", LRC),
    "Off": ("DevVoid", LRC),
    "Reset": ("DevVoid", LRC),
    "Abort": ("DevVoid", LRC),
    "AbortCommands": ("DevVoid", LRC),
    "CheckLongRunningCommandStatus": (_TEXT, _TEXT),
    "GetVersionInfo": ("DevVoid", "DevVarStringArray"),
    "DebugDevice": ("DevVoid", "DevUShort"),
    "ExecutePendingOperations": ("DevVoid", "DevVoid"),
}

C_CONTROLLER: Mapping[str, tuple[str, str]] = {
    "IsCapabilityAchievable": (LRC, "DevBoolean"),
}

C_SUBARRAY: Mapping[str, tuple[str, str]] = {
    "AssignResources": (_TEXT, LRC),
    "ReleaseResources": (_TEXT, LRC),
    "ReleaseAllResources": ("DevVoid", LRC),
    "Configure": (_TEXT, LRC),
    "Scan": (_TEXT, LRC),
    "EndScan": ("DevVoid", LRC),
    "End": ("DevVoid", LRC),
    "ObsReset": ("DevVoid", LRC),
    "Restart": ("DevVoid", LRC),
}

C_STATES: Mapping[str, frozenset[str]] = {
    "On": frozenset({"OFF", "STANDBY", "ON", "ALARM", "UNKNOWN"}),
    "Standby": frozenset({"OFF", "STANDBY", "ON", "ALARM", "UNKNOWN"}),
    "Off": frozenset({"OFF", "STANDBY", "ON", "ALARM", "UNKNOWN", "FAULT"}),
    "Reset": frozenset({"STANDBY", "ON", "ALARM", "FAULT"}),
}
"""In which operational states a command may be called; the others may be in all."""

C_EARLY: Mapping[tuple[str, str], str] = {
    ("On", "ON"): "Device is already in ON state.",
    ("Standby", "STANDBY"): "Device is already in STANDBY state.",
    ("Off", "OFF"): "Device is already in OFF state.",
}
"""What a command is REJECTED with at once in an operational state."""

C_OBS_STATES: Mapping[str, frozenset[str]] = {
    "AssignResources": frozenset({"EMPTY", "IDLE"}),
    "ReleaseResources": frozenset({"EMPTY", "IDLE"}),
    "ReleaseAllResources": frozenset({"EMPTY", "IDLE"}),
    "Configure": frozenset({"IDLE", "READY"}),
    "Scan": frozenset({"READY"}),
    "EndScan": frozenset({"SCANNING"}),
    "End": frozenset({"IDLE", "READY"}),
    "Abort": frozenset({"RESOURCING", "IDLE", "CONFIGURING", "READY", "SCANNING", "RESETTING"}),
    "ObsReset": frozenset({"FAULT", "ABORTED"}),
    "Restart": frozenset({"FAULT", "ABORTED"}),
}
"""In which obsStates a subarray's command may be called."""

C_COMMANDED: Mapping[str, str] = {
    "AssignResources": "IDLE",
    "ReleaseResources": "IDLE",
    "ReleaseAllResources": "EMPTY",
    "Configure": "READY",
    "Scan": "READY",
    "EndScan": "READY",
    "End": "IDLE",
    "Abort": "ABORTED",
    "ObsReset": "IDLE",
    "Restart": "EMPTY",
}
"""What commandedObsState says once a command has started."""

C_ARGUMENTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("AssignResources", "", ("AssignResources: argument is not JSON", "expected a JSON object")),
    ("AssignResources", "{no", ("argument is not JSON", "found '{no'", "expected a JSON object")),
    ("AssignResources", "[1]", ("argument is a JSON array", "expected a JSON object")),
    ("AssignResources", "null", ("argument is a JSON null", "expected a JSON object")),
    ("AssignResources", '{"subarray_id": "1"}', ("subarray_id: found '1'; expected: ",)),
    ("AssignResources", '{"subarray_id": 2}', ("subarray_id: found 2; expected 1",)),
    ("AssignResources", '{"transaction_id": 7}', ("transaction_id: found 7; expected: ",)),
    ("ReleaseResources", '"all"', ("argument is a JSON string", "expected a JSON object")),
    ("ReleaseResources", '{"release_all": 1}', ("release_all: found 1; expected: ",)),
)
"""Arguments that a subarray in EMPTY cannot take, and what its answer tells: what was wrong."""

E2_ADMIN_MODES: Mapping[str, frozenset[str]] = {
    "ONLINE": frozenset({"OFFLINE", "ENGINEERING", "ONLINE"}),
    "ENGINEERING": frozenset({"OFFLINE", "ENGINEERING", "ONLINE"}),
    "OFFLINE": frozenset({"ONLINE", "OFFLINE", "ENGINEERING", "NOT_FITTED", "RESERVED"}),
    "NOT_FITTED": frozenset({"NOT_FITTED", "RESERVED", "OFFLINE"}),
    "RESERVED": frozenset({"NOT_FITTED", "RESERVED", "OFFLINE"}),
}
"""For each admin mode that is written: from which ones it may be."""


@dataclass(frozen=True)
class Move:
    """A command in an obsState, what the child makes of it, and the obsStates that follow."""

    origin: str
    command: str
    outcome: str
    path: str
    row: str
    """What the specification calls it; ``ours`` where it has no such row."""


E3_WAYS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "EMPTY": (),
    "RESOURCING": (("AssignResources", "never"),),
    "RESOURCING with resources": (("AssignResources", "ok"), ("AssignResources", "never")),
    "IDLE": (("AssignResources", "ok"),),
    "CONFIGURING": (("AssignResources", "ok"), ("Configure", "never")),
    "READY": (("AssignResources", "ok"), ("Configure", "ok")),
    "CONFIGURING again": (
        ("AssignResources", "ok"),
        ("Configure", "ok"),
        ("Configure", "never"),
    ),
    "SCANNING": (("AssignResources", "ok"), ("Configure", "ok"), ("Scan", "ok")),
    "SCANNING still": (("AssignResources", "ok"), ("Configure", "ok"), ("Scan", "never")),
    "ABORTED": (("AssignResources", "ok"), ("Abort", "ok")),
    "ABORTED without resources": (("AssignResources", "never"), ("Abort", "ok")),
    "RESETTING": (("AssignResources", "ok"), ("Abort", "ok"), ("ObsReset", "never")),
    "FAULT": (("AssignResources", "ok"), ("Configure", "fault")),
    "FAULT without resources": (("AssignResources", "fault"),),
    "RESTARTING": (("AssignResources", "ok"), ("Abort", "ok"), ("Restart", "never")),
}
"""How each obsState is reached from EMPTY: commands, and what the child makes of them."""

E3_MOVES: tuple[Move, ...] = (
    Move("EMPTY", "AssignResources", "ok", "RESOURCING IDLE", "component_resourced"),
    Move("EMPTY", "AssignResources", "failed", "RESOURCING EMPTY", "assign_completed"),
    Move("EMPTY", "ReleaseResources", "ok", "RESOURCING EMPTY", "release_completed"),
    Move("EMPTY", "ReleaseAllResources", "ok", "RESOURCING EMPTY", "release_completed"),
    Move("IDLE", "AssignResources", "ok", "RESOURCING IDLE", "assign_completed"),
    Move("IDLE", "AssignResources", "failed", "RESOURCING IDLE", "assign_completed"),
    Move("IDLE", "ReleaseResources", "ok", "RESOURCING IDLE", "release_completed"),
    Move("IDLE", "ReleaseAllResources", "ok", "RESOURCING EMPTY", "component_unresourced"),
    Move("IDLE", "ReleaseAllResources", "failed", "RESOURCING IDLE", "release_completed"),
    Move("IDLE", "Configure", "ok", "CONFIGURING READY", "component_configured"),
    Move("IDLE", "Configure", "failed", "CONFIGURING IDLE", "configure_completed"),
    Move("IDLE", "End", "ok", "", "no row"),
    Move("READY", "Configure", "ok", "CONFIGURING READY", "configure_invoked"),
    Move("READY", "Configure", "failed", "CONFIGURING READY", "configure_completed"),
    Move("READY", "End", "ok", "IDLE", "component_unconfigured"),
    Move("READY", "End", "failed", "", "no row"),
    Move("READY", "Scan", "ok", "SCANNING", "component_scanning"),
    Move("SCANNING", "EndScan", "ok", "READY", "component_not_scanning"),
    Move("SCANNING", "EndScan", "failed", "", "no row"),
    Move("RESOURCING", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("RESOURCING with resources", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("IDLE", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("CONFIGURING", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("CONFIGURING again", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("READY", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("SCANNING", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("SCANNING still", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("RESETTING", "Abort", "ok", "ABORTING ABORTED", "abort_invoked"),
    Move("ABORTED", "ObsReset", "ok", "RESETTING IDLE", "obsreset_completed"),
    Move("ABORTED without resources", "ObsReset", "ok", "RESETTING EMPTY", "obsreset_completed"),
    Move("FAULT", "ObsReset", "ok", "RESETTING IDLE", "obsreset_completed"),
    Move("ABORTED", "Restart", "ok", "RESTARTING EMPTY", "restart_completed"),
    Move("FAULT", "Restart", "ok", "RESTARTING EMPTY", "restart_completed"),
    Move("EMPTY", "AssignResources", "fault", "RESOURCING FAULT", "component_obsfault"),
    Move("IDLE", "Configure", "fault", "CONFIGURING FAULT", "component_obsfault"),
    Move("FAULT without resources", "ObsReset", "ok", "RESETTING EMPTY", "ours"),
    Move("RESTARTING", "Abort", "ok", "ABORTING ABORTED", "ours"),
    Move("EMPTY", "Abort", "ok", "", "ours"),
    Move("ABORTED", "Abort", "ok", "", "ours"),
    Move("FAULT", "Abort", "ok", "", "ours"),
    Move("ABORTED", "ObsReset", "failed", "RESETTING FAULT", "ours"),
    Move("ABORTED", "Restart", "failed", "RESTARTING FAULT", "ours"),
    Move("READY", "Scan", "failed", "SCANNING READY", "ours"),
)

G_PROPERTIES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "base": {
        "SkaLevel": ("DevShort", "4"),
        "GroupDefinitions": ("DevVarStringArray", ""),
        "LoggingLevelDefault": ("DevUShort", "4"),
        "LoggingTargetsDefault": ("DevVarStringArray", "tango::logger"),
    },
    "MilongaController": {"MaxCapabilities": ("DevVarStringArray", "")},
    "MilongaSubarray": {"CapabilityTypes": ("DevVarStringArray", ""), "SubID": ("DevString", "")},
    "LeafSimulator": {},
}
"""Type and default of the device properties, by class."""


@dataclass(frozen=True)
class Difference:
    """Something in which Milonga differs from ska-tango-base on purpose."""

    original: object
    ours: object
    reason: str


DIFFERENCES: Mapping[tuple[str, str], Difference] = {
    ("configurationProgress", "events"): Difference(
        NEITHER, BOTH, "j.13: their events are armed, but nobody could subscribe to them"
    ),
    ("configurationDelayExpected", "events"): Difference(
        NEITHER, BOTH, "j.13: their events are armed, but nobody could subscribe to them"
    ),
    ("ExecutePendingOperations", "command"): Difference(
        "present", "absent", "j.4: there is no 100 ms tick, so nothing has to be polled"
    ),
    ("Abort", "obsStates"): Difference(
        "six obsStates", "all", "j.7, j.8: a subarray's On and Restart can be aborted"
    ),
    ("controlMode", "pushed"): Difference(False, True, "j.12: events were armed, and never pushed"),
    ("simulationMode", "pushed"): Difference(
        False, True, "j.12: events were armed, and never pushed"
    ),
    ("testMode", "pushed"): Difference(False, True, "j.12: events were armed, and never pushed"),
    ("argument", "refusal"): Difference(
        "DevFailed",
        "REJECTED",
        "a wrong argument is a foreseen refusal, and its text is for people to read",
    ),
    ("refused command", "record"): Difference(
        "STAGING for ever", "none", "j.1, j.2: the records made the device useless"
    ),
    ("submitted_time", "tables"): Difference(
        "absent", "present", "j.6: it is documented, and a misspelling kept it away"
    ),
    ("client", "tables"): Difference("absent", "present", "who called a command can be seen"),
    ("result", "lrcFinished"): Difference(
        "may be absent", "always present", "clients index it without looking"
    ),
    ("AbortCommands", "record"): Difference(
        "none", "an Abort", "who aborted what, and when it was done, can be seen"
    ),
    ("State UNKNOWN", "going online"): Difference(
        "pushed", "skipped", "a simulator has no connection to wait for"
    ),
    ("events", "tick"): Difference("0 to 100 ms late", "at once", "j.4"),
}
"""All deliberate differences, by subject and aspect."""


_SERVICE = "a child that is under repair gets no commands"
_RECORDS = "what has happened is kept, and can be asked for"
_PLANS = "a parent can run plans of many steps"
ADDED: Mapping[str, Mapping[str, str]] = {
    "everywhere": {
        "AbortCommand": "j.9: one command can be aborted and the others go on",
        "startedAt": "a client can tell a forgotten command from one that never came",
        "SubmitCommand": "a call can carry an idempotency key and a transaction id",
    },
    "parents": {
        "CommandTree": "what has become of each part of a command",
        **dict.fromkeys(("taskTree", "taskTreeDelta"), "the trees of all commands, live"),
        "DryRun": "what a command would do",
        **dict.fromkeys(
            (
                *("GetTask", "GetTaskLog", "QueryTasks", "ExplainTask"),
                *("SubscribeTask", "UnsubscribeTask"),
            ),
            _RECORDS,
        ),
        **dict.fromkeys(("recordStore", "recordStoreAway"), _RECORDS),
        **dict.fromkeys(("pendingSteps", "ClearStep"), "a command can wait for a person"),
        "healthInfo": "why the health is as it is",
        "lastOutcomes": "what became of each child, as data",
        "lrcStatistics": "what was late, doubled, reordered, missing or lost",
        **dict.fromkeys(("TakeOutOfService", "ReturnToService", "childrenOutOfService"), _SERVICE),
        **dict.fromkeys(
            ("RunPlan", "ListPlans", "DescribePlan", "StopPlan", "AbortPlan", "HaltPlan"), _PLANS
        ),
        **dict.fromkeys(("Pause", "Resume", "TriggerAction", "ToggleAction", "actions"), _PLANS),
        **dict.fromkeys(
            ("engineState", "planProgress", "runningPlan", "lastRunUid", "dataFolder"), _PLANS
        ),
        **dict.fromkeys(("planProblem", "documentsLost"), _PLANS),
        "lastAnalysis": "what came of the last analysis, without a look into the records",
        "documentsWaiting": "where the documents of plans are sent may be away",
    },
    "leaves": {
        "script": "what a simulated leaf does",
        **dict.fromkeys(C_SUBARRAY, "a leaf stands in for a subsystem of a subarray"),
    },
}
"""Commands and attributes that the original does not have, and what they are for."""


def ours(name: str, aspect: str, original: object) -> object:
    """Return what Milonga shows where an SKA device shows `original`."""
    difference = DIFFERENCES.get((name, aspect))
    if difference is None:
        return original
    assert difference.original == original, f"the table of differences is wrong: {name}, {aspect}"
    return difference.ours


def left_out(aspect: str) -> frozenset[str]:
    """Return what Milonga does not have."""
    return frozenset(
        name
        for (name, what), difference in DIFFERENCES.items()
        if what == aspect and difference.ours == "absent"
    )
