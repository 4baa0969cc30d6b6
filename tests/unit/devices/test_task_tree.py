"""What a device tells of its running commands."""

import json
from importlib.resources import files
from itertools import pairwise

import jsonschema
import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._task_tree import MAX_TEXT, PERIOD
from milonga.devices._tree_document import changes_between, fit, to_text
from milonga.errors import ProtocolError
from milonga.lrc import Job, Sighting
from milonga.lrc.task_tree import TaskTreeFold, read_delta, read_document, schema_texts

FOLDER = files("milonga.lrc")
DOCUMENTS = jsonschema.Draft202012Validator(
    json.loads(FOLDER.joinpath("task_tree.schema.json").read_text())
)
DELTAS = jsonschema.Draft202012Validator(
    json.loads(FOLDER.joinpath("task_tree_delta.schema.json").read_text())
)


@pytest.mark.parametrize("name", schema_texts())
def test_the_published_schemas_are_those_of_the_models(name):
    """`schema_texts` has what belongs into the files."""
    assert FOLDER.joinpath(name).read_text() == schema_texts()[name]


def run(desk, root, source, step=0.1):
    """Run a tree to its end, by chance, with time between what happens and what children tell."""
    desk.start(root)
    while desk.turn(source):
        for _ in range(source.randint(0, 3)):
            desk.hear(source)
        desk.pass_time(source.random() * step)
    desk.pass_time(10.0)


def test_every_version_of_200_runs_is_valid_and_every_client_ends_with_the_same_tree(trees, chance):
    """Whoever joins late or misses deltas comes to what the attribute says at the end."""
    versions = 0
    for seed in range(200):
        source = chance(seed)
        desk = trees.new_desk()
        run(desk, trees.random_tree(source, levels=source.randint(1, 3)), source)
        assert desk.pushed
        versions += len(desk.pushed)
        steady, late, forgetful = TaskTreeFold(), TaskTreeFold(), TaskTreeFold()
        joined = source.randrange(len(desk.pushed))
        for index, (_, whole, delta) in enumerate(desk.pushed):
            DOCUMENTS.validate(json.loads(whole))
            DELTAS.validate(json.loads(delta))
            for client, hears in (
                (steady, True),
                (late, index >= joined),
                (forgetful, source.random() < 0.6 or index == len(desk.pushed) - 1),
            ):
                if hears and not client.take_delta(delta):
                    client.take(whole)
        expected = read_document(desk.trees.text())
        assert steady.document == late.document == forgetful.document == expected
        assert steady.refused == 1
        (command,) = expected["commands"]
        assert command["progress"] == 100
        assert "eta" not in command
    assert versions > 1000


def test_no_key_is_told_that_the_schema_does_not_have(desk, trees, chance):
    """What is read has all that was written."""
    source = chance(3)
    run(desk, trees.random_tree(source), source)

    for _, whole, delta in desk.pushed:
        assert read_document(whole) == json.loads(whole)
        assert len(read_delta(delta)["changes"]) == len(json.loads(delta)["changes"])


