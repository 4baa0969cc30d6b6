"""Join rules of nodes, in their short form, and what is told of a success in part."""

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import CommandMapError
from milonga.tasks import ChildSpec, CommandMap, compose, lrc_payload

CHILDREN = [ChildSpec(name=f"n{n}", trl=f"a/n/{n}", groups=("n",)) for n in range(1, 5)]


def root_for(node):
    """Return the tree of a command whose one node is this."""
    spec = CommandMap.from_data({"On": {"tasks": {"n": node}}})["On"]
    return compose("On", spec, None, CHILDREN, {})


@pytest.mark.parametrize(
    ("node", "enough", "too_few"),
    [
        ({"join": "any"}, 1, 0),
        ({"join": 3}, 3, 2),
        ({"join": 0.5}, 2, 1),
        ({"policy": {"min_success": 3}}, 3, 2),
        ({"join": 5.0 / 10, "policy": {"weights": {"n1": 7.0}}}, 1, 0),
    ],
)
def test_a_node_says_how_many_must_succeed(stage, node, enough, too_few):
    """Row 16: k of n, any, a share, a weight; in the command map, per node."""
    for good, expected in ((enough, "DEGRADED"), (too_few, "FAILED")):
        stage = type(stage)()
        root = stage.start(root_for(node))
        for number, call in enumerate(list(stage.children.calls)):
            if number < good:
                call.succeeds()
            else:
                call.fails()
        stage.settle()
        assert stage.outcome["health_state"] == expected
        assert root.snapshot()["partial"] is (expected == "DEGRADED")


def test_all_is_what_holds_without_a_word(stage):
    """One failure makes the success a part success, and the message says so."""
    root = stage.start(root_for({"join": "all"}))
    calls = list(stage.children.calls)
    for call in calls[:3]:
        call.succeeds()
    calls[3].fails("no beam")
    stage.settle()

    payload = stage.outcome
    assert lrc_payload(payload)["status"] is TaskStatus.COMPLETED
    assert lrc_payload(payload)["result"][0] is ResultCode.FAILED
    assert root.snapshot()["partial"] is True
    assert [row["path"] for row in payload["outcomes"]] == [["n", f"n{i}"] for i in range(1, 5)]


def test_the_outcomes_are_data_with_code_and_message_of_each(stage):
    """Row 18: nobody has to read them out of a text."""
    stage.start(root_for({"join": 3}))
    for call, end in zip(
        stage.children.calls, ("succeeds", "fails", "refuses", "breaks"), strict=True
    ):
        getattr(call, end)()
    stage.settle()

    payload = stage.outcome
    rows = [(row["target"], row["status"], row["result_code"]) for row in payload["outcomes"]]
    assert rows == [
        ("a/n/1", "COMPLETED", "OK"),
        ("a/n/2", "COMPLETED", "FAILED"),
        ("a/n/3", "REJECTED", "REJECTED"),
        ("a/n/4", "FAILED", "FAILED"),
    ]
    assert payload["outcomes"][1]["message"] == "a/n/2: no beam"


def test_a_join_rule_is_said_once():
    """In its short form, or in the policy."""
    with pytest.raises(CommandMapError, match=r"one of join and policy\.min_success"):
        root_for({"join": 2, "policy": {"min_success": 3}})


def test_weights_need_a_word_on_how_much_is_enough():
    """A weight alone says nothing."""
    with pytest.raises(CommandMapError, match="min_success where there are weights"):
        root_for({"policy": {"weights": {"n1": 2.0}}})
