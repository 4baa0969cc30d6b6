"""Nodes of the command map that wait for a person, or run an analysis, as data."""

from typing import Literal

from pydantic import Field, JsonValue, StrictBool

from milonga.tasks._confirm import CONFIRM_TIMEOUT
from milonga.tasks._parts import Model, Name, Seconds
from milonga.tasks._step_input import StepInput

__all__ = ["AnalysisSpec", "ConfirmSpec"]


class ConfirmSpec(Model):
    """A step that waits until a person confirms it, or gives some input.

    A sequence with such a step does not go on after a failure, unless its `skip_subtasks` says
    so. Later steps refer to what was answered by ``{"$answer": "step.field"}``.

    Parameters
    ----------
    prompt : str
        What the person is asked.
    input : mapping, optional
        What is to be answered: a JSON schema of an object, or field to "text", "number",
        "integer" or "boolean", followed by "?" if it may be left out.
    timeout : float, optional
        Seconds to wait; the command gets as much longer, unless it has a timeout of its own.
    optional : bool, optional
        Whether a sequence goes on if the step is refused or nobody answers.
    type : "confirm", optional
        For those who like to say it.
    """

    prompt: Name
    input: StepInput | None = None
    timeout: Seconds = CONFIRM_TIMEOUT
    optional: StrictBool = False
    type: Literal["confirm"] = "confirm"


class AnalysisSpec(Model):
    """An analysis that the device runs, in a process of its own.

    Parameters
    ----------
    analysis : str
        Name of an analysis that the device allows.
    parameters : mapping, optional
        Its parameters. Without ``runs`` and ``documents`` it gets those of the plans before it.
    timeout, max_timeout : float, optional
        Seconds that it may take.
    optional : bool, optional
        Whether its failure does not stop the sequence that it is a step of.
    type : "analysis", optional
        For those who like to say it.
    """

    analysis: Name
    parameters: dict[Name, JsonValue] = Field(default_factory=dict)
    timeout: Seconds | None = None
    max_timeout: Seconds | None = None
    optional: StrictBool = False
    type: Literal["analysis"] = "analysis"
