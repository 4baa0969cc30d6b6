"""Whatever goes wrong, the first line of an explanation names the device and the cause.

Faults are prepared on a real system of a controller, a subarray and leaves; what is said of each is
the same from the records, from the device, in itango, and from a device without records.
"""

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tango
from typer.testing import CliRunner

from milonga.cli._app import app
from milonga.cli._asking import _explained_by_tree, explain
from milonga.cli._looking import TreeReader
from milonga.deploy import Topology
from milonga.lrc import Invocation, LrcDevice
from milonga.records import MAX_FIRST_LINE
from milonga.testing import FaultySystem, LeafHandle

from .outcomes import ended

HERE = Path(__file__).parent
HAS_TILED = importlib.util.find_spec("tiled") is not None
SINK = "document_sink: http://127.0.0.1:9" if HAS_TILED else ""  # where nobody listens
LEAF = '["{python}", "-m", milonga.testing], tango_name: milonga-faulty, classes: [FaultyLeaf]'
TOPOLOGY = f"""
name: faults
defaults: {{timeout: 20.0}}
controller:
  device: faults/control/0
  server: parents
  properties: {{DeadlineMargin: 1.5}}
subarrays:
  - device: faults/subarray/01
    id: 1
    server: parents
    children: [leaf-01, leaf-02, leaf-03]
    properties: {{DeadlineMargin: 1.5}}
    plans: [site_plans:raising, site_plans:command, "milonga.engine.plans:scan"]
    {SINK}
    analyses:
      - {{name: broken, target: "site_analyses:broken", python_path: [{HERE}]}}
      - name: talk
        target: site_analyses:talk
        parameters_model: site_analyses:TalkParameters
        python_path: [{HERE}]
leaves:
  - {{name: leaf-01, device: faults/leaf/01, class: FaultyLeaf, server: leaves}}
  - {{name: leaf-02, device: faults/leaf/02, class: FaultyLeaf, server: leaves}}
  - {{name: leaf-03, device: faults/leaf/03, class: FaultyLeaf, server: mortal}}
plan_devices:
  - name: motor
    device: faults/motor/1
    type: motor
    server: parents
    properties: {{Velocity: 200.0}}
  - name: detector
    device: faults/detector/1
    type: detector
    server: parents
    properties: {{Motor: faults/motor/1, Noise: 0.0, Exposure: 0.005}}
servers:
  parents:
    environment: {{PYTHONPATH: {HERE}, TILED_API_KEY: secret, TILED_RETRY_ATTEMPTS: "1"}}
  leaves: {{command: {LEAF}}}
  mortal: {{command: {LEAF}}}
command_map:
  controller:
    Off:
      tasks:
        broken: {{target: subarray-01, command: AssignResources, argument: {{value: "{{oops"}}}}
  subarray:
    AssignResources: {{tasks: {{raising: {{plan: "site_plans:raising", arguments: {{}}}}}}}}
    Off: {{tasks: {{enough: {{target: "*", policy: {{min_success: 2}}}}}}}}
"""
SCAN = {"detectors": ["detector"], "motor": "motor", "start": -2.0, "stop": 2.0, "num": 5}
LEAVES = ("leaf-01", "leaf-02", "leaf-03")


@pytest.fixture(scope="module")
def system() -> Iterator[FaultySystem]:
    """Run it."""
    with FaultySystem(Topology.from_text(TOPOLOGY)) as system:
        yield system


class Rig:
    """The system, as somebody sees it who commands it and asks why."""

    def __init__(self, system: FaultySystem, root: LrcDevice, subarray: LrcDevice) -> None:
        self.system = system
        self.root = root
        self.subarray = subarray

    def leaf(self, number: int) -> LeafHandle:
        """Return a leaf."""
        return self.system.leaf(f"leaf-{number:02d}")

    def power(self) -> str:
        """Return a power command that is not refused for being done already."""
        return "On" if state_of(self.root.trl) == "STANDBY" else "Standby"

    def calm(self) -> None:
        """Have nothing wrong, nothing under way, and all devices in one state."""
        for number in range(1, len(LEAVES) + 1):
            leaf = self.leaf(number)
            leaf.suffers()
            leaf.become_idle()
            leaf.does()
        state = state_of(self.root.trl)
        for trl in (self.subarray.trl, *map(self.system.trl, LEAVES)):
            if state_of(trl) != state:
                with LrcDevice(trl) as device:
                    ended(device.invoke(state.capitalize()))
        if tango.DeviceProxy(self.subarray.trl).obsState.name != "EMPTY":
            ended(self.subarray.invoke("Restart"))

    def run_plan(self, plan: str, **more: object) -> Invocation:
        """Run a plan on the subarray."""
        return self.subarray.invoke("RunPlan", json.dumps({"plan": plan, **more}))

    def first_line(self, device: LrcDevice, call: Invocation, *, by_tree: bool = True) -> str:
        """Return what is told first of a command that has ended, by everybody alike."""
        ended(call, 18.0)
        uid = str(call.command_id)
        line = explain(device.trl, uid)[0]  # what itango shows
        told = json.loads(tango.DeviceProxy(device.trl).ExplainTask(uid))
        assert told["firstLine"] == line
        for source in ([], ["--from", device.trl]):
            shown = CliRunner().invoke(app, ["explain", uid, *source])
            assert shown.stdout.splitlines()[0] == line
        if by_tree:
            tree = TreeReader().read(device.trl, uid)
            assert _explained_by_tree(device.trl, tree)[0] == line
        assert len(line) <= MAX_FIRST_LINE
        return line


