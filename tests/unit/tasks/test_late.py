"""Steps that wait for a person, and analyses: leaves that are complete when their turn comes."""

import json

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ArgumentError, CommandMapError, CompositionError
from milonga.tasks import (
    Answers,
    ChildSpec,
    CommandMap,
    ExecutionContext,
    PendingStep,
    StepRequest,
    TaskType,
    check_command_map,
    compose,
)

from .test_deadlines import TimedChildren

CHILDREN = [ChildSpec(name="cbf", trl="lab/cbf/1")]
ASK = {"type": "confirm", "prompt": "How much?", "input": {"dB": "number", "remark": "text?"}}
APPLY = {"target": "cbf", "argument": {"value": {"attenuation": {"$answer": "ask.dB"}}}}


class Desk:
    """Keeps the steps that are asked."""

    def __init__(self):
        self.steps = []

    def __call__(self, request, on_update):
        """Show a step."""
        self.steps.append(PendingStep(request, on_update))
        return self.steps[-1]


def composed(tasks, desk=None, more=None, timeout=60.0, **keywords):
    """Return the tree of a command."""
    spec = CommandMap.from_data({"Go": {"tasks": tasks} | (more or {})})["Go"]
    ask = desk if desk is not None else Desk()
    return compose("Go", spec, "{}", CHILDREN, {}, ask=ask, timeout=timeout, **keywords)


def started(stage, tasks, **keywords):
    """Start a command; return its tree and its steps."""
    desk = Desk()
    root = composed(tasks, desk, **keywords)
    stage.start(root)
    return root, desk.steps


def test_a_step_waits_and_its_answer_goes_into_later_arguments(stage):
    """IN-09: nothing is sent before, and the child gets what was answered."""
    root, (step,) = started(stage, {"ask": ASK, "apply": APPLY})
    assert (step.request.path, step.request.prompt) == (("ask",), "How much?")
    assert stage.children.called == []
    node = root.snapshot()["children"][0]
    assert (node["type"], node["target"], node["status"]) == ("confirm", "operator", "IN_PROGRESS")
    assert node["step"]["waits"] is True
    assert "$answer" in root.snapshot()["children"][1]["argument"]

    assert step.clear({"dB": 3.5}, by="ann")
    stage.runtime.settle()

    assert json.loads(stage.children["lab/cbf/1"].argument) == {"attenuation": 3.5}
    assert json.loads(root.snapshot()["children"][1]["argument"]) == {"attenuation": 3.5}
    stage.children["lab/cbf/1"].succeeds()
    stage.runtime.settle()
    assert root.ended
    assert root.snapshot()["result_code"] == "OK"
    assert (step.answer, step.by) == ({"dB": 3.5}, "ann")
    assert not step.clear({"dB": 4.0}), "it does not wait any more"


def test_a_child_whose_argument_is_an_answer_is_told_its_time_as_any_other(stage):
    """It was told none, so that it could not say itself what was late."""
    children = TimedChildren(stage.children)
    stage.context = ExecutionContext(stage.runtime, children, clock=lambda: stage.runtime.time)
    _, (step,) = started(stage, {"ask": ASK, "apply": APPLY | {"timeout": 5.0}})
    stage.runtime.advance(2.0)
    step.clear({"dB": 3.5}, by="ann")
    stage.runtime.settle()
    assert children.seconds == {"lab/cbf/1": 5.0}
    assert json.loads(stage.children["lab/cbf/1"].argument) == {"attenuation": 3.5}


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"dB": "much"}, 'dB: found "much", expected type number'),
        ({}, "dB: found nothing, expected a value"),
        (None, "dB: found nothing, expected a value"),
        ({"dB": 1, "x": 2}, "x: found an unknown field, expected dB, remark"),
        ({"dB": True}, "dB: found true, expected type number"),
        ({"dB": 1, "remark": 7}, "remark: found 7, expected type string"),
    ],
)
def test_a_wrong_answer_names_the_field_and_the_step_goes_on_waiting(stage, answer, text):
    """IN-09: nothing is lost by a slip."""
    root, (step,) = started(stage, {"ask": ASK})

    with pytest.raises(ArgumentError) as refusal:
        step.clear(answer)

    assert text in str(refusal.value)
    assert not root.ended
    assert step.clear({"dB": 1})


