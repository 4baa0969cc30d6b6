"""A topology file either describes a system that can work, or says all that is wrong with it."""

import json
from pathlib import Path

import pytest

from milonga.deploy import Topology, TopologyProblems
from milonga.errors import TopologyError
from milonga.tasks import ChildSpec, CommandMap, PolicySpec

GOOD = """\
name: small
defaults: {timeout: 5.0, max_queued: 4}
controller: {device: lab/control/0, server: central}
subarrays:
  - device: lab/subarray/01
    id: 1
    server: subarrays
    children: [cbf-01, pst-01]
leaves:
  - {name: cbf-01, device: lab/cbf/01, groups: [cbf], server: leaves}
  - {name: pst-01, device: lab/pst/01, groups: [pst], server: leaves}
"""


def problems_of(text: str) -> list[str]:
    """Give the problems of a topology, line by line."""
    with pytest.raises(TopologyError) as caught:
        Topology.from_text(text, "top.yaml")
    return str(caught.value).splitlines()


def test_a_device_is_told_what_the_file_says_of_it() -> None:
    """Properties are texts that Jive can edit, as the devices expect them."""
    text = GOOD.replace("groups: [cbf]", "groups: [cbf], abort_all: true")
    text += "command_map: {subarray: {Scan: {tasks: {cbf: {timeout: 1.5}}}}}\n"
    text += "policies: {subarray: {critical: [cbf]}}\n"

    subarray = Topology.from_text(text).device("subarray-01")

    assert (subarray.device, subarray.server) == ("lab/subarray/01", "subarrays")
    assert subarray.class_name == "MilongaSubarray"
    properties = dict(subarray.properties)
    children = [ChildSpec.model_validate_json(line) for line in properties.pop("Children")]
    assert [(child.name, child.trl, child.groups) for child in children] == [
        ("cbf-01", "lab/cbf/01", ("cbf",)),
        ("pst-01", "lab/pst/01", ("pst",)),
    ]
    assert [child.abort_all for child in children] == [True, False]
    assert CommandMap.from_json(properties.pop("CommandMap")[0]).names() == ["Scan"]
    assert PolicySpec.model_validate_json(properties.pop("Policy")[0]).critical == ("cbf",)
    assert properties == {
        "AdminModeDefault": ["ONLINE"],
        "CommandTimeout": ["5.0"],
        "MaxQueuedTasks": ["4"],
        "SubID": ["1"],
    }


def test_children_come_before_their_parents() -> None:
    """Whatever is started in this order finds its children there."""
    names = [entry.name for entry in Topology.from_text(GOOD).devices]
    servers = [entry.full_name for entry in Topology.from_text(GOOD).servers]

    assert names == ["cbf-01", "pst-01", "subarray-01", "controller"]
    assert servers == [
        "milonga-server/leaves",
        "milonga-server/subarrays",
        "milonga-server/central",
    ]


def test_a_leaf_has_its_script() -> None:
    """What the file does not say is left to the simulator."""
    script = "script: {Scan: {duration: 0.5, outcome: failed}, '*': {steps: 2}}"
    text = GOOD.replace("groups: [pst]", f"groups: [pst], {script}")

    leaf = Topology.from_text(text).device("pst-01")

    assert json.loads(leaf.properties["Script"][0]) == {
        "Scan": {"duration": 0.5, "outcome": "failed"},
        "*": {"steps": 2},
    }


def test_a_server_of_ones_own_brings_its_classes() -> None:
    """A leaf may be a device of somebody else, with its own properties."""
    text = GOOD.replace("groups: [pst]", "class: Motor, properties: {Axes: [1, 2], Host: plc}")
    text += "servers: {leaves: {command: [motors], tango_name: motors, classes: [Motor]}}\n"

    topology = Topology.from_text(text)

    assert topology.servers[0].full_name == "motors/leaves"
    assert topology.device("pst-01").properties["Axes"] == ["1", "2"]
    assert topology.device("pst-01").properties["Host"] == ["plc"]