@pytest.fixture
def rig(system: FaultySystem, wait_until: Callable[..., None]) -> Iterator[Rig]:
    """Give the system with nothing wrong, and nothing under way."""
    with (
        LrcDevice(system.trl("controller")) as root,
        LrcDevice(system.trl("subarray-01")) as subarray,
    ):
        away = {tango.DevState.UNKNOWN, tango.DevState.DISABLE}
        for device in (root, subarray):
            proxy = tango.DeviceProxy(device.trl)
            wait_until(lambda proxy=proxy: proxy.state() not in away)
        rig = Rig(system, root, subarray)
        rig.calm()
        yield rig


def state_of(trl: str) -> str:
    """Return the State of a device."""
    return str(tango.DeviceProxy(trl).state().name)


@pytest.mark.parametrize(
    ("script", "fault", "said"),
    [
        ({"outcome": "refused", "message": "door open"}, {}, "was rejected: door open"),
        ({"outcome": "rejected", "message": "busy"}, {}, "was rejected: busy"),
        ({"outcome": "failed", "message": "no power"}, {}, "failed: no power"),
        ({}, {"bug": "division by zero"}, "broke down: division by zero"),
        ({}, {"raises": "no such pump"}, "was rejected: no such pump"),
        ({"outcome": "never"}, {"forget": True}, "is lost: the device does not know it any more"),
    ],
)
def test_what_a_leaf_does_wrong_is_named_by_the_controller(
    rig: Rig, script: dict[str, object], fault: dict[str, object], said: str
) -> None:
    """Through two levels, each of which has put a name before the text; it is told once."""
    rig.leaf(2).does(any=script)
    rig.leaf(2).suffers(any=fault)
    command = rig.power()

    line = rig.first_line(rig.root, rig.root.invoke(command))

    assert f": faults/leaf/02 {command} {said}" in line
    assert line.count("faults/leaf/02") == 1


def test_a_leaf_that_is_in_the_wrong_state(rig: Rig) -> None:
    """Its State is told."""
    leaf = rig.leaf(2).proxy
    leaf.adminMode = 1
    try:
        line = rig.first_line(rig.root, rig.root.invoke(rig.power()))
    finally:
        leaf.adminMode = 0

    assert "faults/leaf/02" in line
    assert "not allowed when the device is in DISABLE state" in line


def test_a_leaf_that_does_not_end(rig: Rig) -> None:
    """The leaf has timed out, not the subarray above it."""
    rig.leaf(2).does(any={"outcome": "never"})
    command = rig.power()

    call = rig.root.invoke("SubmitCommand", json.dumps({"command": command, "timeout": 5.0}))

    text = rf": faults/leaf/02 {command} timed out after \d"
    assert re.search(text, rig.first_line(rig.root, call))


def test_a_leaf_that_is_down(rig: Rig) -> None:
    """In a few words, not in Tango's many."""
    rig.system.kill("mortal")
    try:
        line = rig.first_line(rig.root, rig.root.invoke(rig.power()))
    finally:
        rig.system.restart("mortal")

    assert "faults/leaf/03" in line
    assert line.endswith(
        (
            "broke down: nothing answers where its server was",
            "broke down: the connection to it broke",
        )
    )


def test_a_leaf_that_is_restarted_in_mid_command(rig: Rig, wait_until: Callable[..., None]) -> None:
    """It is told that it was started anew, before any times that would be cut."""
    rig.leaf(3).does(any={"outcome": "never"})
    command = rig.power()
    call = rig.subarray.invoke(command)
    wait_until(lambda: rig.leaf(3).counts.get(command, 0) > 0)
    rig.system.kill("mortal")
    rig.system.restart("mortal")

    line = rig.first_line(rig.subarray, call)

    assert f": faults/leaf/03 {command} is lost: " in line
    assert "its server was started anew at" in line or "no answer for" in line


