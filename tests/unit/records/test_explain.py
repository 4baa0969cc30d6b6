"""Why a task failed, or what it waits for; and what is exported and dropped."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from milonga.errors import RecordNotFound
from milonga.records import (
    MAX_FIRST_LINE,
    NodeReport,
    ProcessingTask,
    RecordStore,
    Situation,
    TaskFilter,
    explain,
    explain_tree,
    find_page,
    recorded_tree,
)

Tell = Callable[..., None]


def uids(store: RecordStore, **wanted: Any) -> list[str]:
    """Return the names of the tasks on a page."""
    with store.reading() as session:
        return [task.uid for task in find_page(session, TaskFilter(**wanted)).tasks]


def broken_tree(tell: Tell, what: Situation = Situation.FAILED) -> None:
    """Let the second of three leaves of a command fail, and the others be aborted for it."""
    tell("c1", device="mid/ctl/0", command="Configure")
    for group in ("cbf", "pss"):
        tell(f"c1/{group}", kind="parallel")
    for leaf in ("cbf/1", "cbf/2", "pss/1", "pss/2"):
        argument = '{"band": 1}' if leaf == "cbf/2" else ""
        device = f"mid/{leaf.replace('/', '-')}/0"
        tell(f"c1/{leaf}", device=device, command="Configure", parameters=argument)
    tell("c1/cbf/1", Situation.DONE)
    tell("c1/cbf/2", what, "no such band", error="Traceback\nValueError: band")
    tell("c1/cbf", Situation.FAILED, "mid/cbf-2/0: no such band")
    tell("c1/pss/1", Situation.ABORTED, "aborted")
    tell("c1/pss/2", Situation.REJECTED, "skipped")
    tell("c1/pss", Situation.ABORTED)
    tell("c1", Situation.FAILED, "cbf failed")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (Situation.FAILED, "failed: no such band"),
        (Situation.ERROR, "broke down: no such band"),
        (Situation.REJECTED, "was rejected: no such band"),
        (Situation.NOT_ALLOWED, "was not allowed: no such band"),
        (Situation.TIMED_OUT, "timed out: no such band"),
        (Situation.LOST, "is lost: no such band"),
    ],
)
def test_the_first_leaf_that_failed_is_the_cause(
    timed: RecordStore, tell: Tell, what: Situation, said: str
) -> None:
    """Explain: its call, argument, error and time; what failed with it, what was stopped."""
    broken_tree(tell, what)
    with timed.reading() as session:
        answer = explain(session, "c1")

    assert answer.first_line == f"Configure failed: mid/cbf-2/0 Configure {said}"
    assert answer.cause is not None
    assert answer.cause.argument == '{"band": 1}'
    assert answer.cause.at is not None
    assert [one.uid for one in answer.made_fail] == ["c1/cbf", "c1"]
    assert [one.uid for one in answer.stopped] == ["c1/pss/1", "c1/pss/2"]
    assert answer.also_failed == []
    text = answer.lines()
    assert text[0] == answer.first_line
    assert "error: ValueError: band" in text
    assert json.dumps(answer.as_json())


def test_a_failure_that_was_tolerated_explains_nothing(timed: RecordStore, tell: Tell) -> None:
    """Explain: only what reached the task counts, although it came later."""
    tell("c1", command="On")
    tell("c1/a")
    tell("c1/a/1", device="a/b/1", command="On")
    tell("c1/b", device="a/b/2", command="On")
    tell("c1/a/1", Situation.FAILED, "first")
    tell("c1/a", Situation.DONE)
    tell("c1/b", Situation.FAILED, "second")
    tell("c1", Situation.FAILED)
    with timed.reading() as session:
        assert explain(session, "c1").first_line == "On failed: a/b/2 On failed: second"
        assert explain(session, "c1/a").first_line == "a succeeded"


def test_an_abort_is_its_own_cause(timed: RecordStore, tell: Tell) -> None:
    """Explain: what fails because it is aborted is not why."""
    tell("c1", device="a/b/0", command="Scan")
    tell("c1/a", device="a/b/1", command="Scan")
    tell("c1/a", Situation.FAILED, "interrupted")
    tell("c1", Situation.ABORTED, "aborted by ann")
    with timed.reading() as session:
        answer = explain(session, "c1")

    assert answer.first_line == "a/b/0 Scan was aborted: aborted by ann"
    assert [one.uid for one in answer.also_failed] == ["c1/a"]


def test_a_cause_is_followed_to_the_device_that_has_it(timed: RecordStore, tell: Tell) -> None:
    """Explain: the command of a leaf is a command of another device, which has a record too."""
    tell("c1", device="a/ctl/0", command="On")
    tell("c1/sub", device="a/sub/1", command="On")
    tell("77_On", device="a/sub/1", command="On")
    tell("77_On/leaf", device="a/leaf/1", command="On")
    with timed.session() as session:
        sub = ProcessingTask.get_by_uid("c1/sub")
        assert sub is not None
        sub.command_id = "77_On"
        session.commit()
    tell("77_On/leaf", Situation.FAILED, "no power")
    tell("77_On", Situation.FAILED)
    tell("c1/sub", Situation.FAILED)
    tell("c1", Situation.FAILED)
    with timed.reading() as session:
        answer = explain(session, "c1")

    assert answer.first_line == "On failed: a/leaf/1 On failed: no power"
    assert [one.uid for one in answer.made_fail] == ["77_On", "c1/sub", "c1"]


def aborted(tell: Tell, by: str) -> None:
    """Let a command over two leaves be aborted, of which one had not begun."""
    tell("c1", device="a/b/0", command="Scan", data={"aborted_by": by} if by else {})
    for leaf, said in (("1", "Command has been aborted"), ("2", "aborted before it started")):
        tell(f"c1/{leaf}", device=f"a/b/{leaf}", command="Scan")
        tell(f"c1/{leaf}", Situation.ABORTED, said)
    tell("c1", Situation.ABORTED, "Task Scan aborted")


@pytest.mark.parametrize("by", ["ann@lab", ""])
def test_an_abort_names_who_wanted_it_and_what_it_has_stopped(
    timed: RecordStore, tell: Tell, by: str
) -> None:
    """Explain: who, as far as that is known."""
    aborted(tell, by)
    with timed.reading() as session:
        answer = explain(session, "c1")

    who = f" by {by}" if by else ""
    assert answer.first_line == f"a/b/0 Scan was aborted{who}, stopped 2: a/b/1, a/b/2"
    assert answer.as_json()["task"]["remarks"] == ({"aborted_by": by} if by else {})


def test_what_is_remarkable_is_told_beside_the_cause(timed: RecordStore, tell: Tell) -> None:
    """Explain: events, answers to aborts and silence, also of leaves that went well."""
    odd = {"irregular_events": {"missing": 1, "doubled": 2, "notes": []}}
    bad = {"abort": "REFUSED", "abort_text": "no abort here", "stalls": [{"since": "noon"}]}
    tell("c1", device="a/b/0", command="On")
    tell("c1/1", device="a/b/1", command="On", data=odd)
    tell("c1/2", device="a/b/2", command="On", data=bad)
    tell("c1/1", Situation.DONE)
    tell("c1/2", Situation.FAILED, "no power")
    tell("c1", Situation.FAILED)
    with timed.reading() as session:
        answer = explain(session, "c1")
        of_leaf = explain(session, "c1/1")

    assert answer.first_line == "On failed: a/b/2 On failed: no power"
    assert [line for line in answer.lines() if line.startswith("remark: ")] == [
        "remark: a/b/1 On: events: 2 doubled, 1 missing",
        "remark: a/b/2 On: abort: REFUSED, no abort here",
        "remark: a/b/2 On: not heard of from noon to its end",
    ]
    assert answer.as_json()["remarkable"][0]["remarks"] == odd
    assert of_leaf.first_line == "a/b/1 On succeeded; no event told of the end of 1: a/b/1"


def test_too_few_successes_are_told_beside_the_first_failure(
    timed: RecordStore, tell: Tell
) -> None:
    """Explain: the group's own reason, which no leaf knows."""
    tell("c1", device="a/b/0", command="Point")
    tell("c1/dishes", kind="parallel")
    for leaf in "123":
        tell(f"c1/dishes/{leaf}", device=f"a/b/{leaf}", command="Point")
    tell("c1/dishes/1", Situation.DONE)
    tell("c1/dishes/2", Situation.FAILED, "a/b/2: wind")
    tell("c1/dishes/3", Situation.FAILED, "a/b/3: ice")
    causes = "success 1/3, 2 needed\na/b/2: wind\na/b/3: ice"
    tell("c1/dishes", Situation.FAILED, causes)
    tell("c1", Situation.FAILED, "Task Point failed\nCauses:\n- " + causes.replace("\n", "\n- "))
    with timed.reading() as session:
        line = explain(session, "c1").first_line

    assert line == "Point failed, success 1/3, 2 needed: a/b/2 Point failed: wind"


