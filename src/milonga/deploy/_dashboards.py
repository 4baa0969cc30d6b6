"""Taranta dashboards for the system of a topology, and for nothing else.

An overview of all devices, a board for each device that commands others, and one for its plans
where it runs some. A device whose class is not Milonga's own is shown by its State alone, since
nothing more is known of it.
"""

import json
from pathlib import Path
from typing import Any

from milonga.deploy._dashboard_widgets import Board, attribute, command, heading, status
from milonga.deploy._topology import DeviceEntry, Topology
from milonga.errors import DeploymentError

__all__ = ["dashboards", "write_dashboards"]

_LEFT, _MIDDLE, _RIGHT = 0, 16, 36
_NARROW, _WIDE = 15, 19

_CONTROLLER = "MilongaController"
_SUBARRAY = "MilongaSubarray"
_PARENTS = frozenset({_CONTROLLER, _SUBARRAY})

_POWER = ("On", "Off", "Standby", "Reset")

_OBSERVING = (
    ("AssignResources", "DevString"),
    ("Configure", "DevString"),
    ("Scan", "DevString"),
    ("EndScan", "DevVoid"),
    ("End", "DevVoid"),
    ("ReleaseResources", "DevString"),
    ("ReleaseAllResources", "DevVoid"),
    ("ObsReset", "DevVoid"),
    ("Restart", "DevVoid"),
)

_SERVICE = (("TakeOutOfService", "DevString"), ("ReturnToService", "DevString"))

_PLAN_VERBS = (
    ("Pause", "DevVoid"),
    ("Resume", "DevVoid"),
    ("TriggerAction", "DevString"),
    ("ToggleAction", "DevString"),
    ("StopPlan", "DevVoid"),
)

_OF_CLASS = {
    _CONTROLLER: ("healthState", "adminMode"),
    _SUBARRAY: ("healthState", "adminMode", "obsState"),
    "LeafSimulator": ("healthState", "adminMode"),
    "MotorSimulator": ("position",),
    "DetectorSimulator": ("counts",),
}
"""What the overview shows of a device beside its State."""


def dashboards(topology: Topology) -> dict[str, dict[str, Any]]:
    """Make the dashboards of a system.

    Returns
    -------
    dict
        By file name, what the file has.
    """
    boards = {"overview": _overview(topology)}
    for entry in reversed(topology.devices):
        if entry.class_name in _PARENTS:
            boards[entry.name] = _commanding(topology, entry)
            if entry.properties.get("Plans"):
                boards[f"{entry.name}-plans"] = _plans(topology, entry)
    return {f"{topology.name}-{name}.wj": board.to_data() for name, board in boards.items()}


def write_dashboards(topology: Topology, folder: Path) -> list[Path]:
    """Write the dashboards of a system into a folder; return their files.

    Raises
    ------
    DeploymentError
        If a file cannot be written.
    """
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in dashboards(topology).items():
            file = folder / name
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            files.append(file)
    except OSError as error:
        raise DeploymentError(
            f"dashboards: {error.filename or folder} cannot be written: {error.strerror}"
        ) from error
    return files


def _overview(topology: Topology) -> Board:
    """Show every device with State and health; those that command others first."""
    board = Board(f"{topology.name}: overview")
    board.add([heading(topology.description or topology.name)], _LEFT, _RIGHT + _WIDE)
    board.level()
    for entry in reversed(topology.devices):
        board.add([status(entry.device)], _LEFT, _NARROW)
        for place, name in enumerate(_OF_CLASS.get(entry.class_name, ())):
            board.add([attribute(entry.device, name)], _MIDDLE + 13 * place, 12)
        board.level()
    for trl in _external(topology):
        board.add([status(trl)], _LEFT, _NARROW)
    return board


def _commanding(topology: Topology, entry: DeviceEntry) -> Board:
    """Show one device: what it is asked, what it does, and what came of it."""
    device = entry.device
    board = Board(f"{topology.name}: {entry.name}")
    board.add([heading(f"{entry.name} ({device})")], _LEFT, _RIGHT + _WIDE)
    board.level()
    commands = [command(device, name) for name in _POWER]
    if entry.class_name == _SUBARRAY:
        commands += [command(device, name, takes) for name, takes in _OBSERVING]
    stops = [command(device, "Abort", ask=True), command(device, "AbortCommand", "DevString")]
    board.add([heading("Commands"), *commands, *stops], _LEFT, _NARROW)
    states = [status(device), *(attribute(device, name) for name in _OF_CLASS[entry.class_name])]
    board.add(
        [
            heading("State"),
            *states,
            attribute(device, "commandedState"),
            attribute(device, "healthInfo", height=4),
            attribute(device, "childrenOutOfService"),
            *(command(device, name, takes) for name, takes in _SERVICE),
            heading("Before a command: who would get what"),
            command(device, "DryRun", "DevString", "DevString"),
        ],
        _MIDDLE,
        _WIDE,
    )
    board.add(
        [
            heading("Live tree, with progress and what it waits for"),
            attribute(device, "taskTree", height=16),
            heading("Progress"),
            attribute(device, "longRunningCommandProgress"),
            heading("Commands that wait, run, and have ended"),
            attribute(device, "lrcQueue", height=3),
            attribute(device, "lrcExecuting", height=3),
            attribute(device, "lrcFinished", height=6),
            heading("Last result"),
            attribute(device, "longRunningCommandResult", height=3),
        ],
        _RIGHT,
        _WIDE,
    )
    return board


def _plans(topology: Topology, entry: DeviceEntry) -> Board:
    """Show the plans of a device."""
    device = entry.device
    board = Board(f"{topology.name}: {entry.name} plans")
    board.add([heading(f"Plans of {entry.name} ({device})")], _LEFT, _RIGHT + _WIDE)
    board.level()
    board.add(
        [
            heading("Which plans there are"),
            command(device, "ListPlans", gives="DevVarStringArray"),
            command(device, "DescribePlan", "DevString", "DevString"),
            heading('Run one: {"plan": …, "arguments": {…}}'),
            command(device, "RunPlan", "DevString"),
            *(command(device, name, takes) for name, takes in _PLAN_VERBS),
            command(device, "AbortPlan", ask=True),
            command(device, "HaltPlan", ask=True),
        ],
        _LEFT,
        _NARROW,
    )
    shown = ("engineState", "runningPlan", "planProgress", "lastRunUid", "dataFolder")
    board.add(
        [
            heading("Engine"),
            *(attribute(device, name) for name in shown),
            attribute(device, "actions", height=5),
        ],
        _MIDDLE,
        _WIDE,
    )
    board.add(
        [heading("Live tree"), attribute(device, "taskTree", height=20)],
        _RIGHT,
        _WIDE,
    )
    return board


def _external(topology: Topology) -> list[str]:
    """List the children that the topology does not start itself."""
    own = {entry.device for entry in topology.devices}
    lines = [line for entry in topology.devices for line in entry.properties.get("Children", ())]
    return [
        trl for trl in dict.fromkeys(json.loads(line)["trl"] for line in lines) if trl not in own
    ]
