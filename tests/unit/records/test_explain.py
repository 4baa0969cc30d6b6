"""Why a task failed, or what it waits for; and what is exported and dropped."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from milonga.errors import RecordNotFound
from milonga.records import (
    MAX_FIRST_LINE,
    ProcessingTask,
    RecordStore,
    Situation,
    TaskFilter,
    explain,
    find_page,
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
    tell("c1/cbf", Situation.FAILED, "1 of 2 failed")
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