def test_what_a_device_does_itself_is_told_with_its_name(timed: RecordStore, tell: Tell) -> None:
    """Explain: a plan has no device of its own."""
    tell("c1", device="a/b/0", command="RunPlan")
    tell("c1/scan", kind="plan", device="scan", command="RunPlan")
    tell("c1/scan", Situation.ERROR, "scan: broken: OSError: no beam")
    tell("c1", Situation.ERROR)
    with timed.reading() as session:
        line = explain(session, "c1").first_line

    assert line == "RunPlan broke down: a/b/0 plan scan broke down: OSError: no beam"


def test_what_was_aborted_because_time_was_up_is_no_cause(timed: RecordStore, tell: Tell) -> None:
    """Explain: the command that a leaf sent says only that it was aborted."""
    tell("c1", device="a/ctl/0", command="On")
    tell("c1/sub", device="a/sub/1", command="On")
    aborted_below(timed, tell)
    tell("c1/sub", Situation.TIMED_OUT, "a/sub/1: timed out after 2 s")
    tell("c1", Situation.ERROR)
    with timed.reading() as session:
        line = explain(session, "c1").first_line

    assert line == "On broke down: a/sub/1 On timed out after 2 s"


def aborted_below(store: RecordStore, tell: Tell) -> None:
    """Let what a leaf has sent to another device be aborted there."""
    tell("77_On", device="a/sub/1", command="On")
    tell("77_On/leaf", device="a/leaf/1", command="On")
    with store.session() as session:
        sub = ProcessingTask.get_by_uid("c1/sub")
        assert sub is not None
        sub.command_id = "77_On"
        session.commit()
    tell("77_On/leaf", Situation.ABORTED, "Command has been aborted")
    tell("77_On", Situation.ABORTED)