def test_an_argument_that_a_child_cannot_read(rig: Rig) -> None:
    """The child is named, and what it found."""
    ended(rig.root.invoke(rig.power()))

    line = rig.first_line(rig.root, rig.root.invoke("Off"))

    assert line.startswith("Off was rejected: faults/subarray/01 AssignResources was rejected: ")
    assert "oops" in line


def test_too_few_that_succeed(rig: Rig) -> None:
    """How many were needed, and the first that failed."""
    ended(rig.root.invoke(rig.power()))
    for number in (2, 3):
        rig.leaf(number).does(Off={"outcome": "failed", "message": f"wind {number}"})

    line = rig.first_line(rig.subarray, rig.subarray.invoke("Off"), by_tree=False)

    assert line.startswith("Off failed, success 1/3, 2 needed: faults/leaf/0")
    assert "Off failed: wind" in line


def test_a_plan_that_raises(rig: Rig) -> None:
    """As a command of its own, and as a step of one."""
    line = rig.first_line(rig.subarray, rig.run_plan("raising"))
    assert line.startswith(
        "RunPlan broke down: faults/subarray/01 plan raising broke down: OSError: no beam"
    )

    line = rig.first_line(rig.subarray, rig.subarray.invoke("AssignResources", "{}"))
    lead = "AssignResources broke down: faults/subarray/01 plan site_plans:raising broke down"
    assert line.startswith(f"{lead}: OSError: no beam")


def test_a_child_that_fails_in_a_plan(rig: Rig) -> None:
    """The child is the cause, not the plan that has waited for it."""
    rig.leaf(2).does(End={"outcome": "failed", "message": "no power"})

    call = rig.run_plan("command", arguments={"child": "leaf-02", "name": "End"})

    line = rig.first_line(rig.subarray, call)
    assert line == "RunPlan broke down: faults/leaf/02 End failed: no power"


def test_an_analysis_that_fails(rig: Rig) -> None:
    """The run stands, and the analysis is named with its error."""
    line = rig.first_line(rig.subarray, rig.run_plan("scan", arguments=SCAN, analysis="broken"))

    assert line == (
        "RunPlan succeeded in part: faults/subarray/01 analysis broken failed:"
        " ValueError: no peak in 5 points"
    )


@pytest.mark.skipif(not HAS_TILED, reason="Milonga is not installed with its extra 'tiled'")
def test_a_sink_of_documents_that_is_down(rig: Rig) -> None:
    """It makes nothing fail, so nothing is explained."""
    line = rig.first_line(rig.subarray, rig.run_plan("scan", arguments=SCAN), by_tree=False)

    assert line.startswith("faults/subarray/01 RunPlan succeeded")


def test_results_that_cannot_be_stored(rig: Rig) -> None:
    """They fail no command, so nothing is explained; the log of the command tells of it."""
    in_the_way = Path(os.environ["MILONGA_DATA"], "files")
    in_the_way.write_text("where the folder of files should be")
    try:
        call = rig.run_plan("scan", arguments=SCAN, analysis="talk")
        line = rig.first_line(rig.subarray, call, by_tree=False)
    finally:
        in_the_way.unlink()

    assert line.startswith("faults/subarray/01 RunPlan succeeded")
    told = CliRunner().invoke(app, ["log", str(call.command_id)]).stdout
    assert "not stored: " in told


def test_an_abort(rig: Rig, wait_until: Callable[..., None]) -> None:
    """Who wanted it, and what it has stopped, at the leaves; of one that goes on, why."""
    rig.leaf(1).suffers(abort="refuse")
    for number in (1, 2, 3):
        rig.leaf(number).does(any={"duration": 30.0})
    command = rig.power()
    call = rig.root.invoke(command)
    wait_until(lambda: all(rig.leaf(n).counts.get(command, 0) for n in (1, 2, 3)))
    ended(rig.root.invoke("Abort"))

    line = rig.first_line(rig.root, call, by_tree=False)

    assert line.startswith(f"faults/control/0 {command} was aborted by ")
    assert "@localhost, stopped 3: faults/leaf/01 (REFUSED), faults/leaf/02" in line


def test_events_that_are_lost(rig: Rig) -> None:
    """The command works, as its end is found by looking; that is told, with the leaf."""
    rig.leaf(2).does(any={"duration": 0.1})
    rig.leaf(2).suffers(events={"drop": 1.0})
    command = rig.power()

    line = rig.first_line(rig.root, rig.root.invoke(command))

    lead = f"faults/control/0 {command} succeeded; no event told of the end of 1: "
    assert line == f"{lead}faults/leaf/02"
