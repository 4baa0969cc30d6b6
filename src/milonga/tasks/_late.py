"""Leaves that are complete only when their turn comes: steps that ask, and analyses.

What a person has answered, and what a plan has made, is known while the command runs; so these
leaves look for it when they begin.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import MilongaError
from milonga.tasks._answers import Answers
from milonga.tasks._confirm import OPERATOR, StepAsker, StepRequest
from milonga.tasks._context import ExecutionContext, Invocation, LeafAction, NoWork
from milonga.tasks._kinds import TaskType
from milonga.tasks._leaf import LeafTask
from milonga.tasks._step_input import schema_of

if TYPE_CHECKING:
    from milonga.tasks._node import BaseTask

__all__ = [
    "AnalysisRequest",
    "AnalysisStarter",
    "analysis_leaf",
    "confirm_leaf",
    "filled_first",
    "runs_before",
]

OnUpdate = Callable[..., None]


@dataclass(frozen=True)
class AnalysisRequest:
    """What an analysis is to work on.

    Parameters
    ----------
    path : tuple of str
        Names of the nodes on the way down to the leaf, without the root's.
    parameters : mapping
        Its parameters, as far as they were given.
    runs : tuple of str
        Uids of the runs that the plans before it in the same command have made.
    """

    path: tuple[str, ...]
    parameters: Mapping[str, JsonValue]
    runs: tuple[str, ...]


AnalysisStarter = Callable[[AnalysisRequest, OnUpdate], Invocation]
"""Starts an analysis; returns at once, and reports what goes wrong by the update function."""


def confirm_leaf(
    name: str,
    ask: StepAsker,
    prompt: str,
    wanted: Mapping[str, JsonValue] | None,
    timeout: float,
    answers: Answers,
    command: str,
    **shared: Any,
) -> LeafTask:
    """Return a leaf that waits for a person.

    Parameters
    ----------
    name : str
        Name of the step.
    ask : callable
        Shows it.
    prompt, wanted, timeout : optional
        What is asked, what is to be answered, and seconds to wait.
    answers : Answers
        Gets the answer.
    command : str
        Name of the command.
    **shared
        As for `LeafTask`.
    """
    schema = schema_of(wanted) if wanted is not None else None

    def begin(_: ExecutionContext, on_update: OnUpdate) -> Invocation:
        def told(**update: Any) -> None:
            answer = update.pop("answer", None)
            if update.get("status") is TaskStatus.COMPLETED:
                answers.note(name, answer)
            on_update(**update)

        told(status=TaskStatus.IN_PROGRESS)
        return ask(StepRequest(leaf.path, prompt, schema, timeout), told)

    leaf = LeafTask(
        name,
        OPERATOR,
        command,
        task_type=TaskType.CONFIRM,
        action=begin,
        timeout=timeout,
        **shared,
    )
    return leaf


def analysis_leaf(
    name: str,
    analysis: str,
    start: AnalysisStarter,
    parameters: Mapping[str, JsonValue],
    answers: Answers,
    command: str,
    **shared: Any,
) -> LeafTask:
    """Return a leaf that runs an analysis.

    Parameters
    ----------
    name, analysis : str
        Name of the leaf, and of the analysis.
    start : callable
        Starts it.
    parameters : mapping
        Its parameters, in which answers may be named.
    answers : Answers
        Has them.
    command : str
        Name of the command.
    **shared
        As for `LeafTask`.
    """

    def begin(_: ExecutionContext, on_update: OnUpdate) -> Invocation:
        try:
            filled = {key: answers.fill(value) for key, value in parameters.items()}
        except MilongaError as error:
            return _refused(on_update, error)
        if filled != parameters:
            on_update(argument=json.dumps(filled))
        return start(AnalysisRequest(leaf.path, filled, tuple(runs_before(leaf))), on_update)

    argument = json.dumps(dict(parameters)) if parameters else None
    leaf = LeafTask(
        name,
        analysis,
        command,
        argument,
        task_type=TaskType.ANALYSIS,
        action=begin,
        **shared,
    )
    return leaf


def filled_first(answers: Answers, text: str, make: Callable[[str], LeafAction]) -> LeafAction:
    """Return an action that puts answers into its argument before it begins.

    Parameters
    ----------
    answers : Answers
        Has them when the leaf begins.
    text : str
        The argument, JSON in which answers are named.
    make : callable
        Makes the action of the argument as it is then.
    """

    def action(context: ExecutionContext, on_update: OnUpdate) -> Invocation:
        try:
            filled = json.dumps(answers.fill(json.loads(text)))
            begin = make(filled)
        except MilongaError as error:
            return _refused(on_update, error)
        on_update(argument=filled)
        return begin(context, on_update)

    return action


def runs_before(leaf: LeafTask) -> Iterator[str]:
    """Yield the runs that plans of the same tree have made, of those that come before a leaf."""
    root: BaseTask = leaf
    while root.parent is not None:
        root = root.parent
    for other in root.leaves():
        if other is leaf:
            return
        yield from _texts(other.details.get("run_uids", ()))


def _texts(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        yield str(value)


def _refused(on_update: OnUpdate, error: MilongaError) -> NoWork:
    on_update(status=TaskStatus.REJECTED, result=(ResultCode.REJECTED, str(error)))
    return NoWork()
