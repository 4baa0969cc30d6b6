"""What an operator tells a running plan: each returns at once with what the caller is answered."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from typing import Literal

from milonga.control_model import ResultCode
from milonga.devices._plan_run import PlanRun
from milonga.engine import PlanHandle, PlanState
from milonga.errors import ArgumentError
from milonga.lrc import Reply

__all__ = ["Verb", "end", "pause", "resume", "toggle", "trigger"]

Verb = Literal["stop", "abort", "halt"]

_MAY_PAUSE = frozenset({PlanState.STARTING, PlanState.RUNNING, PlanState.PAUSING})


def pause(handle: PlanHandle | None, run: PlanRun | None, grace: float) -> Reply:
    """Ask a plan to pause at its next checkpoint, or `grace` seconds later wherever it is.

    Commands that it has given to children go on, and the answer says so: they are not given again
    when the plan goes on, and only some devices can pause one.
    """
    if handle is None:
        return _refused("Pause", "found no plan", "one that runs")
    spec = run.prepared.spec if run is not None else None
    if spec is not None and spec.togglable and not spec.pausable:
        found = f"found plan {handle.name!r}, which cannot be paused"
        return _refused("Pause", found, "a pausable plan; it can be stopped")
    if handle.state not in _MAY_PAUSE:
        return _refused("Pause", f"found plan {handle.name!r} {handle.state}", "it running")
    handle.pause(defer=True, grace=grace)
    text = f"plan {handle.name!r} pauses at its next checkpoint"
    going_on = run.commands_on_their_way if run is not None else 0
    if going_on:
        text += f"; commands of its children that go on: {going_on}"
    return ResultCode.OK, text


def resume(handle: PlanHandle | None, failed: Callable[[PlanHandle, str], object]) -> Reply:
    """Let a paused plan go on; `failed` gets why, if it cannot, later and from another thread."""
    if handle is None or handle.state not in {PlanState.PAUSED, PlanState.PAUSING}:
        found = "no plan" if handle is None else f"plan {handle.name!r} {handle.state}"
        return _refused("Resume", f"found {found}", "a paused plan")

    def resumed(future: Future[bool]) -> None:
        error = future.exception()
        if error is not None:
            why = f"{type(error).__name__}: {error}"
            failed(handle, f"Resume: plan {handle.name!r} did not go on: {why}")

    handle.resume().add_done_callback(resumed)
    return ResultCode.OK, f"plan {handle.name!r} goes on"


def end(handle: PlanHandle | None, verb: Verb) -> Reply:
    """Ask a plan to end."""
    command = f"{verb.capitalize()}Plan"
    if handle is None:
        return _refused(command, "found no plan", "one that runs or is paused")
    getattr(handle, verb)(f"{command} was called")
    return ResultCode.OK, f"plan {handle.name!r} is told to {verb}"


def trigger(run: PlanRun | None, name: str) -> Reply:
    """Do a momentary action of a plan."""
    if run is None or name not in run.prepared.actions:
        return _no_action(run, name, "TriggerAction")
    action = run.prepared.actions[name]
    if action.togglable:
        found = f"found {name!r}, which has two states"
        return _refused("TriggerAction", found, "ToggleAction for it")
    action.trigger()
    return ResultCode.OK, f"{name} was triggered"


def toggle(run: PlanRun | None, text: str) -> Reply:
    """Put a togglable action of a plan into its other state, or into the one that is said."""
    try:
        name, on = _wanted_toggle(text)
    except ArgumentError as error:
        return ResultCode.REJECTED, str(error)
    if run is None or name not in run.prepared.actions:
        return _no_action(run, name, "ToggleAction")
    action = run.prepared.actions[name]
    if not action.togglable:
        return _refused(
            "ToggleAction", f"found {name!r}, which is momentary", "TriggerAction for it"
        )
    action.toggle(on)
    return ResultCode.OK, f"{name} is {action.state_label}"


def _no_action(run: PlanRun | None, name: str, verb: str) -> Reply:
    """Refuse an action that the running plan has not, if there is one at all."""
    if run is None:
        return _refused(verb, "found no plan", "one that runs and has actions")
    known = ", ".join(run.prepared.actions) or "none, since the plan has no actions"
    return _refused(verb, f"found {name!r}", f"one of {known}")


def _wanted_toggle(text: str) -> tuple[str, bool | None]:
    if not text.lstrip().startswith("{"):
        return text, None
    try:
        wanted = json.loads(text)
        name, on = wanted.pop("name"), wanted.pop("on", None)
    except (ValueError, KeyError) as error:
        wanted, name, on = error, "", None
    if wanted or not isinstance(name, str) or not isinstance(on, bool | None):
        raise ArgumentError(
            f"ToggleAction: found {text[:80]!r}; expected a name, or"
            ' {"name": NAME, "on": true or false}'
        )
    return name, on


def _refused(verb: str, found: str, expected: str) -> Reply:
    return ResultCode.REJECTED, f"{verb}: {found}; expected {expected}"