def test_a_subarray_needs_no_controller() -> None:
    """A small laboratory has one subarray and nothing above it."""
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith("controller"))

    assert [entry.name for entry in Topology.from_text(text).devices][-1] == "subarray-01"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(
            "server: central",
            "server: central, class: MilongaControler",
            "top.yaml:3: controller.class: found 'MilongaControler', expected one of "
            "MilongaController, MilongaSubarray, LeafSimulator, MotorSimulator, DetectorSimulator",
            id="unknown class",
        ),
        pytest.param(
            "[cbf-01, pst-01]",
            "[cbf-01, pst-01, pss-01]",
            "top.yaml:8: subarrays[0].children[2]: found 'pss-01', expected one of "
            "subarray-01, cbf-01, pst-01",
            id="child that does not exist",
        ),
        pytest.param(
            "device: lab/pst/01",
            "device: LAB/CBF/01",
            "top.yaml:11: leaves[1].device: found 'lab/cbf/01', which is already used in line 10; "
            "expected a device of its own",
            id="device twice",
        ),
        pytest.param(
            "lab/subarray/01\n    id: 1\n",
            "lab/subarray/01\n    id: 1\n    name: pst-01\n",
            "top.yaml:12: leaves[1].name: found 'pst-01', which is already used in line 7; "
            "expected a name of its own",
            id="name twice",
        ),
        pytest.param(
            "server: central",
            "server: central, children: [subarray-01, cbf-01]",
            "top.yaml:8: subarrays[0].children[0]: found 'cbf-01', which has a parent already "
            "in line 3",
            id="two parents",
        ),
        pytest.param(
            "[cbf-01, pst-01]",
            "[cbf-01, cbf-01, pst-01]",
            "top.yaml:8: subarrays[0].children[1]: found 'cbf-01', which has a parent already "
            "in line 8",
            id="the same child twice",
        ),
        pytest.param(
            "[cbf-01, pst-01]",
            "[cbf-01]",
            "top.yaml:11: leaves[1]: 'pst-01' has no parent; expected it among the children of "
            "the controller or a subarray",
            id="no parent",
        ),
        pytest.param(
            "[cbf-01, pst-01]",
            "[cbf-01, pst-01, subarray-01]",
            "top.yaml:8: subarrays[0].children: found a circle: subarray-01 > subarray-01",
            id="circle",
        ),
        pytest.param(
            "[cbf-01, pst-01]",
            "[cbf-01, pst-01, controller]",
            "top.yaml:8: subarrays[0].children[2]: found 'controller', but the controller is "
            "nobody's child",
            id="the controller as a child",
        ),
        pytest.param(
            "timeout: 5.0",
            "timeout: -5.0",
            "top.yaml:2: defaults.timeout: found -5.0, expected a number greater than 0",
            id="negative timeout",
        ),
        pytest.param(
            "timeout: 5.0",
            "timeout: .inf",
            "top.yaml:2: defaults.timeout: found inf, expected a finite number",
            id="endless timeout",
        ),
        pytest.param(
            "lab/cbf/01",
            "lab/cbf",
            "top.yaml:10: leaves[0].device: found 'lab/cbf', expected a Tango name "
            "domain/family/member of letters, digits, '-', '_', '.'",
            id="not a Tango name",
        ),
        pytest.param(
            "groups: [cbf]",
            "group: [cbf]",
            "top.yaml:10: leaves[0].group: unknown field; found 'group', did you mean groups?",
            id="unknown field",
        ),
        pytest.param(
            "name: small\n",
            "",
            "top.yaml:1: found no field 'name', expected one",
            id="missing field",
        ),
        pytest.param(
            "id: 1",
            "id: one",
            "top.yaml:6: subarrays[0].id: found 'one', expected a valid integer",
            id="wrong type",
        ),
        pytest.param(
            "groups: [pst]",
            "script: {Scan: {outcome: fails}}",
            "top.yaml:11: leaves[1].script.Scan.outcome: found 'fails', expected 'ok', 'failed', "
            "'rejected', 'fault', 'refused' or 'never'",
            id="script",
        ),
        pytest.param(
            "leaves:\n",
            "servers: {old: {}}\nleaves:\n",
            "top.yaml:9: servers.old: no device runs in it; found 'old', expected one of "
            "central, leaves, subarrays",
            id="server without devices",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_line(old: str, new: str, expected: str) -> None:
    """Each rule names file, line, field, what was found and what was expected."""
    assert old in GOOD

    assert problems_of(GOOD.replace(old, new, 1)) == [expected]


def test_a_system_without_subarrays_is_refused() -> None:
    """The list is there, but empty."""
    found = problems_of("name: x\nsubarrays: []\n")

    assert found == [
        "top.yaml:1: found neither controller nor subarrays, expected at least one of them"
    ]


def test_a_circle_of_subarrays_is_found() -> None:
    """Every one of them has a parent, and none is below the controller."""
    text = GOOD.replace("children: [cbf-01, pst-01]", "children: [cbf-01, pst-01, subarray-02]")
    second = "  - {device: lab/subarray/02, id: 2, server: x, children: [subarray-01]}\n"
    text = text.replace("leaves:\n", f"{second}leaves:\n", 1)

    (found,) = problems_of(text)

    assert found.endswith("found a circle: subarray-01 > subarray-02 > subarray-01")


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    """A person mends a file in one go, not in twelve."""
    text = GOOD.replace("5.0", "0").replace("id: 1", "id: one").replace("lab/pst/01", "pst")
    text = text.replace("[cbf-01, pst-01]", "[cbf-01, pst-01, nobody]")

    lines = [line.split(": ")[0:2] for line in problems_of(text)]

    assert lines == [
        ["top.yaml:2", "defaults.timeout"],
        ["top.yaml:6", "subarrays[0].id"],
        ["top.yaml:8", "subarrays[0].children[2]"],
        ["top.yaml:11", "leaves[1].device"],
    ]


def test_command_maps_are_checked_against_the_children_that_are_there() -> None:
    """A command map that a device would refuse is refused before anything is started."""
    text = GOOD + (
        "command_map:\n"
        "  subarray:\n"
        "    Scan: {tasks: {pss: {}}}\n"
        "    On: {tasks: {cbf: {timeout: -1.0}}}\n"
        "    Dance: {tasks: {cbf: {}}}\n"
        "policies:\n"
        "  subarray: {critical: [cfb]}\n"
    )

    found = problems_of(text)

    assert [line.split(": ")[:2] for line in found] == [
        ["top.yaml:15", "command_map.subarray.On.tasks.cbf.timeout"],
        ["top.yaml:16", "command_map.subarray.Dance"],
        ["top.yaml:18", "policies.subarray.critical"],
    ]
    assert all("subarray-01" in line for line in found)
    (found_pss,) = problems_of(
        text.replace("-1.0", "1.0").replace("Dance", "Off").replace("cfb", "cbf")
    )
    assert found_pss.startswith("top.yaml:14: command_map.subarray.Scan.tasks.pss: ")


def test_a_controller_does_not_command_the_subarrays_of_subarrays() -> None:
    """Its command map would be refused by the device itself."""
    text = (
        "name: n\n"
        "controller: {device: lab/c/0, server: p}\n"
        "subarrays:\n"
        "  - {name: upper, device: lab/s/1, id: 1, server: p, children: [lower]}\n"
        "  - {name: lower, device: lab/s/2, id: 2, server: p, children: [x]}\n"
        "leaves: [{name: x, device: lab/x/1, server: l}]\n"
        "command_map: {controller: {Off: {tasks: {one: {target: TARGET}}}}}\n"
    )

    (problem,) = problems_of(text.replace("TARGET", "lower"))

    assert problem.startswith("top.yaml:7: command_map.controller.Off.tasks.one")
    assert "'lower'" in problem
    Topology.from_text(text.replace("TARGET", "upper"))


STOW = GOOD.replace("server: leaves}", "server: leaves, until: {Stow: {reached: [OFF]}}}")
SAFETY = "command_map: {subarray: {%s: {safety: true, tasks: {all: {target: '*'}}}}}\n"


def test_a_safety_command_may_have_a_name_of_its_own() -> None:
    """Where it is said of each child how it is known that it is reached."""
    topology = Topology.from_text(STOW + SAFETY % "Stow")
    subarray = topology.device("subarray-01").properties
    assert json.loads(subarray["CommandMap"][0])["Stow"]["safety"] is True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            GOOD + SAFETY % "Stow",
            "Stow.tasks.all: found no key until for Stow at cbf-01, pst-01, expected it, as a"
            " safety command ends when it is reached, or trust_result: true here",
        ),
        (STOW + SAFETY % "sTow", "sTow: found 'sTow', expected a name of capital and small"),
        (STOW + SAFETY % "Scan", "Scan.safety: found true, expected no such key for what moves"),
        (STOW + SAFETY % "Abort", "Abort.safety: found true, expected no such key, as Abort"),
        (STOW + (SAFETY % "Stow").replace("safety: true, ", ""), "Stow: unknown command"),
    ],
)
def test_a_safety_command_that_cannot_be_one_is_refused(text: str, expected: str) -> None:
    """With its line."""
    assert any(
        line.startswith("top.yaml:12: ") and expected in line for line in problems_of(text)
    ), problems_of(text)


