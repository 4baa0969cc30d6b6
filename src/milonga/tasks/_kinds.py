"""What a node of a task tree can be, and what its parent makes of its failure."""

from enum import Enum

__all__ = ["MAX_DEPTH", "MAX_NODES", "TaskType", "Tolerance"]

MAX_DEPTH = 16
"""Levels that a tree may have: completions climb it by ordinary calls."""

MAX_NODES = 10_000
"""Nodes that a tree may have."""


class TaskType(Enum):
    """How a node gets its work done.

    The first two are composites; the others are leaves, and more kinds of leaves can be given
    to `LeafTask` as actions.
    """

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"
    DEVICE = "device"
    INTERNAL = "internal"
    PLAN = "plan"
    CONFIRM = "confirm"
    ANALYSIS = "analysis"

    @property
    def is_composite(self) -> bool:
        """Whether nodes of this kind have subtasks."""
        return self in {TaskType.SEQUENTIAL, TaskType.PARALLEL}


class Tolerance(Enum):
    """Which unhappy outcome of a node does not stop the sequence that it is a step of.

    Only a sequence with `skip_subtasks` asks. The outcome that is reported is not changed.
    """

    NOTHING = "nothing"
    PARTIAL = "partial"  # enough of its subtasks succeeded: health DEGRADED, not FAILED
    FAILURE = "failure"
