"""The observation of a subarray as a state machine.

Internal states refine the published ones: what is published is the part before the underscore.
``_EMPTY`` remembers that nothing was assigned, so that a reset leads back to EMPTY.

Source: lrc-protocol e.3. Added by Milonga, because a subarray must never stay in a transitional
state: what a command's failure, rejection and abortion do, and that RESTARTING can be aborted.
"""

from collections.abc import Callable
from dataclasses import dataclass

from milonga.control_model._chosen import ObsState
from milonga.control_model._machine import next_state
from milonga.errors import StateModelError

__all__ = ["OBS_COMMANDS", "OBS_TRANSITIONS", "ObsCommand", "ObsStateMachine"]

OBS_TRANSITIONS: dict[tuple[str, str], str] = {
    ("EMPTY", "assign_invoked"): "RESOURCING_EMPTY",
    ("EMPTY", "release_invoked"): "RESOURCING_EMPTY",
    ("EMPTY", "restart_invoked"): "RESTARTING",
    ("IDLE", "assign_invoked"): "RESOURCING_IDLE",
    ("IDLE", "release_invoked"): "RESOURCING_IDLE",
    ("RESOURCING_EMPTY", "component_resourced"): "RESOURCING_IDLE",
    ("RESOURCING_IDLE", "component_unresourced"): "RESOURCING_EMPTY",
    ("RESOURCING_EMPTY", "assign_completed"): "EMPTY",
    ("RESOURCING_EMPTY", "release_completed"): "EMPTY",
    ("RESOURCING_IDLE", "assign_completed"): "IDLE",
    ("RESOURCING_IDLE", "release_completed"): "IDLE",
    ("IDLE", "configure_invoked"): "CONFIGURING_IDLE",
    ("CONFIGURING_IDLE", "component_configured"): "CONFIGURING_READY",
    ("CONFIGURING_IDLE", "configure_completed"): "IDLE",
    ("CONFIGURING_READY", "configure_completed"): "READY",
    ("READY", "configure_invoked"): "CONFIGURING_READY",
    ("READY", "component_unconfigured"): "IDLE",
    ("READY", "component_scanning"): "SCANNING",
    ("SCANNING", "component_not_scanning"): "READY",
    ("RESOURCING_EMPTY", "abort_invoked"): "ABORTING_EMPTY",
    **{
        (origin, "abort_invoked"): "ABORTING"
        for origin in (
            "RESOURCING_IDLE",
            "IDLE",
            "CONFIGURING_IDLE",
            "CONFIGURING_READY",
            "READY",
            "SCANNING",
            "RESETTING",
            "RESTARTING",
        )
    },
    ("RESETTING_EMPTY", "abort_invoked"): "ABORTING_EMPTY",
    ("ABORTING", "abort_completed"): "ABORTED",
    ("ABORTING_EMPTY", "abort_completed"): "ABORTED_EMPTY",
    ("ABORTED", "obsreset_invoked"): "RESETTING",
    ("ABORTED_EMPTY", "obsreset_invoked"): "RESETTING_EMPTY",
    ("FAULT", "obsreset_invoked"): "RESETTING",
    ("FAULT_EMPTY", "obsreset_invoked"): "RESETTING_EMPTY",
    ("RESETTING", "obsreset_completed"): "IDLE",
    ("RESETTING_EMPTY", "obsreset_completed"): "EMPTY",
    **{
        (origin, "restart_invoked"): "RESTARTING"
        for origin in ("ABORTED", "ABORTED_EMPTY", "FAULT", "FAULT_EMPTY")
    },
    ("RESTARTING", "restart_completed"): "EMPTY",
    # A component that comes to rest while a recovery runs does not end the recovery.
    **{
        (state, action): state
        for state in ("ABORTING", "ABORTING_EMPTY", "RESETTING", "RESETTING_EMPTY", "RESTARTING")
        for action in (
            "component_configured",
            "component_unconfigured",
            "component_scanning",
            "component_not_scanning",
        )
    },
    ("RESTARTING", "component_unresourced"): "RESTARTING",
    # Milonga's: a command that was ended by an abort of that one command only.
    ("RESOURCING_EMPTY", "aborted"): "ABORTED_EMPTY",
    ("RESETTING_EMPTY", "aborted"): "ABORTED_EMPTY",
    **{
        (origin, "aborted"): "ABORTED"
        for origin in (
            "RESOURCING_IDLE",
            "CONFIGURING_IDLE",
            "CONFIGURING_READY",
            "SCANNING",
            "RESETTING",
            "RESTARTING",
        )
    },
}
"""All moves but ``component_obsfault``, which leads to FAULT from everywhere."""

_EMPTY_HANDED = frozenset({"EMPTY", "RESTARTING"})


@dataclass(frozen=True, slots=True)
class ObsCommand:
    """What one subarray command does to the observing state.

    Parameters
    ----------
    allowed : frozenset of ObsState
        Where the command may be called.
    hook : str or None
        Stem of its ``_invoked`` and ``_completed`` actions.
    commanded : ObsState
        Where it leads to when all goes well.
    on_start, on_success : str or None
        What the component does when the command starts, and when it has worked.
    """

    allowed: frozenset[ObsState]
    hook: str | None
    commanded: ObsState
    on_start: str | None = None
    on_success: str | None = None