# Reports


@pytest.mark.parametrize(
    ("situation", "message", "said"),
    [
        (Situation.REJECTED, "a/b/1: a/b/1: a/b/1/On: busy", "was rejected: busy"),
        (Situation.REJECTED, "a/b/1: On was rejected", "was rejected"),
        (Situation.LOST, "a/b/1: On is lost: no answer for 9 s", "is lost: no answer for 9 s"),
        (Situation.TIMED_OUT, "a/b/1: timed out after 2 s", "timed out after 2 s"),
        (Situation.ERROR, "Unhandled exception during execution: bug", "broke down: bug"),
        (Situation.FAILED, "a/b/12: no beam\nmore", "failed: a/b/12: no beam"),
        (Situation.FAILED, "", "failed"),
    ],
)
def test_what_stands_beside_a_message_is_not_told_again(
    situation: Situation, message: str, said: str
) -> None:
    """Each node that a message has come through has put a name before it."""
    report = NodeReport("u", "b1", "a/b/1", "On", "", situation, message, "", None)

    assert report.said() == said


def test_as_many_names_are_told_as_a_line_takes() -> None:
    """And of the others, how many there are."""
    leaves = [
        {"name": str(number), "type": "device", "target": f"low-cbf/station/{number:03d}"}
        | {"command": "On", "status": "IN_PROGRESS", "result_code": "STARTED"}
        for number in range(40)
    ]
    tree = {"name": "On", "status": "IN_PROGRESS", "result_code": "STARTED", "children": leaves}

    line = explain_tree(tree, "low-cbf/control/0").first_line

    assert line.startswith("low-cbf/control/0 On waits for 40: low-cbf/station/000 On, ")
    assert line.endswith(" On and 37 more")
    assert len(line) <= MAX_FIRST_LINE


