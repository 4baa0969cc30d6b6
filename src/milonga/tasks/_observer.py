"""Whoever wants to know what becomes of the nodes of a tree."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from milonga.tasks._leaf import LeafTask
    from milonga.tasks._node import BaseTask

__all__ = ["TreeObserver"]


class TreeObserver(Protocol):
    """Told of each change of each node, see `BaseTask.observe`.

    Calls come from any thread, with no lock held, and two of them may come at the same time: the
    start of a node that is ended in that very moment may be told after its end. What is called
    must return soon; what it raises is logged, and the tree goes on.

    An observer may also have ``node_stalled(leaf, stalled)``: told when nothing has been heard of a
    leaf's target for longer than `ExecutionContext.stall_after`, and when it is heard of again;
    ``node_filled(leaf)``: told when the argument of a leaf is complete that was not when the tree
    was composed; ``node_said(leaf)``: told when its work has said something, see its details; and
    ``node_extended(node)``: told when a node, and with it all below, was given more time.
    """

    def node_started(self, node: "BaseTask") -> None:
        """Take note that `node` has begun to run."""

    def node_accepted(self, leaf: "LeafTask", command_id: str) -> None:
        """Take note that the target of `leaf` has taken the command, and of the id it gave."""

    def node_progressed(self, node: "BaseTask", progress: int) -> None:
        """Take note of how far `node` has come, in percent."""

    def node_ended(self, node: "BaseTask", payload: Mapping[str, Any]) -> None:
        """Take note of the completion payload of `node`, before the node above does."""