_S = ObsState
OBS_COMMANDS: dict[str, ObsCommand] = {
    "AssignResources": ObsCommand(
        frozenset({_S.EMPTY, _S.IDLE}), "assign", _S.IDLE, on_success="component_resourced"
    ),
    "ReleaseResources": ObsCommand(frozenset({_S.EMPTY, _S.IDLE}), "release", _S.IDLE),
    "ReleaseAllResources": ObsCommand(
        frozenset({_S.EMPTY, _S.IDLE}), "release", _S.EMPTY, on_success="component_unresourced"
    ),
    "Configure": ObsCommand(
        frozenset({_S.IDLE, _S.READY}), "configure", _S.READY, on_success="component_configured"
    ),
    "Scan": ObsCommand(frozenset({_S.READY}), None, _S.READY, on_start="component_scanning"),
    "EndScan": ObsCommand(
        frozenset({_S.SCANNING}), None, _S.READY, on_success="component_not_scanning"
    ),
    "End": ObsCommand(
        frozenset({_S.IDLE, _S.READY}), None, _S.IDLE, on_success="component_unconfigured"
    ),
    "ObsReset": ObsCommand(frozenset({_S.FAULT, _S.ABORTED}), "obsreset", _S.IDLE),
    "Restart": ObsCommand(frozenset({_S.FAULT, _S.ABORTED}), "restart", _S.EMPTY),
}
"""The subarray's commands. Abort is not among them: it is allowed everywhere."""


class ObsStateMachine:
    """The observing state of one subarray.

    Not safe across threads by itself: its owner serialises the calls.

    Parameters
    ----------
    changed : callable
        Called with the published state whenever that changes.

    Examples
    --------
    >>> machine = ObsStateMachine(lambda state: print(state.name))
    >>> machine.perform("assign_invoked"); machine.perform("component_resourced")
    RESOURCING
    >>> machine.perform("assign_completed")
    IDLE
    """

    def __init__(self, changed: Callable[[ObsState], None]) -> None:
        self._changed = changed
        self._state = "EMPTY"
        self._origin = "EMPTY"

    @property
    def state(self) -> ObsState:
        """The published state."""
        return _published(self._state)

    @property
    def internal(self) -> str:
        """The internal state, which also tells whether anything is assigned or configured."""
        return self._state

    @property
    def origin(self) -> str:
        """The internal state before the last ``_invoked`` action, to which `revert` leads."""
        return self._origin

    @property
    def is_moving(self) -> bool:
        """Whether a command is expected to lead on from here."""
        return self.state in _TRANSITIONAL or self.state is ObsState.ABORTING

    def restore(self, state: str, origin: str) -> None:
        """Go to where another machine was.

        Parameters
        ----------
        state, origin : str
            Its `internal` and `origin`.

        Raises
        ------
        StateModelError
            If there are no such states.
        """
        for name in (state, origin):
            if name not in _INTERNAL:
                known = ", ".join(sorted(_INTERNAL))
                raise StateModelError(f"observing state: found {name!r}, expected one of {known}")
        self._origin = origin
        self._move(state)

    def can(self, action: str) -> bool:
        """Tell whether `action` has a move from here."""
        return action == "component_obsfault" or (self._state, action) in OBS_TRANSITIONS

    def perform(self, action: str) -> None:
        """Make the move that `action` means.

        Raises
        ------
        StateModelError
            If there is no such move from here.
        """
        if action == "component_obsfault":
            self._move(self._fault())
            return
        target = next_state(OBS_TRANSITIONS, self._state, action)
        if action.endswith("_invoked"):
            self._origin = self._state
        self._move(target)

    def perform_if_possible(self, action: str) -> bool:
        """Make the move that `action` means where there is one; tell whether it was made."""
        try:
            self.perform(action)
        except StateModelError:
            return False
        return True

    def revert(self) -> None:
        """Undo the last ``_invoked`` action: its command was refused, so nothing happened."""
        if self.state in _TRANSITIONAL:
            self._move(self._origin)

    def _fault(self) -> str:
        without = self._state.endswith("_EMPTY") or self._state in _EMPTY_HANDED
        return "FAULT_EMPTY" if without else "FAULT"

    def _move(self, target: str) -> None:
        before, self._state = self._state, target
        if _published(before) is not _published(target):
            self._changed(_published(target))


_INTERNAL = frozenset(
    {state for state, _ in OBS_TRANSITIONS} | set(OBS_TRANSITIONS.values()) | {"FAULT_EMPTY"}
)
_TRANSITIONAL = frozenset({_S.RESOURCING, _S.CONFIGURING, _S.RESETTING, _S.RESTARTING})


def _published(internal: str) -> ObsState:
    return ObsState[internal.partition("_")[0]]