def test_a_whole_json_schema_may_say_what_is_to_be_answered(stage):
    """Bounds and choices, and parts of parts."""
    schema = {
        "type": "object",
        "properties": {
            "band": {"enum": ["low", "high"]},
            "beam": {"type": "object", "properties": {"gain": {"maximum": 9}}},
        },
        "required": ["band"],
    }
    _, (step,) = started(stage, {"ask": {"prompt": "?", "input": schema}})

    with pytest.raises(ArgumentError, match=r'band: found "mid", expected enum \["low", "high"\]'):
        step.clear({"band": "mid"})
    with pytest.raises(ArgumentError, match=r"beam.gain: found 10, expected maximum 9"):
        step.clear({"band": "low", "beam": {"gain": 10}})
    assert step.clear({"band": "low"})


def test_a_refused_step_is_rejected_and_nothing_comes_after_it(stage):
    """IN-09: also where the map says nothing of skip_subtasks."""
    root, (step,) = started(stage, {"ask": ASK, "apply": APPLY})

    assert step.refuse("too windy", by="ann")
    stage.runtime.settle()

    assert root.ended
    assert stage.children.called == []
    ask, apply = root.snapshot()["children"]
    assert (ask["status"], ask["result_code"]) == ("REJECTED", "REJECTED")
    assert "operator: refused by ann: too windy" in ask["message"]
    assert apply["status"] == "REJECTED"


def test_an_optional_step_may_be_refused(stage):
    """The sequence goes on."""
    root, (step,) = started(
        stage, {"ask": {"prompt": "?", "optional": True}, "on": {"target": "*"}}
    )
    step.refuse()
    stage.runtime.settle()
    assert stage.children.called == ["lab/cbf/1"]
    assert not root.ended


def test_a_step_times_out_and_the_command_has_as_much_longer(stage):
    """IN-09: the command's own 60 s are for its work, not for people."""
    root, (step,) = started(stage, {"ask": ASK | {"timeout": 100.0}, "apply": APPLY})
    assert root.timeout == 160.0

    stage.runtime.advance(99.0)
    assert not root.ended
    stage.runtime.advance(2.0)

    assert root.ended
    ask = root.snapshot()["children"][0]
    assert (ask["status"], ask["message"]) == ("FAILED", "operator: timed out after 100 s")
    assert not step.clear({"dB": 1})


def test_abort_ends_a_step_at_once(stage):
    """IN-09: no waiting for the person."""
    root, (step,) = started(stage, {"ask": ASK, "apply": APPLY})

    root.abort()
    stage.runtime.settle()

    assert root.ended
    assert stage.outcomes[0]["status"] is TaskStatus.ABORTED
    assert step.as_json()["waits"] is False


def test_who_keeps_steps_hears_once_that_one_is_gone():
    """Whatever ends it, and before the leaf does."""
    gone, told = [], []
    step = PendingStep(
        request_of("ask"), lambda **update: told.append((update, len(gone))), gone.append
    )
    assert step.clear()
    step.abort()
    step.close()
    assert gone == [step]
    assert [(update["status"], before) for update, before in told] == [(TaskStatus.COMPLETED, 1)]


def request_of(name):
    """Return what a step without input asks."""
    return StepRequest((name,), "?", None, 1.0)


