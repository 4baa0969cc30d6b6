"""Device leaves and internal leaves."""

import dataclasses
import threading
import weakref

from milonga.control_model import ResultCode, TaskStatus


def test_a_device_leaf_passes_the_command_on_and_holds_the_invocation(stage):
    """TR-07: what listens to the child lives until the leaf has ended, and is then closed."""
    stage.start(stage.sequence(stage.leaf("a", argument='{"x": 1}')))
    call = stage.call("a")
    assert (call.target, call.command, call.argument) == ("lab/a/1", "Go", '{"x": 1}')

    alive = weakref.ref(stage.children.calls.pop())
    del call
    assert alive() is not None, "the leaf holds it"
    alive().succeeds()

    assert alive() is None, "the ended leaf does not"
    assert stage.outcome["status"] is TaskStatus.COMPLETED


def test_updates_come_in_pieces_and_in_any_order(stage):
    """TR-07, SR-08: status, progress and result are optional keywords of many updates."""
    root = stage.start(stage.sequence("a"))
    call = stage.call("a")

    call.report(progress=30)
    call.report(status=TaskStatus.IN_PROGRESS)
    call.report(something_else=1)
    call.report()
    assert root.tracker.get_status() is TaskStatus.IN_PROGRESS
    call.report(status=TaskStatus.COMPLETED)
    assert not stage.outcomes, "the result may still come"
    call.report(result=(ResultCode.FAILED, "no beam"))

    assert stage.outcome["result"] == (ResultCode.FAILED, "lab/a/1: no beam")


def test_a_result_that_never_comes_is_not_waited_for_long(stage):
    """SR-08: a final status without result counts after half a second of the runtime's time."""
    stage.start(stage.sequence("a"))
    stage.call("a").report(status=TaskStatus.COMPLETED)

    stage.runtime.advance(0.4)
    assert not stage.outcomes
    stage.runtime.advance(0.2)

    assert stage.outcome["result"][0] is ResultCode.OK


def test_updates_after_the_end_change_nothing(stage):
    """TR-07: they are counted and ignored."""
    root = stage.start(stage.sequence("a"))
    stage.call("a").succeeds()
    before = root.snapshot()

    stage.call("a").fails()
    stage.call("a").report(progress=3, status=object())

    assert root.snapshot() == before
    assert root.statistics()["late_updates"] == 2
    assert len(stage.outcomes) == 1


def test_nonsense_in_an_update_does_not_reach_the_child(stage):
    """TR-07: a callback never raises into the thread of events."""
    stage.start(stage.sequence("a"))
    call = stage.call("a")

    call.report(status=[], progress="x", result=object(), error=3, task_name="b", device_name=9)
    call.report(status="COMPLETED", result='[0, "done"]')

    assert stage.outcome["result"][0] is ResultCode.OK
    assert stage.outcome["devices"] == ["lab/a/1"]


def test_a_child_that_answers_in_the_call_is_let_go(stage):
    """TR-07: a refusal that comes before the invocation is returned closes it too."""
    stage.children.habits["lab/a/1"] = lambda call: call.refuses("not in this state")

    stage.start(stage.sequence("a"))

    assert stage.outcome["status"] is TaskStatus.REJECTED
    assert "not in this state" in stage.outcome["result"][1]
    assert stage.call("a").closes == 1


def test_a_caller_that_raises_fails_the_leaf(stage, caplog):
    """TR-07: also what must not happen has an outcome."""

    def broken(call):
        stage.children.calls.remove(call)
        raise OSError("no network")

    stage.children.habits["lab/a/1"] = broken
    stage.start(stage.sequence("a", "b"))
    stage.call("b").succeeds()

    assert stage.outcome["status"] is TaskStatus.FAILED
    assert "lab/a/1: could not be started: OSError: no network" in stage.outcome["result"][1]
    assert "no network" in caplog.text


def test_errors_of_the_child_reach_the_root(stage):
    """TT-21: DevErrors climb the tree."""
    stage.start(stage.sequence("a"))

    stage.call("a").report(
        status=TaskStatus.FAILED, result=(ResultCode.FAILED, "x"), error=("a DevError",)
    )

    assert "a DevError" in stage.outcome["error"]


def test_a_method_that_returns_a_result_has_completed(stage):
    """TR-02: INTERNAL, with the argument of the step, on the runtime's thread."""
    seen = []

    def method(call):
        seen.append((call.argument, threading.current_thread()))
        return ResultCode.OK, "well done"

    stage.start(stage.sequence(stage.method("check", method, argument="7")))

    assert seen == [("7", threading.current_thread())]
    assert stage.outcome["status"] is TaskStatus.COMPLETED
    assert "devices" not in stage.outcome


def test_a_method_that_returns_none_reports_later(stage):
    """TR-02: INTERNAL work that takes time holds no thread."""
    calls = []
    root = stage.start(stage.sequence(stage.method("ramp", calls.append)))
    (call,) = calls
    call.call_later(3.0, lambda: call.update(progress=50))
    call.call_later(
        6.0, lambda: call.update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, ""))
    )
    assert root.tracker.get_status() is TaskStatus.IN_PROGRESS

    stage.runtime.advance(6.0)

    assert call.abort_event.is_set(), "whatever goes on has nothing to go on for"
    assert stage.progress == [50]
    assert stage.outcome["result"][0] is ResultCode.OK


def test_a_method_that_raises_has_failed(stage, caplog):
    """TR-02: an exception of a method is an abnormal failure, with its kind in the text."""

    def method(call):
        raise LookupError("no such band")

    stage.start(stage.sequence(stage.method("check", method)))

    assert stage.outcome["status"] is TaskStatus.FAILED
    assert "check: LookupError: no such band" in stage.outcome["result"][1]
    assert "no such band" in caplog.text


def test_a_method_may_find_that_the_work_failed(stage):
    """TR-02: a result with a failure code is an ordinary failure."""
    root = stage.sequence(stage.method("check", lambda _: (ResultCode.FAILED, "too hot")), "b")
    stage.start(root)
    stage.call("b").succeeds()

    assert stage.outcome["status"] is TaskStatus.COMPLETED
    assert "check: too hot" in stage.outcome["result"][1]


def test_a_method_runs_where_the_context_says_and_is_given_up_there(stage):
    """The runtime keeps the deadline while a method takes its time."""
    calls = []
    stage.context = dataclasses.replace(
        stage.context, run_method=lambda call: calls.append(call) is None
    )
    root = stage.start(
        stage.sequence(stage.method("m", lambda _call: (ResultCode.OK, "late")), timeout=1.0)
    )
    stage.runtime.advance(1.0)
    assert stage.outcome["result"][0] is ResultCode.FAILED
    assert "m: timed out after 1 s" in stage.outcome["result"][1]

    calls[0]()  # its turn comes: it is not called any more
    assert next(root.leaves()).late_updates == 1
    assert len(stage.outcomes) == 1


def test_a_method_for_which_there_is_no_room_has_failed(stage):
    """Everything is bounded, and says so."""
    stage.context = dataclasses.replace(stage.context, run_method=lambda _call: False)
    stage.start(stage.sequence(stage.method("m", lambda _call: (ResultCode.OK, ""))))
    assert "m: was not called: too many methods wait" in stage.outcome["result"][1]
