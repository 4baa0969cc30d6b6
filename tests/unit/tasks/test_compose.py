"""Composition: from a command, its argument and the children to the tree."""

import json

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import CommandMapError, CompositionError
from milonga.tasks import (
    ChildSpec,
    CommandMap,
    PolicySpec,
    Task,
    TaskType,
    Tolerance,
    compose,
    default_command_map,
)

CHILDREN = [
    *(ChildSpec(name=f"cbf0{n}", trl=f"lab/cbf0{n}/1", groups=("cbf",)) for n in (1, 2)),
    *(ChildSpec(name=f"pst0{n}", trl=f"lab/pst0{n}/1", groups=("pst",)) for n in (1, 2, 3)),
    ChildSpec(name="rm", trl="lab/rm/1"),
]
ARGUMENT = json.dumps({"common": {"id": 1}, "cbf": {"band": 2}})


def composed(tasks, argument=ARGUMENT, children=CHILDREN, methods=None, more=None, **keywords):
    """Return the tree of a command with these tasks."""
    spec = CommandMap.from_data({"Go": {"tasks": tasks} | (more or {})})["Go"]
    return compose("Go", spec, argument, children, methods or {}, **keywords)


def shape(task):
    """Write a tree as nested texts and lists."""
    if not task.subtasks:
        return f"{task.name}={task.target.split('/')[1] if '/' in task.target else task.target}"
    return {task.name: [shape(child) for child in task.subtasks]}


def test_the_default_map_sends_each_command_to_all_children():
    """TR-03: parallel, with the command's own name and argument."""
    spec = default_command_map(["On"])["On"]

    root = compose("On", spec, "7", CHILDREN, {})

    (group,) = root.subtasks
    assert group.task_type is TaskType.PARALLEL
    assert [leaf.target for leaf in root.leaves()] == [child.trl for child in CHILDREN]
    assert {(leaf.command_name, leaf.argument) for leaf in root.leaves()} == {("On", "7")}


def test_targets_become_leaves_and_groups_of_leaves():
    """TR-03: by the node's name, by `target`, by group, by child, by "*"."""
    root = composed(
        {
            "cbf": {"type": "sequential"},
            "beams": {"target": "pst", "command": "Prepare"},
            "rm": {},
            "inner": {"type": "parallel", "tasks": {"one": {"target": "cbf02"}}},
            "check": {"internal": "check_it"},
        },
        methods={"check_it": print},
    )

    assert shape(root) == {
        "Go": [
            {"cbf": ["cbf01=cbf01", "cbf02=cbf02"]},
            {"beams": ["pst01=pst01", "pst02=pst02", "pst03=pst03"]},
            "rm=rm",
            {"inner": ["one=cbf02"]},
            "check=check_it",
        ]
    }
    cbf, beams, rm, inner, check = root.subtasks
    assert [task.task_type for task in root.subtasks] == [
        TaskType.SEQUENTIAL,
        TaskType.PARALLEL,
        TaskType.DEVICE,
        TaskType.PARALLEL,
        TaskType.INTERNAL,
    ]
    assert {leaf.command_name for leaf in beams.leaves()} == {"Prepare"}
    assert rm.command_name == inner.subtasks[0].command_name == check.command_name == "Go"
    assert root.task_type is cbf.task_type


CBF = {"timeout": 2.0, "max_timeout": 3.0, "optional": True}


def test_times_and_flags_reach_their_nodes():
    """TR-13: per command, per composite and per leaf; the default is for the command."""
    root = composed(
        {"inner": {"timeout": 5.0, "tasks": {"cbf": CBF}}},
        more={"skip_subtasks": True},
        timeout=60.0,
    )

    (inner,) = root.subtasks
    assert (root.timeout, inner.timeout) == (60.0, 5.0)
    assert {(leaf.timeout, leaf.max_timeout) for leaf in root.leaves()} == {(2.0, 3.0)}
    assert (root.skip_subtasks, inner.skip_subtasks) == (True, None)
    assert inner.subtasks[0].tolerance is Tolerance.FAILURE
    assert composed({"rm": {}}, more={"timeout": 3}, timeout=60.0).timeout == 3.0


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("full", ARGUMENT),
        ("none", None),
        ({"keys": ["cbf"]}, '{"cbf": {"band": 2}}'),
        ({"value": {"x": 1}}, '{"x": 1}'),
        ({"value": None}, "null"),
    ],
)
def test_a_node_hands_on_the_argument_or_a_part_of_it(rule, expected):
    """TR-03: full, none, some top-level keys, or another value; for methods too."""
    root = composed(
        {"rm": {"argument": rule}, "m": {"internal": "m", "argument": rule}}, methods={"m": print}
    )

    assert [leaf.argument for leaf in root.leaves()] == [expected, expected]


