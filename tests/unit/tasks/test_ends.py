"""Aborts and deadlines: how trees end that do not end by themselves."""

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks import ExecutionContext


def test_abort_ends_the_tree_when_the_children_confirm(stage):
    """TR-12: the outcome comes with the last confirmation, and is ABORTED."""
    root = stage.start(stage.sequence(stage.parallel("a", "b", name="group"), "c"))

    root.abort()

    assert [call.aborts for call in stage.children.calls] == [1, 1]
    assert root.snapshot()["children"][1]["message"] == "lab/c/1: aborted before it started"
    stage.call("a").ends(TaskStatus.ABORTED, ResultCode.ABORTED, "stopped")
    assert not stage.outcomes
    stage.call("b").ends(TaskStatus.ABORTED, ResultCode.ABORTED, "stopped")
    stage.settle()

    assert stage.outcome["status"] is TaskStatus.ABORTED
    assert stage.outcome["result"][0] is ResultCode.ABORTED
    assert stage.children.called == ["lab/a/1", "lab/b/1"]


def test_a_child_that_does_not_confirm_is_given_up(stage):
    """TR-12: after abort_timeout the tree ends, and names who was silent."""
    root = stage.start(stage.parallel("a", "b"))
    root.abort()
    stage.call("b").ends(TaskStatus.ABORTED, ResultCode.ABORTED, "stopped")

    stage.runtime.advance(4.9)
    assert not stage.outcomes
    stage.runtime.advance(0.2)

    assert stage.outcome["status"] is TaskStatus.ABORTED
    text = "lab/a/1: did not confirm the abort within 5 s"
    assert text in stage.outcome["result"][1]
    stage.call("a").succeeds()
    assert stage.outcome["status"] is TaskStatus.ABORTED


def test_abort_goes_on_past_a_child_that_raises(stage, caplog):
    """TR-12: one that fails does not keep others from being asked."""
    root = stage.start(stage.parallel("a", "b"))

    def broken():
        raise OSError("gone")

    stage.call("a").abort = broken
    root.abort()

    assert stage.call("b").aborts == 1
    assert "gone" in caplog.text
    stage.runtime.advance(5.0)


def test_abort_is_idempotent(stage):
    """TR-12: again, during and after, it changes nothing and asks nobody twice."""
    root = stage.start(stage.parallel("a", "b"))
    stage.call("b").confirms_aborts = True

    for _ in range(3):
        root.abort()
    root.subtasks[0].abort()
    assert stage.runtime.pending_timers == 2, "one for each node that was aborted"
    stage.runtime.advance(5.0)
    outcome = stage.outcome
    root.abort()
    stage.runtime.advance(10.0)

    assert stage.outcome == outcome
    assert [call.aborts for call in stage.children.calls] == [1, 1]


@pytest.mark.parametrize("started", [False, True])
def test_abort_before_the_first_step_calls_nobody(stage, started):
    """TR-12: also between start and the runtime's turn, and before start at all."""
    root = stage.observe(stage.sequence("a", stage.parallel("b", "c", name="group")))
    if started:
        root.start(stage.context)

    root.abort()
    if not started:
        root.start(stage.context)
    stage.settle()

    assert stage.outcome["status"] is TaskStatus.ABORTED
    assert stage.children.calls == []


def test_a_child_that_finishes_in_spite_of_the_abort_has_finished(stage):
    """TR-12: a tree in which nothing was aborted is not called aborted."""
    root = stage.start(stage.parallel("a"))
    root.abort()

    stage.call("a").succeeds()

    assert stage.outcome["result"][0] is ResultCode.OK


def test_abort_while_a_child_is_being_called_reaches_it(stage):
    """TR-12: the race of an abort with the start of a leaf is not lost."""
    root = stage.parallel("a", "b")
    stage.children.habits["lab/a/1"] = lambda _: root.abort()
    stage.start(root)

    assert stage.call("a").aborts == 1
    assert stage.children.called == ["lab/a/1"]
    stage.call("a").ends(TaskStatus.ABORTED, ResultCode.ABORTED)
    assert stage.outcome["status"] is TaskStatus.ABORTED


