"""The task tree of RunPlan: a plan, and the analysis of what it has made, if one is wanted."""

import logging
from collections.abc import Callable

from milonga.devices._plan_properties import RunPlanArgument
from milonga.tasks import (
    AnalysisStarter,
    Answers,
    LeafAction,
    LeafTask,
    Task,
    TaskType,
    analysis_leaf,
)

__all__ = ["plan_tree"]

NAME = "RunPlan"


def plan_tree(
    wanted: RunPlanArgument,
    plan: LeafAction,
    analysis: AnalysisStarter | None,
    completed: Callable[..., None],
    progressed: Callable[..., None],
    logger: logging.Logger,
) -> Task:
    """Return the tree.

    Parameters
    ----------
    wanted : RunPlanArgument
        What the client wants.
    plan : LeafAction
        Runs the plan.
    analysis : callable or None
        Starts the analysis; it is not started if the plan has failed.
    completed, progressed, logger : callable, logging.Logger
        Those of the root.
    """
    leaves = [
        LeafTask(
            wanted.plan, wanted.plan, NAME, task_type=TaskType.PLAN, action=plan, logger=logger
        )
    ]
    if analysis is not None and wanted.analysis is not None:
        name = wanted.analysis if wanted.analysis != wanted.plan else "analysis"
        leaves.append(
            analysis_leaf(name, wanted.analysis, analysis, {}, Answers(), NAME, logger=logger)
        )
    return Task(
        NAME,
        skip_subtasks=True,
        completed_callback=completed,
        progress_callback=progressed,
        is_root=True,
        subtasks=leaves,
        logger=logger,
    )