def test_a_transaction_goes_down_the_whole_tree():
    """Everybody must know what a command is part of, whatever else a node takes."""
    argument = '{"cbf": {"band": 2}, "pst": {}, "transaction_id": "t-1"}'

    root = composed({"rm": {"argument": {"keys": ["cbf"]}}}, argument=argument)

    assert json.loads(next(root.leaves()).argument) == {
        "cbf": {"band": 2},
        "transaction_id": "t-1",
    }


@pytest.mark.parametrize("argument", [None, "", "7", "[1]", "{", "[" * 100_000])
def test_keys_need_a_json_object(argument):
    """TR-04: what cannot be split is refused before anything starts."""
    with pytest.raises(CompositionError, match=r"Go\.tasks\.rm: argument.*expected a JSON object"):
        composed({"rm": {"argument": {"keys": ["cbf"]}}}, argument=argument)


def test_a_key_that_is_absent_rejects_the_command_unless_the_node_is_optional():
    """TR-04: half an argument is never sent by accident."""
    keys = {"keys": ["common", "pst"]}
    with pytest.raises(CompositionError, match=r"found common, cbf, expected also \['pst'\]"):
        composed({"pst": {"argument": keys}})

    root = composed({"pst01": {"argument": keys, "optional": True}})
    assert next(root.leaves()).argument == '{"common": {"id": 1}}'
    root = composed({"rm": {}, "pst": {"argument": {"keys": ["pst"]}, "optional": True}})
    assert shape(root) == {"Go": ["rm=rm"]}


def test_empty_branches_are_removed():
    """TR-04: what is not there is left out, and composites in which nothing is left."""
    root = composed(
        {"rm": {}, "a": {"tasks": {"b": {"tasks": {"pst": {}, "pss": {}}}, "c": {"tasks": {}}}}},
        is_available=lambda child: "pst" not in child.groups,
        known_groups=["pss"],
    )

    assert shape(root) == {"Go": ["rm=rm"]}


def test_one_of_a_group_that_is_left_is_a_leaf():
    """TR-04: with the name of the node; a node with a policy remains a node."""
    only = {"is_available": lambda child: child.name in {"pst02", "cbf01"}}

    root = composed({"pst": {}, "cbf": {"policy": {"min_success": 1}}}, **only)

    assert shape(root) == {"Go": ["pst=pst02", {"cbf": ["cbf01=cbf01"]}]}


def test_a_target_that_must_not_be_missing_rejects_the_command():
    """TR-04: reject_missing, for children that are not available and for groups without members."""
    with pytest.raises(CompositionError, match=r"Go\.tasks\.pst: pst02: not available"):
        composed(
            {"rm": {}, "pst": {"reject_missing": True}},
            is_available=lambda child: child.name != "pst02",
        )
    with pytest.raises(CompositionError, match="pss: there is no child for"):
        composed({"rm": {}, "pss": {"reject_missing": True}}, known_groups=["pss"])


def test_a_target_in_another_state_is_not_allowed():
    """TR-04: left out, or the reason to reject the command, with the state in the text."""
    states = {"rm": "IDLE", "pst01": TaskStatus.FAILED, "pst02": None, "pst03": "ready"}
    more = {"allowed_states": {"attr_name": "obsState", "attr_value": ["IDLE", "READY"]}}

    def state_of(child, attribute):
        assert attribute == "obsState"
        return states[child.name]

    root = composed({"rm": {}, "pst": {}}, more=more, state_of=state_of)
    assert shape(root) == {"Go": ["rm=rm", "pst=pst03"]}

    expected = "pst01: obsState found FAILED, expected one of IDLE, READY; pst02: obsState found"
    with pytest.raises(CompositionError, match=expected):
        composed({"pst": {"reject_missing": True}}, more=more, state_of=state_of)
    assert composed({"pst": {}}, more=more).size == 5, "nobody to ask"


def test_a_command_with_nothing_to_do_is_rejected():
    """TR-04: an empty tree is no silent success, and the text says why it is empty."""
    with pytest.raises(CompositionError, match="Go: nothing to do: rm: not available"):
        composed({"rm": {}}, is_available=lambda _: False)
    with pytest.raises(CompositionError, match="nothing to do: its map has no tasks"):
        composed({})
    with pytest.raises(CompositionError, match="nothing to do: children: there is no child for"):
        compose("On", default_command_map(["On"])["On"], None, [], {})


