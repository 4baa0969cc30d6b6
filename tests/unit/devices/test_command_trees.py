"""Which trees of commands a device remembers."""

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._command_trees import CommandTrees
from milonga.tasks import LeafTask

from .conftest import Desk


def test_only_trees_of_commands_that_have_ended_are_forgotten(desk: Desk) -> None:
    """One that runs for hours stays, however many commands come and go meanwhile."""
    statuses: dict[str, TaskStatus] = {}
    trees = CommandTrees(lambda uid: statuses.get(uid, TaskStatus.NOT_FOUND))
    running, waiting = LeafTask("scan", "lab/a/1", "Scan"), LeafTask("wait", "lab/a/1", "Scan")
    for uid, task in (("running", running), ("waiting", waiting)):
        statuses[uid] = TaskStatus.QUEUED
        trees.add(uid, task)
    running.start(desk.context)
    desk.settle()
    for number in range(CommandTrees.KEPT):
        uid = f"short-{number}"
        trees.add(uid, LeafTask("go", "lab/a/1", "Go"))
        statuses[uid] = TaskStatus.ABORTED  # in the queue, so that its tree never begins

    assert trees.get("running") is running
    assert trees.get("waiting") is waiting
    assert {running, waiting} <= set(trees.running())
    assert trees.get("short-0") is None
    assert trees.get("short-2") is not None

    desk.calls[0].end(ResultCode.OK)
    trees.add("last", LeafTask("go", "lab/a/1", "Go"))
    assert trees.get("running") is None