@pytest.mark.parametrize("nodes", [1_000, 4_000])
def test_big_trees_stay_within_the_bound_and_count_what_they_do_not_list(desk, trees, nodes):
    """First what has succeeded is folded; what failed and what runs is shown."""
    groups = nodes // 100
    root = trees.group(
        "Go",
        *(
            trees.group(f"group-{g:02}", *(trees.leaf(f"leaf-{g:02}-{n:02}") for n in range(99)))
            for g in range(groups)
        ),
    )
    desk.start(root)
    for call in desk.calls[: -len(desk.calls) // 10]:
        call.accept()
        call.end()
    desk.calls[0].report(progress=50)
    broken = desk.running[0]
    broken.accept()
    broken.end(ResultCode.FAILED)
    desk.pass_time(PERIOD)

    text = desk.trees.text()

    assert len(text) <= MAX_TEXT
    assert all(len(delta) <= MAX_TEXT for _, _, delta in desk.pushed)
    document = json.loads(text)
    DOCUMENTS.validate(document)
    (command,) = document["commands"]
    assert counted(command) == groups * 99
    assert broken.target in text or nodes > 1_000
    assert command["waiting"] == len(desk.running)


def counted(node):
    """Count the leaves of a node, listed or folded."""
    children = node.get("children", [])
    hidden = sum(node.get("folded", {}).values())
    below = hidden + sum(map(counted, children))
    return below or 1


def test_versions_are_not_made_more_often_than_the_rate_says(desk, trees):
    """However much happens: five a second at the most."""
    desk.start(trees.group("Go", trees.leaf("a"), trees.leaf("b")))
    for number in range(1000):
        desk.calls[number % 2].report(progress=number // 11)
        desk.pass_time(0.005)

    times = [when for when, _, _ in desk.pushed]

    assert len(times) >= 15
    assert min(after - before for before, after in pairwise(times)) >= PERIOD - 1e-6


def test_nothing_is_made_for_nobody_and_who_reads_gets_what_is_there(desk, trees):
    """Without a listener, a change costs a flag."""
    desk.watched = False
    desk.start(trees.group("Go", trees.leaf("a")))
    desk.calls[0].accept()
    desk.pass_time(5.0)
    made = desk.trees.statistics()["versions"]
    (command,) = json.loads(desk.trees.text())["commands"]
    desk.calls[0].end()
    (ended,) = json.loads(desk.trees.text())["commands"]

    assert (made, desk.pushed[:-2]) == (0, [])
    assert command["status"] == "IN_PROGRESS"
    assert command["waits_for"] == [
        {"device": "lab/a/1", "command": "Go", "since": command["children"][0]["started"]}
    ]
    assert ended["status"] == "COMPLETED"


def test_the_last_commands_are_shown_and_older_ones_dropped(desk, trees):
    """A command that waits or runs is always shown."""
    desk.trees.follow("0_0_Wait", job(), trees.group("Wait", trees.leaf("w")))
    desk.statuses["0_0_Wait"] = TaskStatus.QUEUED
    for number in range(20):
        desk.start(trees.group("Go", trees.leaf(f"a{number}")), f"1_{number}_Go")
        desk.calls[-1].end()
        desk.pass_time(1.0)

    ids = [node["command_id"] for node in json.loads(desk.trees.text())["commands"]]

    assert ids[0] == "0_0_Wait"
    assert ids[-1] == "1_19_Go"
    assert len(ids) <= 7


def job():
    """Return a job that does nothing."""
    return Job("Go", lambda report: report())


def test_a_command_that_was_aborted_while_it_waited_is_shown_as_that(desk, trees):
    """Its tree has never run and never will."""
    waiting = job()
    desk.trees.follow("0_0_Go", waiting, trees.group("Go", trees.leaf("a")))
    desk.pass_time(1.0)
    desk.statuses["0_0_Go"] = TaskStatus.ABORTED
    waiting.on_ended(TaskStatus.ABORTED, None)
    desk.pass_time(1.0)

    (command,) = json.loads(desk.pushed[-1][1])["commands"]

    assert (command["status"], command["result_code"]) == ("ABORTED", "ABORTED")
    assert "children" not in command


def child_text(**fields):
    """Write the task tree of a child with one command."""
    command = {
        "name": "Go",
        "type": "parallel",
        "command_id": "17_lab/a/1_Go",
        "status": "IN_PROGRESS",
        "progress": 60,
        "started": "2030-01-01T00:00:00.000+00:00",
        "children": [
            {
                "name": "deep",
                "type": "device",
                "target": "lab/deep/1",
                "command": "Go",
                "status": "IN_PROGRESS",
                "started": "2030-01-01T00:00:01.000+00:00",
            }
        ],
    }
    document = {"version": 1, "device": "lab/a/1", "epoch": "e", "number": 1, "time": "t"}
    return json.dumps(document | {"commands": [command | fields]})


def test_the_tree_of_a_child_hangs_below_the_leaf_that_awaits_it(desk, trees):
    """And what the parent waits for is what the child waits for."""
    desk.start(trees.group("Go", trees.leaf("a"), trees.leaf("b")))
    desk.calls[0].accept()
    desk.pass_time(1.0)
    desk.watches["lab/a/1"](Sighting("lab/a/1", "taskTree", child_text()))
    desk.pass_time(1.0)

    (command,) = json.loads(desk.trees.text())["commands"]
    first, second = command["children"]

    assert [child["name"] for child in first["children"]] == ["deep"]
    assert first["progress"] == 60
    assert "children" not in second
    assert {wait["device"] for wait in command["waits_for"]} == {"lab/deep/1", "lab/b/1"}
    DOCUMENTS.validate(json.loads(desk.trees.text()))


def test_what_a_lost_child_told_last_is_shown_as_that(desk, trees):
    """Nothing below an ended leaf is waited for, though it may seem to run."""
    desk.start(trees.group("Go", trees.leaf("a"), trees.leaf("b")))
    desk.calls[0].accept()
    desk.pass_time(1.0)
    desk.watches["lab/a/1"](Sighting("lab/a/1", "taskTree", child_text()))
    desk.calls[0].end(ResultCode.FAILED)
    desk.watches["lab/a/1"](Sighting("lab/a/1", "taskTree", connected=False, reason="no answer"))
    desk.pass_time(1.0)

    (command,) = json.loads(desk.trees.text())["commands"]

    assert command["children"][0]["note"] == "what is below is as it was last heard of"
    assert [wait["device"] for wait in command["waits_for"]] == ["lab/b/1"]


def test_children_are_watched_only_while_they_are_awaited_and_somebody_listens(desk, trees):
    """One that has no task tree is not watched again."""
    desk.watched = False
    root = trees.group("Go", trees.leaf("a"), trees.leaf("b"))
    desk.start(root)
    for call in desk.calls:
        call.accept()
    desk.pass_time(1.0)
    unheard = set(desk.watches)
    desk.watched = True
    desk.calls[0].advance(20)
    desk.pass_time(1.0)
    heard = set(desk.watches)
    for call in desk.calls:
        call.end()
    desk.pass_time(10.0)

    assert (unheard, heard) == (set(), {"lab/a/1", "lab/b/1"})
    assert desk.watches == {}


def test_a_child_that_had_no_tree_is_watched_again_once_its_server_was_restarted(desk, trees):
    """It may have been another release."""
    watched = []
    for start in ("noon", "noon", "one"):
        desk.child_start = start
        desk.start(trees.group("Go", trees.leaf("a")), f"1_{len(watched)}_Go")
        desk.calls[-1].accept()
        desk.pass_time(1.0)
        watched.append("lab/a/1" in desk.watches)
        if watched[-1]:
            none = Sighting("lab/a/1", "taskTree", reason="there is no attribute taskTree")
            desk.watches["lab/a/1"](none)
        desk.calls[-1].end()
        desk.pass_time(10.0)

    assert watched == [True, False, True]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "{}",
        '{"version": 99, "device": "x"}',
        child_text(progress=1000),
        child_text(children=[{"no": "name"}]),
        "[" * 100_000,
        child_text()[:-20],
    ],
    ids=["text", "empty", "version", "range", "node", "deep", "cut"],
)
def test_a_malformed_tree_of_a_child_is_noted_and_all_else_goes_on(desk, trees, text, caplog):
    """The child may be anybody's."""
    desk.start(trees.group("Go", trees.leaf("a")))
    desk.calls[0].accept()
    desk.pass_time(1.0)
    desk.watches["lab/a/1"](Sighting("lab/a/1", "taskTree", text))
    desk.pass_time(1.0)

    (command,) = json.loads(desk.trees.text())["commands"]

    assert "its task tree cannot be shown" in command["children"][0]["note"]
    DOCUMENTS.validate(json.loads(desk.trees.text()))
    with pytest.raises(ProtocolError):
        read_document(text)


