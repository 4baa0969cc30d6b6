"""A subarray: carries an observation through its states."""

import threading
from collections.abc import Callable

import tango
from tango.server import attribute, command, device_property

from milonga.control_model import (
    OBS_COMMANDS,
    ObsCommand,
    ObsMode,
    ObsState,
    ObsStateMachine,
    TaskStatus,
)
from milonga.devices._arguments import ARGUMENT_MODELS, ReleaseArgument, parse_argument
from milonga.devices._base import LRC_REPLY, POWER_COMMANDS, reply
from milonga.devices._parent import MilongaParent
from milonga.devices._tree_job import TreeJob
from milonga.errors import StateModelError
from milonga.lrc import Job

__all__ = ["MilongaSubarray"]

LrcReply = tuple[list[int], list[str]]

_PUSHED = ("obsState", "commandedObsState", "obsMode")


class MilongaSubarray(MilongaParent):
    """Commands the devices that observe together."""

    SubID = device_property(dtype=str, default_value="", doc="The subarray's number.")

    mapped_commands = (*POWER_COMMANDS, *OBS_COMMANDS)

    def init_device(self) -> None:
        """Start anew, EMPTY."""
        self._obs_lock = threading.Lock()
        self._obs_news: list[ObsState] = []
        self._obs = ObsStateMachine(self._note_obs_state)
        self._commanded_obs_state = ObsState.EMPTY
        self._obs_mode = ObsMode.IDLE
        super().init_device()
        for name in _PUSHED:
            self.set_change_event(name, True, False)
            self.set_archive_event(name, True, False)

    def make_job(self, name: str, argument: str | None) -> Job:
        """Return a command as a tree over the children, with its moves of obsState."""
        rule = OBS_COMMANDS.get(name)
        if rule is None:
            return super().make_job(name, argument)
        tree = self.make_tree_job(name, argument)
        releases_all = False
        if name in ARGUMENT_MODELS:
            parsed = parse_argument(name, argument or "", self._number())
            releases_all = isinstance(parsed, ReleaseArgument) and parsed.release_all
        success = "component_unresourced" if releases_all else rule.on_success

        def ended(status: TaskStatus, _result: object) -> None:
            self._move(lambda: self._end_command(rule, success, status, tree))

        return self.tracked(
            Job(
                name,
                tree.start,
                tree.abort,
                on_accepted=lambda: self._accept(name, rule),
                on_started=lambda: self._start(rule),
                on_ended=ended,
            ),
            tree.task,
        )

    def make_abort_job(self) -> Job:
        """Return an abort that reaches all children and brings obsState to ABORTED."""
        job = super().make_abort_job()
        job.on_accepted = lambda: self._try("abort_invoked")
        job.on_started = lambda: self._command_obs_state(ObsState.ABORTED)
        job.on_ended = lambda _status, _result: self._try("abort_completed")
        return job

    @attribute(dtype=ObsState)
    def obsState(self) -> ObsState:
        """How far the observation is."""
        return self._obs.state

    @attribute(dtype=ObsState)
    def commandedObsState(self) -> ObsState:
        """The obsState that the last started command leads to."""
        return self._commanded_obs_state

    @attribute(dtype=ObsMode)
    def obsMode(self) -> ObsMode:
        """What kind of observation this is."""
        return self._obs_mode

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def AssignResources(self, argument: str) -> LrcReply:
        """Assign resources; takes a JSON object."""
        return reply(self.submit("AssignResources", argument))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def ReleaseResources(self, argument: str) -> LrcReply:
        """Release resources; takes a JSON object."""
        return reply(self.submit("ReleaseResources", argument))

    @command(dtype_out=LRC_REPLY)
    def ReleaseAllResources(self) -> LrcReply:
        """Release all resources."""
        return reply(self.submit("ReleaseAllResources"))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def Configure(self, argument: str) -> LrcReply:
        """Configure for scans; takes a JSON object."""
        return reply(self.submit("Configure", argument))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def Scan(self, argument: str) -> LrcReply:
        """Begin a scan; takes a JSON object."""
        return reply(self.submit("Scan", argument))

    @command(dtype_out=LRC_REPLY)
    def EndScan(self) -> LrcReply:
        """End the scan."""
        return reply(self.submit("EndScan"))

    @command(dtype_out=LRC_REPLY)
    def End(self) -> LrcReply:
        """Drop the configuration."""
        return reply(self.submit("End"))

    @command(dtype_out=LRC_REPLY)
    def ObsReset(self) -> LrcReply:
        """Go back to IDLE, or EMPTY, from ABORTED or FAULT."""
        return reply(self.submit("ObsReset"))

    @command(dtype_out=LRC_REPLY)
    def Restart(self) -> LrcReply:
        """Go back to EMPTY from ABORTED or FAULT."""
        return reply(self.submit("Restart"))

    def is_AssignResources_allowed(self) -> bool:
        """Tell whether AssignResources may be called."""
        return self._check("AssignResources")

    def is_ReleaseResources_allowed(self) -> bool:
        """Tell whether ReleaseResources may be called."""
        return self._check("ReleaseResources")

    def is_ReleaseAllResources_allowed(self) -> bool:
        """Tell whether ReleaseAllResources may be called."""
        return self._check("ReleaseAllResources")

    def is_Configure_allowed(self) -> bool:
        """Tell whether Configure may be called."""
        return self._check("Configure")

    def is_Scan_allowed(self) -> bool:
        """Tell whether Scan may be called."""
        return self._check("Scan")

    def is_EndScan_allowed(self) -> bool:
        """Tell whether EndScan may be called."""
        return self._check("EndScan")

    def is_End_allowed(self) -> bool:
        """Tell whether End may be called."""
        return self._check("End")

    def is_ObsReset_allowed(self) -> bool:
        """Tell whether ObsReset may be called."""
        return self._check("ObsReset")

    def is_Restart_allowed(self) -> bool:
        """Tell whether Restart may be called."""
        return self._check("Restart")

    def _check(self, name: str) -> bool:
        """Refuse a command in the wrong obsState, in the words of SKA devices."""
        if self._obs.state not in OBS_COMMANDS[name].allowed:
            tango.Except.throw_exception(
                "PyDs_PythonError", f"StateModelError: {self._refusal(name)}", f"is_{name}_allowed"
            )
        return True

    def _refusal(self, name: str) -> str:
        expected = sorted(OBS_COMMANDS[name].allowed)
        return (
            f"{name} command not permitted in observation state {self._obs.state.name};"
            f" permitted in {', '.join(state.name for state in expected)}"
        )

    def _number(self) -> int | None:
        return int(self.SubID) if self.SubID.isdigit() else None

    def _accept(self, name: str, rule: ObsCommand) -> None:
        def accept() -> None:
            if self._obs.state not in rule.allowed:
                raise StateModelError(self._refusal(name))
            if rule.hook is not None:
                self._obs.perform(f"{rule.hook}_invoked")

        self._move(accept)

    def _start(self, rule: ObsCommand) -> None:
        self._command_obs_state(rule.commanded)
        if rule.on_start is not None:
            self._try(rule.on_start)

    def _end_command(
        self, rule: ObsCommand, success: str | None, status: TaskStatus, tree: TreeJob
    ) -> None:
        """Move obsState to where a command's end leads; never leave it in between."""
        obs = self._obs
        if status is TaskStatus.REJECTED:
            obs.revert()
        elif status is TaskStatus.ABORTED:
            obs.perform_if_possible("aborted")
        elif obs.state in _ABORTS:
            return
        elif status is TaskStatus.FAILED or (not tree.has_worked and rule.hook in _RECOVERIES):
            obs.perform("component_obsfault")
        else:
            if tree.has_worked:
                obs.perform_if_possible(success or "")
            elif rule.on_start is not None:
                obs.perform_if_possible("component_not_scanning")
            if rule.hook is not None:
                obs.perform_if_possible(f"{rule.hook}_completed")

    def _command_obs_state(self, state: ObsState) -> None:
        self._commanded_obs_state = state
        self.publish("commandedObsState", state)

    def _try(self, action: str) -> None:
        self._move(lambda: self._obs.perform_if_possible(action))

    def _move(self, move: Callable[[], object]) -> None:
        """Make moves of the state machine, then push what they changed, in order."""
        with self._obs_lock:
            try:
                move()
            finally:
                news, self._obs_news = self._obs_news, []
                pushes = [self.numbered("obsState", state) for state in news]
        self.put(pushes)

    def _note_obs_state(self, state: ObsState) -> None:
        self._obs_news.append(state)


_ABORTS = frozenset({ObsState.ABORTING, ObsState.ABORTED})
_RECOVERIES = frozenset({"obsreset", "restart"})
