"""Command maps: what is understood, and how mistakes are told."""

import json

import pytest
from pydantic import ValidationError

from milonga.errors import CommandMapError
from milonga.tasks import (
    ChildSpec,
    CommandMap,
    CompositeSpec,
    DeviceSpec,
    InternalSpec,
    PolicySpec,
    TaskType,
    check_children,
    check_command_map,
    default_command_map,
    naming_problems,
)

CHILDREN = [
    ChildSpec(name="cbf01", trl="mid-csp/cbf/01", groups=("cbf",)),
    ChildSpec(name="cbf02", trl="mid-csp/cbf/02", groups=("cbf",)),
    ChildSpec(name="pst01", trl="mid-csp/pst/01", groups=("pst",)),
]

FULL = {
    "Configure": {
        "type": "Sequential",
        "allowed_states": {"attr_name": "obsState", "attr_value": ["IDLE", "READY"]},
        "timeout": 30,
        "skip_subtasks": True,
        "policy": {"critical": ["cbf"], "optional": ["pst01"], "min_success": 0.5},
        "tasks": {
            "check": {"internal": "check_resources", "argument": "none"},
            "devices": {
                "type": "PARALLEL",
                "tasks": {
                    "cbf": {"argument": {"keys": ["cbf", "common"]}, "reject_missing": True},
                    "beams": {"target": "pst01", "command": "ConfigureScan", "optional": True},
                    "all": {"target": "*", "argument": {"value": {"x": [1, None]}}, "timeout": 2.5},
                },
            },
        },
    }
}


def problems(data):
    """Return the lines in which data is refused."""
    with pytest.raises(CommandMapError) as caught:
        CommandMap.from_data(data)
    return str(caught.value).splitlines()[1:]


def test_a_map_is_read_from_data_and_from_json():
    """TR-03: commands, nested composites, device nodes and internal nodes."""
    commands = CommandMap.from_data(FULL)

    spec = commands["Configure"]
    assert spec.type is TaskType.SEQUENTIAL
    assert spec.allowed_states.values == {"IDLE", "READY"}
    assert isinstance(spec.tasks["check"], InternalSpec)
    devices = spec.tasks["devices"]
    assert isinstance(devices, CompositeSpec)
    assert devices.type is TaskType.PARALLEL
    assert isinstance(devices.tasks["cbf"], DeviceSpec)
    assert devices.tasks["beams"].command == "ConfigureScan"
    assert devices.tasks["all"].argument.value == {"x": [1, None]}
    assert CommandMap.from_json(json.dumps(FULL)) == commands
    assert CommandMap.from_json(commands.model_dump_json(exclude_unset=True)) == commands


def test_a_handler_keyword_needs_nothing_else():
    """TR-03: `cbf: {}`, and `cbf:` as YAML has it."""
    tasks = CommandMap.from_data({"On": {"tasks": {"cbf": {}, "pst": None}}})["On"].tasks

    assert tasks == {"cbf": DeviceSpec(), "pst": DeviceSpec()}