LONG = "x" * 100_000
WORDS = {f"WORD-{number}": 1 for number in range(5_000)}


@pytest.mark.parametrize(
    "told",
    [
        {"phase": LONG},
        {"note": LONG},
        {"folded": WORDS},
        {"folded": {LONG: 1, "OK": 3}},
        {"folded": {"OK": 10**4000}},
        {"children": [{"name": LONG, "message": LONG, "status": LONG, "type": LONG}]},
        {"children": [{"name": "p", "run_uids": [LONG] * 5, "folded": WORDS, "started": LONG}]},
        {"children": [{"name": "p", "waits_for": [{"device": LONG}] * 1000, "waiting": 1000}]},
        {"children": [{"name": f"n{n}", "status": f"S{n}", "note": "?" * 99} for n in range(900)]},
    ],
    ids=lambda told: "-".join([*told]),
)
def test_a_child_cannot_make_a_running_command_vanish(desk, trees, told):
    """Whatever it tells, in whatever length."""
    desk.start(trees.group("Go", trees.leaf("a"), trees.leaf("b")))
    desk.calls[0].accept()
    desk.pass_time(1.0)
    desk.watches["lab/a/1"](Sighting("lab/a/1", "taskTree", child_text(**told)))
    desk.pass_time(1.0)

    text = desk.trees.text()
    document = json.loads(text)

    assert len(text) <= MAX_TEXT
    assert all(len(delta) <= MAX_TEXT for _, _, delta in desk.pushed)
    DOCUMENTS.validate(document)
    (command,) = document["commands"]
    assert {wait["device"] for wait in command["waits_for"]} >= {"lab/b/1"}
    assert all(len(node.get("folded", {})) <= 17 for node in nodes_of(command))