def test_an_unknown_keyword_is_told():
    """TR-03: composition refuses what the check of the map would have refused."""
    with pytest.raises(CompositionError, match="unknown keyword 'fpga'"):
        composed({"fpga": {}})
    with pytest.raises(CompositionError, match="'lost', expected but there are none"):
        composed({"m": {"internal": "lost"}})


def test_too_many_children_are_refused():
    """TR-16: the bound of a tree's size is one of composition too."""
    children = [ChildSpec(name=f"c{n}", trl=f"a/b/{n}") for n in range(10_000)]

    with pytest.raises(CompositionError, match="10001 nodes"):
        composed({"all": {"target": "*"}}, children=children)


# What comes of composed trees


def run(stage, root, **ends):
    """Run a tree to its end, with children that end in this order."""
    stage.start(root)
    for name, end in ends.items():
        getattr(stage.call(name), end)()
        stage.settle()
    return stage.outcome


def test_a_composed_command_runs(stage):
    """TR-01…TR-07: from map to outcome."""
    methods = {"check": lambda call: (ResultCode.OK, json.loads(call.argument)["common"]["id"])}
    root = composed({"first": {"internal": "check"}, "rm": {}, "cbf": {}}, methods=methods)
    assert isinstance(root, Task)

    outcome = run(stage, root, rm="succeeds", cbf01="succeeds", cbf02="succeeds")

    assert outcome["status"] is TaskStatus.COMPLETED
    assert outcome["result"] == (ResultCode.OK, "Task Go completed")
    assert outcome["operation"] == "Go"


def test_critical_children_are_named_by_the_map(stage):
    """A-12, AG-07: explicit names, not guesses from the names of devices."""
    root = composed({"all": {"target": "*"}}, policy=PolicySpec(critical=("rm",)))
    ok = dict.fromkeys(("cbf02", "pst01", "pst02", "pst03"), "succeeds")

    outcome = run(stage, root, cbf01="fails", rm="succeeds", **ok)

    assert outcome["status"] is TaskStatus.COMPLETED
    assert outcome["health_state"] == "DEGRADED"
    stage.outcomes.clear()
    root = composed({"all": {"target": "*"}}, policy=PolicySpec(critical=("rm",)))
    stage.children.calls.clear()
    assert run(stage, root, rm="fails", cbf01="succeeds", **ok)["status"] is TaskStatus.FAILED


def test_names_are_exact():
    """A-12: child 1 is not child 10."""
    children = [ChildSpec(name=f"c{n}", trl=f"a/b/{n}") for n in (1, 10)]
    root = composed({"all": {"target": "*"}}, children=children, policy=PolicySpec(critical=["c1"]))

    rules = root.subtasks[0].tracker.policy.rules

    assert rules.is_critical("A/B/1", None)
    assert not rules.is_critical("a/b/10", None)


def test_a_quorum_of_the_command_is_one_of_the_children(stage):
    """AG-10: an inherited min_success counts devices, not the steps above them."""
    root = composed({"pst": {}}, policy=PolicySpec(min_success=2))

    outcome = run(stage, root, pst01="succeeds", pst02="fails", pst03="fails")

    assert outcome["result"][0] is ResultCode.FAILED
    assert outcome["health_state"] == "FAILED"


def test_a_sequence_goes_on_after_a_quorum(stage):
    """AG-10, TR-06: enough is enough, and below is a failure that skips the rest."""
    tasks = {"pst": {"policy": {"min_success": 2}}, "rm": {}}
    more = {"skip_subtasks": True}

    outcome = run(
        stage,
        composed(tasks, more=more),
        pst01="succeeds",
        pst02="fails",
        pst03="succeeds",
        rm="succeeds",
    )
    assert outcome["health_state"] == "DEGRADED"

    stage.outcomes.clear()
    stage.children.calls.clear()
    outcome = run(stage, composed(tasks, more=more), pst01="succeeds", pst02="fails", pst03="fails")
    assert outcome["health_state"] == "FAILED"
    assert "lab/rm/1" not in stage.children.called


def test_one_success_is_enough_where_any_joins(stage):
    """AG-10: join "any" is a quorum of one."""
    root = composed({"pst": {"policy": {"join": "any"}}, "rm": {}}, more={"skip_subtasks": True})

    outcome = run(stage, root, pst01="fails", pst02="breaks", pst03="succeeds", rm="succeeds")

    assert outcome["status"] is TaskStatus.COMPLETED
    assert outcome["health_state"] == "DEGRADED"


