"""What children answer when they are asked to end, and what becomes of those that do not."""

import pytest

from milonga.tasks import ExecutionContext
from milonga.tracking import AbortAnswer, summary_of_answers

REFUSED = {"abort_ack": "REFUSED", "abort_text": "not now"}


def test_an_answer_is_shown_in_the_tree(stage):
    """Also when the child's command ends before its answer comes."""
    root = stage.start(stage.parallel("a", "b"))
    root.abort()
    stage.call("a").report(abort_ack="ACK", abort_text="took it")
    stage.call("a").ends(3, 7)
    stage.call("b").ends(3, 7)
    stage.settle()

    first, second = root.snapshot()["children"]
    assert (first["abort"], first["abort_text"]) == ("ACK", "took it")
    assert (second["abort"], second["abort_text"]) == ("ACK", "it has ended")
    assert stage.outcome["status"].name == "ABORTED"


def test_a_leaf_that_was_not_asked_has_no_answer(stage):
    """The key is only there where it means something."""
    root = stage.start(stage.parallel("a"))
    stage.call("a").succeeds()
    assert "abort" not in root.snapshot()["children"][0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("REFUSED", "refused the abort, and may go on: why"),
        ("NO_ANSWER", "did not answer the abort, and may go on: why"),
        ("UNREACHABLE", "could not be reached by the abort: why"),
    ],
)
def test_nobody_waits_for_a_child_that_does_not_take_the_abort(stage, answer, words):
    """Rank 3: the abort goes on past it, and says so, at once."""
    root = stage.start(stage.parallel("a", "b"))
    root.abort()
    stage.call("b").ends(3, 7, "as asked")
    stage.call("a").report(abort_ack=answer, abort_text="why")
    stage.settle()

    assert root.ended
    assert f"lab/a/1: {words}" in stage.outcome["result"][1]
    assert stage.runtime.time == 0.0


def test_a_leaf_that_takes_the_abort_and_goes_on_is_given_up(stage):
    """A child with children of its own has longer."""
    stage.context = ExecutionContext(
        stage.runtime, stage.children, clock=lambda: stage.runtime.time, abort_timeout=3.0
    )
    root = stage.start(stage.parallel("a", "b"))
    stage.call("b").abort_grace = 1.0
    root.abort()
    told = []
    next(root.leaves()).tell_abort_answer(lambda answer, _text: told.append(answer))
    stage.call("a").report(abort_ack="ACK", abort_text="took it")
    assert told == [], "whether it does as it says is still to be seen"
    stage.runtime.advance(3.0)
    assert told == [AbortAnswer.NO_ANSWER]
    assert [leaf.ended for leaf in root.leaves()] == [True, False]
    stage.runtime.advance(1.0)

    assert root.ended
    first, second = root.snapshot()["children"]
    assert first["abort"] == "NO_ANSWER", "it said that it would end, and did not"
    assert first["abort_text"] == "took it, but did not confirm the abort within 3 s"
    assert second["abort"] == "NO_ANSWER"
    assert "did not confirm the abort within 4 s" in second["message"]


def test_an_answer_after_the_end_is_kept(stage):
    """Of a node whose time was up: whether the child took the abort is told later."""
    root = stage.start(stage.parallel("a", timeout=1.0))
    stage.runtime.advance(1.0)
    assert root.ended
    told = []
    next(root.leaves()).tell_abort_answer(lambda *answer: told.append(answer))

    stage.call("a").report(**REFUSED)
    stage.call("a").report(abort_ack="ACK")

    assert told == [(AbortAnswer.REFUSED, "not now")]
    assert root.snapshot()["children"][0]["abort"] == "REFUSED"
    assert next(root.leaves()).late_updates == 0


def test_a_leaf_of_whose_work_nobody_knows_the_end_says_so(stage):
    """Given up, refused or out of time: the child may still be at work."""
    root = stage.start(stage.parallel("a", "b", "c", "d", "e", timeout=1.0))
    stage.call("a").succeeds()
    stage.call("b").report(abort_ack="REFUSED")
    stage.call("c").report(lost=True)
    stage.call("c").ends(7, 4, "no answer for 10 s")
    stage.call("d").ends(7, 4, "what became of its own child is not known")
    stage.runtime.advance(1.0)
    assert [leaf.is_unconfirmed for leaf in root.leaves()] == [False, True, True, False, True]


def test_a_child_that_has_ended_is_not_asked(stage):
    """It may by now run the command of somebody else."""
    root = stage.start(stage.parallel("a", "b"))
    stage.call("a").succeeds()
    root.abort()
    stage.call("b").ends(3, 7)
    assert stage.call("a").aborts == 0
    assert [leaf.was_asked_to_end for leaf in root.leaves()] == [False, True]


def test_the_summary_names_those_that_did_not_acknowledge_and_no_more_than_a_few():
    """13 ACK, and so on; those that had nothing to do are not mentioned."""
    answers = [(f"a/b/{n}", AbortAnswer.NO_ANSWER, "") for n in range(10)]
    answers += [("x/y/z", AbortAnswer.REFUSED, "x/y/z: busy " + 200 * "é")]
    answers += [("i/d/l", AbortAnswer.NOT_NEEDED, "")]
    text = summary_of_answers(answers)
    assert text.startswith("1 REFUSED (x/y/z: busy é")
    assert text.endswith("10 NO_ANSWER (a/b/0; a/b/1; a/b/2; a/b/3; a/b/4; a/b/5; and 4 more)")
    assert len(text) < 300
    assert summary_of_answers([]) == ""