def test_a_child_that_ended_in_the_call_is_not_aborted(stage):
    """TR-12: by then it may run a command of somebody else."""
    root = stage.parallel("a")

    def end_and_abort(call):
        call.succeeds()
        root.abort()

    stage.children.habits["lab/a/1"] = end_and_abort
    stage.start(root)

    assert stage.call("a").aborts == 0
    assert stage.outcome["result"][0] is ResultCode.OK


def test_a_child_that_ends_after_an_abort_in_the_call_is_not_aborted(stage):
    """TR-12: the abort came first, but before it could be sent there was nothing to abort."""
    root = stage.parallel("a", "b")

    def abort_and_end(call):
        root.abort()
        call.succeeds()

    stage.children.habits["lab/a/1"] = abort_and_end
    stage.start(root)

    assert stage.call("a").aborts == 0
    assert stage.outcome["status"] is TaskStatus.ABORTED, "for b has not been started"


def test_a_child_whose_result_is_on_its_way_is_not_aborted(stage):
    """TR-12: it has ended, and its result may still follow."""
    root = stage.start(stage.parallel("a"))
    stage.call("a").report(status=TaskStatus.COMPLETED)

    root.abort()
    stage.call("a").report(result=(ResultCode.OK, "done"))

    assert stage.call("a").aborts == 0
    assert stage.outcome["result"][0] is ResultCode.OK


def test_a_step_can_be_aborted_alone(stage):
    """TR-12: the sequence goes on after a step, aborted before its turn or in it."""
    root = stage.start(stage.sequence("a", "b", "c"))
    root.subtasks[1].abort()
    stage.settle()
    assert stage.children.called == ["lab/a/1"], "the end of a later step starts nothing"

    root.subtasks[0].abort()
    stage.call("a").ends(TaskStatus.ABORTED, ResultCode.ABORTED)
    stage.settle()
    stage.call("c").succeeds()

    assert stage.children.called == ["lab/a/1", "lab/c/1"]
    assert stage.outcome["status"] is TaskStatus.ABORTED


def test_abort_sets_the_event_of_a_method(stage):
    """TR-12: INTERNAL work watches its event."""
    calls = []
    root = stage.start(stage.sequence(stage.method("ramp", calls.append)))
    (call,) = calls
    assert not call.abort_event.is_set()

    root.abort()

    assert call.abort_event.is_set()
    call.update(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, "stopped at 3 A"))
    assert stage.outcome["status"] is TaskStatus.ABORTED


def test_a_method_that_ignores_the_abort_is_given_up(stage):
    """TR-12: methods have as long as children."""
    root = stage.start(stage.sequence(stage.method("ramp", lambda _: None)))

    root.abort()
    stage.runtime.advance(5.0)

    text = "ramp: did not confirm the abort within 5 s"
    assert text in stage.outcome["result"][1]


def test_a_method_is_not_called_after_an_abort(stage):
    """TR-12: between the start of the leaf and its method's turn."""
    calls = []
    root = stage.observe(stage.sequence(stage.method("ramp", calls.append)))
    root.start(stage.context)
    stage.runtime.turn()

    root.abort()
    stage.settle()

    assert calls == []
    assert stage.outcome["status"] is TaskStatus.ABORTED


def test_a_leaf_that_is_late_fails_and_is_asked_to_stop(stage):
    """TR-13: FAILED, "timed out after X s", child abort requested, late events ignored."""
    root = stage.start(stage.sequence(stage.leaf("a", timeout=1.5), "b", skip_subtasks=True))

    stage.runtime.advance(1.4)
    assert not stage.outcomes
    stage.runtime.advance(0.2)
    stage.call("a").succeeds()
    stage.settle()

    assert stage.call("a").aborts == 1
    assert stage.outcome["status"] is TaskStatus.FAILED
    assert stage.outcome["result"][0] is ResultCode.FAILED
    assert "lab/a/1: timed out after 1.5 s" in stage.outcome["result"][1]
    assert root.statistics()["late_updates"] == 1


