"""Whoever observes a tree is told of each change of each node."""

from collections.abc import Mapping
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks import BaseTask, LeafTask


class Notes:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def node_started(self, node: BaseTask) -> None:
        """Note a start."""
        self.lines.append(("started", node.path))

    def node_accepted(self, leaf: LeafTask, command_id: str) -> None:
        """Note an id."""
        self.lines.append(("accepted", leaf.path, command_id))

    def node_progressed(self, node: BaseTask, progress: int) -> None:
        """Note progress."""
        self.lines.append(("progress", node.path, progress))

    def node_ended(self, node: BaseTask, payload: Mapping[str, Any]) -> None:
        """Note an end."""
        self.lines.append(("ended", node.path, payload["result"][0]))


class Broken(Notes):
    """Fails at everything."""

    def node_started(self, node: BaseTask) -> None:
        """Raise."""
        raise RuntimeError("broken")

    node_ended = node_started  # type: ignore[assignment]


def test_each_change_of_each_node_is_told_and_children_end_before_their_parents(stage):
    """IN-01: what is written down follows from this; a broken observer hurts nobody."""
    root = stage.sequence("a", stage.parallel("b", name="group"))
    notes = Notes()
    root.observe(Broken())
    root.observe(notes)
    stage.start(root)

    stage.call("a").report(command_id="17_1_Go")
    stage.call("a").report(progress=50)
    stage.call("a").succeeds()
    stage.settle()
    stage.call("b").succeeds()
    stage.settle()

    assert root.ended
    assert ("accepted", ("a",), "17_1_Go") in notes.lines
    assert ("progress", ("a",), 50) in notes.lines
    ends = [line for line in notes.lines if line[0] == "ended"]
    assert ends == [
        ("ended", ("a",), ResultCode.OK),
        ("ended", ("group", "b"), ResultCode.OK),
        ("ended", ("group",), ResultCode.OK),
        ("ended", (), ResultCode.OK),
    ]
    starts = [line[1] for line in notes.lines if line[0] == "started"]
    assert starts == [(), ("a",), ("group",), ("group", "b")]


def test_an_id_alone_is_no_update_of_the_subtask(stage):
    """IN-01: the tracker is not bothered with what is only for the record."""
    leaf = stage.leaf("a")
    root = stage.sequence(leaf)
    stage.start(root)

    stage.call("a").report(command_id="17_1_Go")

    assert leaf.tracker.overall_status is not TaskStatus.COMPLETED
    assert leaf.late_updates == 0