@pytest.mark.parametrize("text", ["", "- a\n", "just text"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    """An empty file says that it is empty."""
    (found,) = problems_of(text)

    assert found.endswith("expected a mapping")


def test_a_duplicate_key_is_a_problem_among_the_others() -> None:
    """The second `leaves:` does not silently replace the first."""
    found = problems_of(GOOD + "name: other\ndefaults2: {}\n")

    assert found[0] == "top.yaml:12: name: the key is already in line 1, expected it once"
    assert found[1].startswith("top.yaml:13: defaults2: unknown field")


def test_a_missing_file_is_a_topology_error(tmp_path: Path) -> None:
    """The same error tree as for a file with mistakes."""
    with pytest.raises(TopologyProblems, match=r"no\.yaml: cannot be read: No such file"):
        Topology.load(tmp_path / "no.yaml")


def test_a_controller_commands_devices_of_others_without_any_subarray() -> None:
    """They are children, but neither registered nor started."""
    topology = Topology.from_text(
        """
name: beam
controller: {device: beam/control/0, server: one, children: [pump, gate]}
external:
  - name: pump
    device: tango://127.0.0.1:9999/vac/pump/1
    kind: state
    until: {On: {reached: [ON], timeout: 20.0}}
  - {name: gate, device: vac/gate/1, groups: [gates]}
"""
    )

    (entry,) = topology.devices
    pump, gate = (json.loads(line) for line in entry.properties["Children"])
    assert pump["kind"] == "state"
    assert pump["until"] == {"On": {"reached": ["ON"], "timeout": 20.0}}
    assert gate == {"name": "gate", "trl": "vac/gate/1", "groups": ["gates"]}


WITH_PLANS = """\
name: plans
subarrays:
  - device: lab/subarray/01
    id: 1
    server: subarrays
    children: [cbf]
    plans: [milonga.engine.plans:scan, "tune=site.plans:tune"]
    plan_devices: [m1]
    data_folder: /data
    plan_timeout: 30.0
    halt_after: 5.0
    max_queued_plans: 3
    loop_lag_limit: 0.5
leaves:
  - {name: cbf, device: lab/cbf/01, server: leaves}
plan_devices:
  - {name: m1, device: lab/motor/1, type: motor, server: motors, properties: {Velocity: 2.5}}
  - {name: m2, device: "tango://db:1/lab/motor/2", type: "site.devices:Slit"}
command_map:
  subarray: {Configure: {tasks: {a: {plan: tune}, b: {plan: "site.plans:b", arguments: {}}}}}
"""


def test_plans_and_their_devices_are_properties() -> None:
    """A plan device is registered if it has a server, and is nobody's child."""
    topology = Topology.from_text(WITH_PLANS)

    properties = topology.device("subarray-01").properties
    assert properties["Plans"] == ["milonga.engine.plans:scan", "tune=site.plans:tune"]
    assert [json.loads(line) for line in properties["PlanDevices"]] == [
        {"name": "m1", "type": "motor", "trl": "lab/motor/1"}
    ]
    assert (properties["DataFolder"], properties["PlanTimeout"]) == (["/data"], ["30.0"])
    assert [properties[name] for name in ("HaltAfter", "MaxQueuedPlans", "LoopLagLimit")] == [
        ["5.0"],
        ["3"],
        ["0.5"],
    ]
    motor = topology.device("m1")
    assert (motor.class_name, dict(motor.properties)) == ("MotorSimulator", {"Velocity": ["2.5"]})
    assert [json.loads(line)["name"] for line in properties["Children"]] == ["cbf"]
    assert len(topology.devices) == 3
    everything = Topology.from_text(WITH_PLANS.replace("    plan_devices: [m1]\n", ""))
    assert len(everything.device("subarray-01").properties["PlanDevices"]) == 2


def test_a_plan_that_only_the_command_map_names_has_devices() -> None:
    """It is a plan like those that clients may run."""
    text = WITH_PLANS.replace("    plan_devices: [m1]\n", "").replace("plan: tune", "plan: 'a:b'")
    plans = '    plans: [milonga.engine.plans:scan, "tune=site.plans:tune"]\n'
    without = Topology.from_text(text.replace(plans, ""))

    properties = without.device("subarray-01").properties

    assert "Plans" not in properties
    assert len(properties["PlanDevices"]) == 2


def test_where_documents_are_sent_is_a_property() -> None:
    """A Tiled server by its URL; without one there is no such property."""
    sent = WITH_PLANS.replace(
        "    data_", "    document_sink: https://tiled.example/api/v1\n    data_"
    )

    properties = Topology.from_text(sent).device("subarray-01").properties
    assert properties["DocumentSink"] == ["https://tiled.example/api/v1"]
    assert "DocumentSink" not in Topology.from_text(WITH_PLANS).device("subarray-01").properties
    with pytest.raises(TopologyError, match="document_sink"):
        Topology.from_text(sent.replace("https", "ftp"))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (
            "{plan: tune}",
            "{plan: tuna}",
            "top.yaml:20: command_map.subarray.Configure.tasks.a.plan: found 'tuna', expected"
            " module:function, or one of scan, tune (for subarray-01)",
        ),
        ("[m1]", "[m3]", "top.yaml:8: subarrays[0].plan_devices[0]: found 'm3', expected one of"),
        ("[cbf]", "[cbf, m1]", "found 'm1', but a plan device is nobody's child"),
        (
            "tune=site.plans:tune",
            "tune=site.plans",
            "top.yaml:7: subarrays[0].plans[1]: found 'tune=site.plans', expected module:function"
            " or name=module:function",
        ),
        ("tune=site", "scan=site", "top.yaml:7: subarrays[0].plans[1]: found 'scan' again"),
        ("type: motor,", "type: rotor,", "found 'rotor', expected motor, detector, or module"),
        ("type: motor,", 'type: "a:B",', "the key class, since there is no simulator"),
        ("name: m2", "name: cbf", "found 'cbf', which is already used in line"),
    ],
)
def test_what_is_wrong_about_plans_is_told_with_its_line(
    before: str, after: str, problem: str
) -> None:
    """Also a step of a command whose plan is not on the device's list."""
    assert before in WITH_PLANS

    assert any(problem in line for line in problems_of(WITH_PLANS.replace(before, after)))