def nodes_of(node):
    """Return a node and all below it."""
    return [node, *(below for child in node.get("children", []) for below in nodes_of(child))]


def test_what_a_child_tells_is_cut_where_there_are_too_many_levels(desk, trees):
    """Children that show each other cannot make a tree without end."""
    deep = {"name": "leaf"}
    for _ in range(60):
        deep = {"name": "level", "children": [deep]}

    document = read_document(child_text(children=[deep]))

    assert levels(document["commands"][0]) == 32
    assert "too many levels" in json.dumps(document)


def levels(node):
    """Count levels."""
    return 1 + max(map(levels, node.get("children", [])), default=0)


def test_a_patch_leads_from_any_version_to_any_other(chance):
    """Also where steps come, go, change their order, or share a name."""
    source = chance(7)

    def nodes(depth):
        names = [source.choice("abcd") for _ in range(source.randint(0, 4))]
        return [
            {"name": name, "progress": source.randint(0, 3)}
            | ({"children": nodes(depth - 1)} if depth and source.random() < 0.6 else {})
            | ({"message": "m/~"} if source.random() < 0.3 else {})
            for name in names
        ]

    head = {"version": 1, "device": "d", "epoch": "e", "time": "t"}
    for _ in range(500):
        before, after = (
            [node | {"command_id": str(n)} for n, node in enumerate(nodes(3))] for _ in range(2)
        )
        fold = TaskTreeFold()
        fold.take(to_text(head | {"number": 4, "commands": before}))
        changes = changes_between(before, after)
        assert fold.take_delta(to_text(head | {"number": 5, "base": 4, "changes": changes}))
        assert fold.document is not None
        assert fold.document["commands"] == after


def test_nothing_is_folded_that_fits():
    """And of what does not fit at all, whole commands are left out."""
    commands = [{"name": f"c{n}", "message": "x" * 100} for n in range(10)]

    kept = list(commands)
    none = fit(kept, 10_000)
    omitted = fit(commands, 500)

    assert (none, len(kept)) == (0, 10)
    assert omitted + len(commands) == 10
    assert len(to_text(commands)) <= 500


def test_a_command_that_runs_is_shown_in_a_line_before_it_is_left_out():
    """What has ended makes room first."""
    running = {"name": "Go", "status": "IN_PROGRESS", "progress": 7, "phase": "p" * 900}
    ended = {"name": "On", "status": "COMPLETED", "message": "m" * 900}
    commands = [dict(running), dict(ended), dict(running)]

    omitted = fit(commands, 500)

    assert omitted == 1
    assert [command["name"] for command in commands] == ["Go", "Go"]
    assert {command["progress"] for command in commands} == {7}
    assert len(to_text(commands)) <= 500


def test_a_delta_that_makes_no_sense_asks_for_the_whole_tree():
    """A client is never left with half a tree."""
    head = {"version": 1, "device": "d", "epoch": "e", "time": "t"}
    fold = TaskTreeFold()
    fold.take(json.dumps(head | {"number": 1, "commands": []}))
    change = {"op": "replace", "path": "/commands/7/progress", "value": 3}

    taken = fold.take_delta(json.dumps(head | {"number": 2, "base": 1, "changes": [change]}))

    assert not taken
    assert fold.document is None
