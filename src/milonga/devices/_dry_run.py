"""What a command would do, found out by composing it and sending nothing."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import tango
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from milonga.devices._requests import read_request
from milonga.devices._tree_job import TreeJob
from milonga.devices._tree_progress import DurationHistory
from milonga.errors import (
    ArgumentError,
    CommandMapError,
    CompositionError,
    MilongaError,
    PlanNotFound,
    StateModelError,
)
from milonga.lrc import Job, Reply, describe
from milonga.tasks import BaseTask, ChildSpec, TaskType

__all__ = ["Wanted", "dry_run", "refused"]

_KINDS: tuple[tuple[type[MilongaError], str], ...] = (
    (StateModelError, "state"),
    (ArgumentError, "argument"),
    (PlanNotFound, "argument"),
    (CompositionError, "children"),
    (CommandMapError, "children"),
)


class Wanted(BaseModel):
    """The command that is meant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: str
    argument: JsonValue = None

    @classmethod
    def from_json(cls, text: str) -> "Wanted":
        """Read what `DryRun` got.

        Raises
        ------
        ArgumentError
            If it is not such an object.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "value"
            found = str(problem["input"])[:100]
            raise ArgumentError(
                f'DryRun: {where}: found {found!r}; expected {{"command": …, "argument": …}}'
            ) from error

    @property
    def text(self) -> str | None:
        """The argument as the command gets it."""
        argument = self.argument
        text = argument if argument is None or isinstance(argument, str) else json.dumps(argument)
        return read_request(text).argument


class Commanding(Protocol):
    """A device that commands others, as far as its commands are made."""

    submittable: tuple[str, ...]
    specs: tuple[ChildSpec, ...]

    def check_allowed(self, name: str) -> None:
        """Raise if the device is in the wrong state."""

    def refusal_before_queue(self, name: str) -> Reply | None:
        """Return why a command is refused."""

    def make_job(self, name: str, argument: str | None) -> Job:
        """Compose a command."""


@runtime_checkable
class Foreseeing(Protocol):
    """Work that can tell what it would ask others for."""

    def ask(self) -> None:
        """Begin to find out what there is to be told; returns at once."""

    def foresee(self) -> dict[str, Any]:
        """Return ``devices``, and ``steps`` in their order, as parts of a call; may wait."""


@dataclass(slots=True)
class _Findings:
    refusals: list[dict[str, str]] = field(default_factory=list)

    def note(self, check: Callable[[], Any]) -> Any:
        """Make one check; a refusal does not keep the others from being made."""
        try:
            return check()
        except MilongaError as error:
            kind = next((word for known, word in _KINDS if isinstance(error, known)), "refused")
            self.refusals.append({"kind": kind, "text": str(error)})
        except tango.DevFailed as error:
            self.refusals.append({"kind": "state", "text": describe(error)})
        return None


def dry_run(
    device: Commanding,
    wanted: Wanted,
    history: DurationHistory,
    out_of_service: Callable[[str], bool],
    hindrance: Callable[[str, str], Mapping[str, str]],
    runs_before: Mapping[str, Any] | None = None,
    waiting: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, Any]:
    """Say what a command would do now.

    Parameters
    ----------
    device : Commanding
        The device.
    wanted : Wanted
        The command.
    history : DurationHistory
        How long it took before.
    out_of_service : callable
        Tells whether a child, given by its name, gets no commands.
    hindrance : callable
        Returns what is to be said of sending a command to a target: ``not_sent`` if it will be
        left out, ``problem`` if it will fail, each with the reason; ``until`` if its end is told
        or confirmed by an attribute.
    runs_before : mapping, optional
        What the command would be queued behind.
    waiting : callable, optional
        Returns the context in which others may be waited for.
    """
    name = wanted.command
    findings = _Findings()
    root = None
    if name not in device.submittable:
        text = f"command: found {name!r}; expected one of {', '.join(device.submittable)}"
        findings.refusals.append({"kind": "command", "text": text})
    else:
        findings.note(lambda: device.check_allowed(name))
        refusal = findings.note(lambda: device.refusal_before_queue(name))
        if refusal is not None:
            findings.refusals.append({"kind": "state", "text": refusal[1]})
        root = findings.note(lambda: _root(device, name, wanted.text))
    foreseen = _foreseen(root, waiting) if root is not None else {}
    expected = history.expected(name)
    left_out = (spec for spec in device.specs if root is not None and out_of_service(spec.name))
    return {
        "command": name,
        "accepted": not findings.refusals,
        "refusals": findings.refusals,
        "calls": list(_calls(root, history, hindrance, foreseen)) if root is not None else [],
        "left_out": [{"child": spec.name, "why": "out of service"} for spec in left_out],
        "expected": expected,
        "queued_behind": runs_before,
    }


def refused(command: str, kind: str, text: str) -> dict[str, Any]:
    """Return what is said of a command that cannot even be composed."""
    refusals = [{"kind": kind, "text": text}]
    told = {"command": command, "accepted": False, "refusals": refusals}
    return told | {"calls": [], "left_out": [], "expected": None, "queued_behind": None}


def _root(device: Commanding, name: str, argument: str | None) -> BaseTask | None:
    job = device.make_job(name, argument)
    return job.work.task if isinstance(job.work, TreeJob) else None


def _foreseen(
    root: BaseTask, waiting: Callable[[], AbstractContextManager[object]]
) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return what the leaves themselves foresee, by their paths."""
    works: dict[tuple[str, ...], Foreseeing] = {}
    for leaf in root.leaves():
        work: object = leaf.action
        if isinstance(work, Foreseeing):
            works[leaf.path] = work
    if not works:
        return {}
    for work in works.values():
        work.ask()
    with waiting():
        return {path: work.foresee() for path, work in works.items()}


def _calls(
    root: BaseTask,
    history: DurationHistory,
    hindrance: Callable[[str, str], Mapping[str, str]],
    foreseen: Mapping[tuple[str, ...], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Yield what would be sent, in the order in which it would be if all went well."""
    for leaf in root.leaves():
        call: dict[str, Any] = {
            "path": list(leaf.path),
            "type": leaf.task_type.value,
            "target": leaf.target,
            "command": leaf.command_name,
            "argument": leaf.argument,
        }
        seconds = history.expected(root.name, leaf.path)
        if seconds is not None:
            call["expected"] = round(seconds, 3)
        if leaf.task_type is TaskType.DEVICE:
            call |= hindrance(leaf.target, leaf.command_name)
        elif leaf.path in foreseen:
            call |= foreseen[leaf.path]
            for step in call["steps"]:
                if step["type"] == TaskType.DEVICE.value and "problem" not in step:
                    step.update(hindrance(step["target"], step["command"]))
        yield call