def test_a_late_composite_ends_all_below_it(stage):
    """TR-13: the unfinished leaves fail, running or not, and those that had finished stand."""
    group = stage.parallel("a", "b", stage.sequence("c", "d", name="inner"), name="group")
    group.timeout = 2.0
    root = stage.start(stage.parallel(group, "e"))
    stage.call("b").succeeds()

    stage.runtime.advance(2.0)

    assert [stage.call(name).aborts for name in "abce"] == [1, 0, 1, 0]
    assert not stage.outcomes, "the sibling of the group goes on"
    inner = root.subtasks[0].snapshot()["children"][2]["children"]
    assert inner[0]["message"] == "lab/c/1: timed out after 2 s"
    assert inner[1]["message"] == "lab/d/1: timed out after 2 s before it started"
    stage.call("e").succeeds()
    assert stage.outcome["status"] is TaskStatus.FAILED
    assert stage.outcome["failed_devices"] == ["lab/a/1", "lab/c/1", "lab/d/1"]


def test_a_command_that_is_late_fails(stage):
    """TR-13: a deadline of the whole command."""
    stage.start(stage.sequence("a", "b", timeout=3.0))
    stage.call("a").succeeds()
    stage.settle()

    stage.runtime.advance(3.0)

    assert stage.outcome["status"] is TaskStatus.FAILED
    assert stage.outcome["failed_devices"] == ["lab/b/1"]


def test_a_deadline_does_not_lie_after_that_of_the_node_above(stage):
    """TR-13: with a margin, the node that was late is named before the whole is."""
    context = ExecutionContext(
        stage.runtime, stage.children, clock=lambda: stage.runtime.time, deadline_margin=0.5
    )
    root = stage.observe(stage.sequence("a", stage.leaf("b", timeout=60.0), timeout=10.0))
    root.start(context)
    stage.runtime.advance(4.0)
    stage.call("a").succeeds()

    stage.runtime.advance(5.4)
    assert not stage.outcomes
    stage.runtime.advance(0.2)

    assert "lab/b/1: timed out after 5.5 s" in stage.outcome["result"][1]


def test_a_child_that_has_ended_is_not_late(stage):
    """TR-13: COMPLETED came in time, its result may still follow."""
    stage.start(stage.sequence(stage.leaf("a", timeout=1.0)))
    stage.runtime.advance(0.9)
    stage.call("a").report(status=TaskStatus.COMPLETED)

    stage.runtime.advance(0.2)
    stage.call("a").report(result=(ResultCode.OK, "done"))

    assert stage.outcome["result"][0] is ResultCode.OK
    assert stage.call("a").aborts == 0


def test_a_tree_that_ends_in_time_leaves_no_timer(stage):
    """TR-13: deadlines of what has ended are dropped."""
    stage.start(stage.sequence(stage.leaf("a", timeout=5.0), timeout=10.0))

    stage.call("a").succeeds()

    assert stage.runtime.pending_timers == 0


def test_a_deadline_during_an_abort_does_not_ask_twice(stage):
    """TR-13: the child that was asked to abort is not asked again."""
    root = stage.start(stage.sequence(stage.leaf("a", timeout=2.0)))
    root.abort()

    stage.runtime.advance(2.0)

    assert stage.call("a").aborts == 1
    assert stage.outcome["status"] is TaskStatus.FAILED


@pytest.mark.parametrize("name", ["deadline_margin", "abort_timeout"])
def test_times_of_a_context_are_not_negative(stage, name):
    """TR-13: seconds."""
    with pytest.raises(ValueError, match=name):
        ExecutionContext(stage.runtime, stage.children, **{name: -1.0})