# Without records


def tree_of(store: RecordStore, uid: str) -> dict[str, Any]:
    """Return a recorded tree as a device remembers it."""
    tree = recorded_tree(store, uid)
    for node in nodes_in(tree):
        if node["cause"] not in {"TIMED_OUT", "LOST"}:
            node["cause"] = None
    return tree


def nodes_in(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield all nodes."""
    yield tree
    for child in tree["children"]:
        yield from nodes_in(child)


@pytest.mark.parametrize(
    "what",
    [Situation.FAILED, Situation.ERROR, Situation.REJECTED, Situation.TIMED_OUT],
)
def test_a_device_without_records_says_the_same(
    timed: RecordStore, tell: Tell, what: Situation
) -> None:
    """The tree that it remembers has what the first line needs."""
    broken_tree(tell, what)
    with timed.reading() as session:
        answer = explain(session, "c1")

    told = explain_tree(tree_of(timed, "c1"), "mid/ctl/0")

    assert told.first_line == answer.first_line
    assert [one.device for one in told.stopped] == [one.device for one in answer.stopped]


def test_what_was_aborted_because_time_was_up_is_no_cause_in_a_tree_either(
    timed: RecordStore, tell: Tell
) -> None:
    """The leaves that were aborted hang right below the node that has timed out."""
    tell("c1", device="a/ctl/0", command="On")
    tell("c1/sub", device="a/sub/1", command="On", kind="device")
    aborted_below(timed, tell)
    tell("c1/sub", Situation.TIMED_OUT, "a/sub/1: timed out after 2 s")
    tell("c1", Situation.ERROR)

    line = explain_tree(tree_of(timed, "c1"), "a/ctl/0").first_line

    assert line == "On broke down: a/sub/1 On timed out after 2 s"


def test_a_task_that_goes_on_says_what_it_waits_for(timed: RecordStore, tell: Tell) -> None:
    """Explain: the leaves that are open."""
    tell("c1", device="a/ctl/0", command="On")
    for leaf in "123":
        tell(f"c1/{leaf}", device=f"a/b/{leaf}", command="On")
    tell("c1/2", Situation.DONE)
    with timed.reading() as session:
        answer = explain(session, "c1")

    assert answer.first_line == "a/ctl/0 On waits for 2: a/b/1 On, a/b/3 On"
    assert [one.uid for one in answer.waits_for] == ["c1/1", "c1/3"]


def test_the_first_line_fits_whatever_the_texts_are(timed: RecordStore, tell: Tell) -> None:
    """Explain: at most 120 characters, in one line."""
    tell("c1", device="d" * 255, command="C" * 255)
    tell("c1/1", device="d" * 255, command="C" * 255)
    tell("c1/1", Situation.FAILED, "one\ntwo " + "x" * 500)
    tell("c1", Situation.FAILED)
    with timed.reading() as session:
        line = explain(session, "c1").first_line

    assert len(line) <= MAX_FIRST_LINE
    assert "\n" not in line
    assert "failed: one" in line


def test_an_unknown_task_is_named(store: RecordStore) -> None:
    """Explain: the text says what was asked for."""
    with store.reading() as session, pytest.raises(RecordNotFound, match=r"no record of 'c9'"):
        explain(session, "c9")


# Export