def test_an_optional_node_is_never_critical(stage):
    """AG-07: not even one whose devices are of a critical kind."""
    outcome = run(
        stage,
        composed({"cbf01": {"optional": True}, "rm": {}}, more={"skip_subtasks": True}),
        cbf01="fails",
        rm="succeeds",
    )

    assert outcome["status"] is TaskStatus.COMPLETED
    assert outcome["health_state"] == "DEGRADED"


def test_a_device_that_is_also_needed_is_critical(stage):
    """AG-07: optional in one node is not optional in another."""
    tasks = {"extra": {"target": "cbf01", "optional": True}, "cbf01": {}}
    stage.start(composed(tasks, more={"type": "parallel"}))
    extra, needed = stage.children.calls

    extra.succeeds()
    needed.fails()

    assert stage.outcome["status"] is TaskStatus.FAILED


def test_optional_children_are_named_by_the_map(stage):
    """A-12, AG-07: also such as a guess from their names would call critical."""
    root = composed({"all": {"target": "*"}}, policy=PolicySpec(optional=("cbf",)))
    ok = dict.fromkeys(("cbf02", "pst01", "pst02", "pst03", "rm"), "succeeds")

    outcome = run(stage, root, cbf01="breaks", **ok)

    assert outcome["status"] is TaskStatus.COMPLETED
    assert outcome["health_state"] == "DEGRADED"


def test_a_quorum_is_not_handed_down_to_steps(stage):
    """AG-10: a command's min_success does not count its methods."""
    methods = {
        "good": lambda _: (ResultCode.OK, ""),
        "bad": lambda _: (ResultCode.FAILED, "no"),
    }
    tasks = {
        name: {"internal": kind} for name, kind in zip("abc", ("good", "bad", "bad"), strict=True)
    }

    outcome = run(
        stage,
        composed({"steps": {"tasks": tasks}}, methods=methods, policy=PolicySpec(min_success=2)),
    )

    assert outcome["health_state"] == "DEGRADED"


def test_where_all_are_to_succeed_the_name_of_a_node_makes_no_quorum(stage):
    """AG-08: an explicit join wins over guessing from names."""
    tasks = {"configure_pst": {"target": "pst", "policy": {"join": "all"}}}

    outcome = run(stage, composed(tasks), pst01="succeeds", pst02="fails", pst03="fails")

    assert "success" not in outcome["result"][1]


class Procedure:
    """A plan on its way, which tells of its parts."""

    command_id = None

    def __init__(self, argument: str | None) -> None:
        self.argument = argument
        self.aborted = self.closed = False
        self.on_update = None

    def __call__(self, _context, on_update):
        """Start."""
        self.on_update = on_update
        return self

    def abort(self):
        """Ask for the end."""
        self.aborted = True

    def close(self):
        """Listen no more."""
        self.closed = True

    def details(self):
        """Return runs and parts."""
        return {"run_uids": ["u1"], "children": [{"name": "part"}]}


def test_a_plan_is_a_leaf_that_tells_of_its_parts(stage):
    """IN-03: its snapshot has what the plan says of itself, while it runs and afterwards."""
    made = []

    def factory(argument, path):
        made.append(Procedure(argument))
        return made[-1]

    root = composed({"x": {"plan": "tune"}}, '{"a": 1}', plans={"tune": factory})
    root.start(stage.context)
    stage.settle()
    (procedure,) = made
    (node,) = root.snapshot()["children"]
    assert procedure.argument == '{"a": 1}'
    assert (node["type"], node["target"], node["run_uids"]) == ("plan", "tune", ["u1"])
    assert node["children"] == [{"name": "part"}]

    procedure.on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, "done"))
    stage.settle()

    assert root.ended
    assert procedure.closed
    assert root.snapshot()["children"][0]["children"] == [{"name": "part"}]


def test_a_plan_takes_the_arguments_that_the_map_gives_it():
    """As JSON; a function of a module is allowed by being named in the map."""
    given = []

    def factory(argument, path):
        given.append(argument)
        return Procedure(argument)

    tasks = {"x": {"plan": "site.plans:tune", "arguments": {"seconds": 2}}}

    composed(tasks, plans={"site.plans:tune": factory})

    assert given == ['{"seconds": 2}']


def test_a_plan_that_is_not_on_the_list_is_told():
    """Also by the composition, for a function that could not be loaded."""
    with pytest.raises(CompositionError, match="found 'tune', expected module:function, or one of"):
        composed({"x": {"plan": "tune"}}, plans={"scan": Procedure})
    with pytest.raises(CompositionError, match="which the device has not"):
        composed({"x": {"plan": "site.plans:tune"}})
    with pytest.raises(CommandMapError, match="expected the name of a plan, or module:function"):
        composed({"x": {"plan": "site.plans:"}})
