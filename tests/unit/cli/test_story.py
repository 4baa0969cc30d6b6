"""The demonstration knows when what happened is not its story."""

import pytest

from milonga.cli._story import STORY, Expected, deviation
from milonga.control_model import ResultCode, TaskStatus
from milonga.deploy import Topology, examples_folder

PARTLY = Expected(TaskStatus.COMPLETED, ResultCode.FAILED, frozenset({"pst-01"}))
WANTED = {"mid-csp/pst/01"}


def judged(
    status: TaskStatus = TaskStatus.COMPLETED,
    code: ResultCode = ResultCode.FAILED,
    message: str = "mid-csp/pst/01: no beam weights",
    found: tuple[str, ...] = ("mid-csp/pst/01",),
) -> str:
    """Judge a step that should fail because of one device."""
    return deviation(status, code, message, found, PARTLY, WANTED)


def test_what_the_story_tells_is_no_deviation() -> None:
    """An expected failure that names its culprit is a success of the demonstration."""
    assert judged() == ""


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"code": ResultCode.OK}, "expected COMPLETED FAILED, found COMPLETED OK"),
        ({"status": TaskStatus.FAILED}, "expected COMPLETED FAILED, found FAILED FAILED"),
        ({"found": ()}, "expected culprits mid-csp/pst/01, found none"),
        ({"found": ("mid-csp/cbf/01", "mid-csp/pst/01")}, "found mid-csp/cbf/01, mid-csp/pst/01"),
        ({"message": "something failed"}, "the message does not name mid-csp/pst/01"),
    ],
)
def test_anything_else_is_a_deviation(found: dict[str, object], expected: str) -> None:
    """An outcome, a culprit and a message are each looked at."""
    assert expected in judged(**found)  # type: ignore[arg-type]


def test_the_story_is_about_the_example() -> None:
    """Every device and argument that it names is there."""
    folder = examples_folder() / "mid-csp"
    known = {entry.name for entry in Topology.load(folder / "topology.yaml").devices}
    steps = [step for chapter in STORY for step in chapter.steps]

    assert {name for step in steps for name in (step.device, *step.scripts)} <= known
    assert all((folder / step.argument).is_file() for step in steps if step.argument)
