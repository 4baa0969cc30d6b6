"""What properties and arguments say of plans, and a plan's commands to children."""

from collections.abc import Callable
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._plan_calls import CALLS_KEPT, PLANS_KEPT, Call, PlanCaller
from milonga.devices._plan_properties import (
    plans_named_in,
    read_plan_devices,
    read_plans,
    read_run_plan,
)
from milonga.devices._tree_job import TreeJob
from milonga.errors import ArgumentError, CommandMapError
from milonga.tasks import ChildSpec, CommandMap, ExecutionContext, LeafTask, TaskType

CBF = ChildSpec(name="cbf", trl="lab/cbf/1")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["scan"], "line 1: found 'scan'; expected module:function or name=module:function"),
        (["", "a.b:c", "x=d:c", "c=e:f"], "line 4: found 'c' again"),
        (["a b:c"], "line 1"),
        (["os:system()"], "line 1"),
    ],
)
def test_a_wrong_line_of_plans_is_told(lines: list[str], text: str) -> None:
    """With its number."""
    with pytest.raises(CommandMapError, match=text):
        read_plans(lines)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('{"name": "m", "type": "rotor", "trl": "a/b/c"}', "type: found 'rotor'"),
        ('{"name": "m", "type": "motor", "trl": "a/b"}', "trl: found 'a/b'"),
        ('{"name": "m", "type": "motor"}', "trl: found"),
        ('{"name": "good", "type": "motor", "trl": "a/b/c"}', "found 'good' again"),
        ("motor", "Invalid JSON"),
    ],
)
def test_a_wrong_plan_device_is_told(line: str, text: str) -> None:
    """With its line, the field, and what was found."""
    good = '{"name": "good", "type": "site.devices:Slit", "trl": "tango://db:1/a/b/c"}'
    with pytest.raises(CommandMapError, match=f"Property PlanDevices, line 2: .*{text}"):
        read_plan_devices([good, line])


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        (None, "plan: found .*Field required"),
        ('{"plan": 3}', "plan: found '3'; expected"),
        ('{"plan": "scan", "on_busy": "replace"}', "on_busy: found 'replace'"),
        ('{"plan": "scan", "timeout": -1}', "timeout: found '-1'"),
        ('{"plan": "scan", "args": {}}', "args: found"),
        ("[", "Invalid JSON"),
    ],
)
def test_a_wrong_request_is_told(argument: str | None, text: str) -> None:
    """RunPlan: the field, what was found, what was expected."""
    with pytest.raises(ArgumentError, match=f"RunPlan: .*{text}"):
        read_run_plan(argument)


def test_the_plans_of_commands_are_found_at_every_level() -> None:
    """Commands without any are left out."""
    commands = CommandMap.from_data(
        {
            "On": {"tasks": {"cbf": {}}},
            "Configure": {"tasks": {"a": {"plan": "tune"}, "b": {"tasks": {"c": {"plan": "m:f"}}}}},
        }
    )

    assert plans_named_in(commands) == {"Configure": ("tune", "m:f")}


class Command:
    """A command on its way at a child of the test's."""

    command_id = "id-1"

    def __init__(self, on_update: Callable[..., None]) -> None:
        self.on_update = on_update

    def abort(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class Links:
    """The way to the children; keeps the commands."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Command:
        """Start a command."""
        assert (target, argument) == (CBF.trl, None)
        self.commands.append(Command(on_update))
        return self.commands[-1]


def test_a_command_of_a_plan_is_shown_as_a_subtask() -> None:
    """From its start to its end, with the child's words; updates reach the plan as well."""
    links, told = Links(), []
    caller = PlanCaller([CBF], links, lambda _: "", lambda: "plan-1")
    caller.invoke("cbf", "Scan", None, lambda **update: told.append(update))
    (command,) = links.commands

    (shown,) = caller.calls.snapshots("plan-1")
    assert (shown["target"], shown["command"], shown["command_id"]) == (CBF.trl, "Scan", "id-1")
    assert (shown["status"], shown["result_code"], shown["finished"]) == ("QUEUED", "QUEUED", None)
    command.on_update(status=TaskStatus.IN_PROGRESS, progress=40)
    (shown,) = caller.calls.snapshots("plan-1")
    assert (shown["status"], shown["progress"]) == ("IN_PROGRESS", 40)
    assert caller.calls.running("plan-1") == 1
    command.on_update(status=TaskStatus.FAILED, result=(ResultCode.FAILED, "no beam"))
    command.on_update(status=TaskStatus.COMPLETED)
    (shown,) = caller.calls.snapshots("plan-1")

    assert (shown["status"], shown["result_code"], shown["message"]) == (
        "FAILED",
        "FAILED",
        "no beam",
    )
    assert shown["finished"] is not None
    assert caller.calls.running("plan-1") == 0
    assert len(told) == 3
    assert caller.calls.snapshots("plan-2") == []


def test_a_child_that_cannot_be_commanded_is_told_to_the_plan() -> None:
    """An unknown one, and one that is out of service."""
    caller = PlanCaller([CBF], Links(), lambda _: "is out of service", lambda: "plan-1")

    with pytest.raises(ArgumentError, match="child: found 'x'; expected one of cbf"):
        caller.invoke("x", "Scan", None, lambda **_: None)
    with pytest.raises(ArgumentError, match="invoke Scan: child 'cbf' is out of service"):
        caller.invoke("cbf", "Scan", None, lambda **_: None)


def test_what_is_remembered_of_plans_is_bounded() -> None:
    """The latest commands of the latest plans."""
    caller = PlanCaller([CBF], Links(), lambda _: "", lambda: "")
    for number in range(CALLS_KEPT + 5):
        caller.calls.add("long", Call(CBF, f"C{number}"))
    shown = caller.calls.snapshots("long")
    assert (len(shown), shown[-1]["command"]) == (CALLS_KEPT, f"C{CALLS_KEPT + 4}")

    for number in range(PLANS_KEPT):
        caller.calls.add(f"plan {number}", Call(CBF, "On"))
    assert caller.calls.snapshots("long") == []


class Ended:
    """The invocation of a plan that had runs."""

    command_id = None

    def abort(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def details(self) -> dict[str, Any]:
        """Return the runs."""
        return {"run_uids": ["u1", "u2"]}


class Now:
    """A runtime that calls at once, and never later."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call it."""
        function()

    def call_later(self, delay: float, function: Callable[[], None]) -> Any:
        """Do not."""
        return self

    def cancel(self) -> None:
        """Nothing to do."""


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (TaskStatus.COMPLETED, ResultCode.OK, "done"),
        (TaskStatus.FAILED, ResultCode.FAILED, "no beam; runs: u1, u2"),
    ],
)
def test_the_runs_of_a_plan_are_in_the_result_of_its_command(
    status: TaskStatus, code: ResultCode, text: str
) -> None:
    """Once, also where the plan's own words have them."""
    listeners: list[Callable[..., None]] = []
    reports: list[dict[str, Any]] = []

    def action(_context: object, on_update: Callable[..., None]) -> Ended:
        listeners.append(on_update)
        return Ended()

    def make(completed: Any, _progressed: Any) -> LeafTask:
        kind = TaskType.PLAN
        return LeafTask(
            "tune", "tune", "RunPlan", task_type=kind, action=action, completed_callback=completed
        )

    job = TreeJob(make, ExecutionContext(Now(), Links()))
    job.start(lambda **report: reports.append(report))
    listeners[0](status=status, result=(code, text))

    assert reports[-1]["status"] is status
    assert reports[-1]["result"][1].endswith("; runs: u1, u2")
    assert reports[-1]["result"][1].count("u1") == 1