def test_nobody_to_show_steps_is_told(stage):
    """By the composition, not by a step that waits for ever."""
    spec = CommandMap.from_data({"Go": {"tasks": {"ask": ASK}}})["Go"]
    with pytest.raises(CompositionError, match="which nobody shows"):
        compose("Go", spec, None, CHILDREN, {})


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ({"apply": APPLY}, "Go.tasks.apply: found $answer of 'ask', expected a step that asks"),
        (
            {"a": {"tasks": {"ask": ASK}}, "b": {"tasks": {"ask": ASK}}},
            "found 'ask' as the name of several steps that ask, expected it once",
        ),
        ({"fit": {"analysis": "fit"}}, "Go.tasks.fit.analysis: found 'fit', expected one of peak"),
    ],
)
def test_what_does_not_fit_is_told_by_the_check(tasks, text):
    """Before anything runs: `milonga validate` uses the same words."""
    command_map = CommandMap.from_data({"Go": {"tasks": tasks}})
    lines = check_command_map(command_map, CHILDREN, [], analyses=["peak"])
    assert text in "\n".join(lines)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"type": "confirm"}, "Go.tasks.ask.prompt: found nothing, expected a value"),
        ({"prompt": ""}, "Go.tasks.ask.prompt"),
        ({"prompt": "?", "input": {"x": "float"}}, "for field 'x' one of text, string, number"),
        (
            {"prompt": "?", "input": {"type": "object", "required": 7}},
            "a JSON schema; required: 7 is not of type 'array'",
        ),
        (
            {"prompt": "?", "input": {"type": "object", "$ref": "http://x/y"}},
            "a JSON schema that refers only to itself, not to 'http://x/y'",
        ),
        ({"prompt": "?", "timeout": 0}, "Go.tasks.ask.timeout: found 0"),
        ({"prompt": "?", "promt": 1}, "found an unknown key (value 1), expected one of prompt"),
        ({"analysis": "x", "parameter": {}}, "expected one of analysis, parameters"),
    ],
)
def test_a_map_that_is_wrong_is_refused_by_field(node, text):
    """The place, what was found, what was expected."""
    with pytest.raises(CommandMapError) as refusal:
        CommandMap.from_data({"Go": {"tasks": {"ask": node}}})
    assert text in str(refusal.value)


def test_an_analysis_gets_the_runs_of_the_plans_before_it(stage):
    """LX-14: those of the same command, in the order of the tree, and none that come later."""
    started_with = []

    class Plan:
        command_id = None

        def __init__(self, uid):
            self.uid = uid

        def details(self):
            return {"run_uids": [self.uid]}

        def abort(self):
            pass

        close = abort

    def plan(argument, path):
        def begin(context, on_update):
            on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, ""))
            return Plan("-".join(path()))

        return begin

    def analysis(request, on_update):
        started_with.append(request)
        on_update(status=TaskStatus.COMPLETED, result=(ResultCode.OK, ""))
        return Plan("none")

    tasks = {
        "first": {"tasks": {"a": {"plan": "p", "arguments": {}}, "b": {"plan": "p"}}},
        "fit": {"analysis": "peak", "parameters": {"shape": "lorentzian"}},
        "later": {"plan": "p"},
    }
    root = composed(tasks, plans={"p": plan}, analyses={"peak": analysis})
    stage.start(root)

    (request,) = started_with
    assert request.path == ("fit",)
    assert request.runs == ("first-a", "first-b")
    assert request.parameters == {"shape": "lorentzian"}
    assert [leaf.task_type for leaf in root.leaves()][2] is TaskType.ANALYSIS


def test_answers_fill_values_wherever_they_are_named():
    """In lists and mappings; a field that is not there is told."""
    answers = Answers()
    answers.note("ask", {"a": {"b": 1}, "c": [2]})
    value = {"x": [{"$answer": "ask.a.b"}, {"$answer": "ask"}], "y": "$answer", "z": {"$answer": 1}}
    filled = {"x": [1, {"a": {"b": 1}, "c": [2]}], "y": "$answer", "z": {"$answer": 1}}
    assert answers.fill(value) == filled
    with pytest.raises(CompositionError, match="found no field 'd' in the answer to step 'ask'"):
        answers.fill({"$answer": "ask.a.d"})
    with pytest.raises(CompositionError, match="found no answer to step 'who' yet"):
        answers.fill([{"$answer": "who"}])


def test_an_answer_that_lacks_the_field_rejects_the_step_that_needs_it(stage):
    """A field that may be left out was left out."""
    apply = {"target": "cbf", "argument": {"value": {"$answer": "ask.remark"}}}
    root, (step,) = started(stage, {"ask": ASK, "apply": apply})
    step.clear({"dB": 1})
    stage.runtime.settle()
    assert root.ended
    assert stage.children.called == []
    assert "found no field 'remark'" in root.snapshot()["children"][1]["message"]