@pytest.mark.parametrize(
    ("data", "line"),
    [
        ([], "top level: found [], expected a mapping"),
        ({"On": 3}, "On: found 3, expected a mapping"),
        ({"On": {}}, "On.tasks: found nothing, expected a value"),
        (
            {"On": {"tasks": {"a": "cbf"}}},
            "On.tasks.a: found 'cbf', expected a mapping",
        ),
        (
            {"On": {"tasks": {}, "typ": "parallel"}},
            "On.typ: found an unknown key (value 'parallel'), expected one of tasks, type, "
            "allowed_states, timeout, max_timeout, skip_subtasks, policy, "
            "safety, interrupts",
        ),
        (
            {"On": {"tasks": {"a": {"tasks": {"b": {"timout": 3}}}}}},
            "On.tasks.a.tasks.b.timout: found an unknown key (value 3), expected one of timeout, "
            "max_timeout, optional, target, command, argument, reject_missing, type, "
            "skip_subtasks, policy, trust_result",
        ),
        (
            {"On": {"tasks": {"a": {"internal": "m", "command": "x"}}}},
            "On.tasks.a.command: found an unknown key (value 'x'), expected one of timeout, "
            "max_timeout, optional, internal, argument",
        ),
        (
            {"On": {"tasks": {}, "type": "serial"}},
            "On.type: found 'serial', expected 'sequential' or 'parallel'",
        ),
        (
            {"On": {"tasks": {}, "type": "device"}},
            "On.type: found 'device', expected 'sequential' or 'parallel'",
        ),
        (
            {"On": {"tasks": {}, "type": ["parallel"]}},
            "On.type: found ['parallel'], expected 'sequential' or 'parallel'",
        ),
        (
            {"On": {"tasks": {}, "timeout": 0}},
            "On.timeout: found 0, expected greater than 0",
        ),
        (
            {"On": {"tasks": {}, "timeout": "5"}},
            "On.timeout: found '5', expected a number",
        ),
        (
            {"On": {"tasks": {"cbf": {"argument": "some"}}}},
            "On.tasks.cbf.argument: found 'some', expected 'full', 'none', "
            '{"keys": [...]} or {"value": ...}',
        ),
        (
            {"On": {"tasks": {"cbf": {"argument": {"keys": []}}}}},
            "On.tasks.cbf.argument.keys: found [], expected at least 1 item, not 0",
        ),
        (
            {"On": {"tasks": {"cbf": {"optional": True, "reject_missing": True}}}},
            "On.tasks.cbf: found {'optional': True, 'reject_missing': True}, expected one of "
            "optional and reject_missing; they contradict each other",
        ),
        (
            {"On": {"tasks": {}, "policy": {"min_success": 1.5}}},
            "On.policy.min_success: found 1.5, expected a number of subtasks, or a part of them "
            "as a float from 0 to 1",
        ),
        (
            {"On": {"tasks": {}, "policy": {"crit": []}}},
            "On.policy.crit: found an unknown key (value []), expected one of critical, optional, "
            "min_success, join, weights",
        ),
        (
            {"On": {"tasks": {}, "allowed_states": {"attr_name": "obsState"}}},
            "On.allowed_states: found {'attr_name': 'obsState'}, expected one of the keys "
            "attr_value and attr_values, with at least one name",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_what_was_found_and_what_was_expected(data, line):
    """TR-03: path, value, expectation."""
    assert problems(data) == [line]


def test_all_mistakes_are_told_at_once():
    """TR-03: a person who corrects a map wants the whole list."""
    data = {"On": {"tasks": {"a": {"x": 1}, "b": {"timeout": -1}}}, "Off": {"tasks": 3}}

    assert [line.partition(":")[0] for line in problems(data)] == [
        "On.tasks.a.x",
        "On.tasks.b.timeout",
        "Off.tasks",
    ]


def test_an_order_by_names_is_reserved():
    """LW-04: `after` is refused with a text that says what to write instead."""
    (line,) = problems({"On": {"tasks": {"a": {}, "b": {"after": ["a"]}}}})

    assert line.startswith("On.tasks.b.after: found an unknown key")
    assert "order by names is not supported yet" in line


def test_a_map_that_nests_too_deep_is_refused():
    """TR-16: bounded depth, also against data made to hurt."""
    node = {}
    for _ in range(15):
        node = {"tasks": {"a": node}}
    assert CommandMap.from_data({"On": node})

    (line,) = problems({"On": {"tasks": {"a": node}}})
    assert "at most 16 levels; there are 17" in line
    for _ in range(2000):
        node = {"tasks": {"a": node}}
    assert problems({"On": node})
    with pytest.raises(CommandMapError):
        CommandMap.from_json('{"a":' * 100_000)


def test_text_that_is_not_json_is_refused():
    """TR-03: with the place of the mistake."""
    with pytest.raises(CommandMapError, match=r"line 1 column 2.*expected JSON text"):
        CommandMap.from_json("{On: 3}")


def test_a_deployment_changes_some_commands_of_the_default():
    """TR-03: maps are merged by command."""
    merged = CommandMap.from_data(FULL).merged_over(default_command_map(["On", "Configure"]))

    assert merged.names() == ["On", "Configure"]
    assert merged["On"].tasks["children"].target == "*"
    assert "check" in merged["Configure"].tasks
    assert "Off" not in merged
    assert len(merged) == 2


@pytest.mark.parametrize(
    "data",
    [
        {"name": "", "trl": "a/b/c"},
        {"name": "*", "trl": "a/b/c"},
        {"name": "a", "trl": "a/b"},
        {"name": "a", "trl": "a/b/c d"},
        {"name": "a", "trl": "a/b/c", "group": []},
    ],
)
def test_a_child_needs_a_name_and_a_device(data):
    """TR-03: ChildSpec is validated."""
    with pytest.raises(ValidationError):
        ChildSpec.model_validate(data)


def test_the_names_of_children_are_unique():
    """TR-03: so are their devices, without regard to case."""
    children = [
        ChildSpec(name="a", trl="x/y/1"),
        ChildSpec(name="a", trl="tango://host:10000/x/y/2"),
        ChildSpec(name="b", trl="X/Y/1"),
    ]

    assert check_children(children) == [
        "children.1.name: found 'a' again, expected it once",
        "children.2.trl: found 'x/y/1' again, expected it once",
    ]


def test_a_map_is_checked_against_children_and_methods():
    """TR-03: an unknown keyword, target, method or name in a policy is told before any command."""
    commands = CommandMap.from_data(
        {
            "On": {
                "policy": {"critical": ["cfb"]},
                "tasks": {
                    "cbf": {},
                    "fpga": {},
                    "one": {"target": "pst01"},
                    "two": {"target": "pst02"},
                    "spare": {"target": "pst03", "optional": True},
                    "all": {"target": "*", "policy": {"optional": ["pss"]}},
                    "deep": {"tasks": {"m": {"internal": "chek"}, "n": {"internal": "check"}}},
                },
            }
        }
    )

    found = check_command_map(commands, CHILDREN, ["check"])

    names = "cbf, cbf01, cbf02, pst, pst01"
    assert found == [
        f"On.policy.critical: found 'cfb', expected a child or group, one of {names}",
        f"On.tasks.fpga: found the unknown keyword 'fpga', expected a child or group, one of "
        f"{names}, or one of the keys target, tasks, internal, plan, prompt, analysis in it",
        f"On.tasks.two.target: found 'pst02', expected a child or group, one of {names} or '*'",
        f"On.tasks.all.policy.optional: found 'pss', expected a child or group, one of {names}",
        "On.tasks.deep.tasks.m.internal: found 'chek', expected one of check",
    ]


def test_a_known_group_may_have_no_members():
    """TR-03: a map may serve deployments with and without a subsystem."""
    commands = CommandMap.from_data({"On": {"tasks": {"cbf": {}, "pss": {}}}})

    assert check_command_map(commands, CHILDREN, [], known_groups=["pss"]) == []


@pytest.mark.parametrize(
    ("data", "quorum"),
    [({}, None), ({"join": "any"}, 1), ({"min_success": 0.5}, 0.5), ({"min_success": 3}, 3)],
)
def test_a_policy_names_its_quorum(data, quorum):
    """AG-10: a count, a part, or one."""
    assert PolicySpec.model_validate(data).quorum == quorum


@pytest.mark.parametrize(
    "data",
    [
        {"min_success": True},
        {"min_success": -1},
        {"min_success": float("nan")},
        {"join": "most"},
        {"join": "any", "min_success": 2},
        {"critical": ["a"], "optional": ["a"]},
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(data):
    """AG-10: contradictions are told when the map is read."""
    with pytest.raises(ValidationError):
        PolicySpec.model_validate(data)


def test_a_child_may_be_of_a_kind_that_tells_only_its_state():
    """LW-04: `until` says by which value each command's work is over."""
    until = {"On": {"reached": ["ON", "RUNNING"], "timeout": 5.0}, "Off": {"reached": ["OFF"]}}

    child = ChildSpec.model_validate({"name": "a", "trl": "a/b/c", "kind": "state", "until": until})

    assert child.until["On"].reached == ("ON", "RUNNING")
    assert (child.until["Off"].attribute, child.until["Off"].failed) == ("State", ("FAULT",))
    assert child.until["Off"].timeout is None
    assert ChildSpec(name="a", trl="a/b/c").kind == "auto"
    assert ChildSpec.model_validate_json(child.model_dump_json()) == child


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"kind": "stat"}, "'auto', 'lrc', 'state' or 'plain'"),
        ({"kind": "state"}, "the key until where kind is 'state'"),
        ({"kind": "plain", "until": {"On": {"reached": ["ON"]}}}, "no key until where kind is"),
        ({"until": {"On": {}}}, "Field required"),
        ({"until": {"On": {"reached": []}}}, "at least 1 item"),
        ({"until": {"On": {"reached": [True]}}}, "valid string"),
        ({"until": {"On": {"reached": ["ON"], "failed": ["ON"]}}}, "both name"),
        ({"until": {"On": {"reached": ["ON"], "timeout": 0}}}, "greater than 0"),
        ({"until": {"On": {"reached": ["ON"], "wait": 1}}}, "Extra inputs are not permitted"),
        ({"skip_when_reached": "yes"}, "valid boolean"),
    ],
)
def test_a_kind_of_child_that_cannot_be_meant_is_refused(data, expected):
    """LW-04: with what was expected."""
    with pytest.raises(ValidationError, match=r".") as caught:
        ChildSpec.model_validate({"name": "a", "trl": "a/b/c"} | data)

    assert expected in str(caught.value)


def safety(**more):
    """Return a safety command in a map."""
    return {"Stow": {"safety": True, "tasks": {"cbf": {}}} | more}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"On": {"tasks": {}, "interrupts": "none"}}, "no key interrupts where safety is not true"),
        (
            safety(allowed_states={"attr_name": "State", "attr_value": "ON"}),
            "no key allowed_states where safety is true",
        ),
        (
            safety(tasks={"a": {"tasks": {"ask": {"prompt": "Sure?"}}}, "b": {"plan": "park"}}),
            "only steps that are devices or methods where safety is true; ask, b is not",
        ),
    ],
)
def test_what_would_keep_a_safety_command_waiting_is_refused(data, expected):
    """It waits for no person, plan or state."""
    assert expected in "; ".join(problems(data))


def test_a_safety_command_needs_to_be_confirmed_by_each_child_it_goes_to():
    """Unless it is said that the child's own result will do."""
    stow = {"Stow": {"reached": ["STANDBY"]}}
    children = [CHILDREN[0].model_copy(update={"until": stow}), *CHILDREN[1:]]
    commands = CommandMap.from_data(safety())
    (line,) = check_command_map(commands, children, [])
    assert line.startswith("Stow.tasks.cbf: found no key until for Stow at cbf02, expected it")
    trusting = CommandMap.from_data(safety(tasks={"cbf": {"trust_result": True}}))
    assert check_command_map(trusting, children, []) == []
    other = CommandMap.from_data(safety(tasks={"cbf01": {"command": "Park"}}))
    assert "for Park at cbf01" in check_command_map(other, children, [])[0]


def test_safety_commands_are_few():
    """All of them may run at the same time."""
    commands = CommandMap.from_data({f"Stow{n}": safety()["Stow"] for n in range(9)})
    (line,) = naming_problems(commands, ["On"])
    assert line == "Stow8: found 9 safety commands, expected at most 8"
