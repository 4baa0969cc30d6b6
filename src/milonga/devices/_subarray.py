"""A subarray: carries an observation through its states."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tango.server import attribute, command, device_property

from milonga.control_model import (
    OBS_COMMANDS,
    ObsCommand,
    ObsState,
    ObsStateMachine,
    TaskStatus,
)
from milonga.devices._arguments import (
    ARGUMENT_MODELS,
    ReleaseArgument,
    parse_argument,
    resource_names,
)
from milonga.devices._base import POWER_COMMANDS
from milonga.devices._obs import MilongaObsDevice
from milonga.devices._tracked import LRC_REPLY, LrcReply, reply
from milonga.devices._tree_job import TreeJob
from milonga.errors import StateModelError
from milonga.lrc import Job

__all__ = ["MilongaSubarray"]

_log = logging.getLogger(__name__)


MAX_RESOURCES = 512
"""How many assigned resources are listed."""


class MilongaSubarray(MilongaObsDevice):
    """Commands the devices that observe together."""

    SubID = device_property(dtype=str, default_value="", doc="The subarray's number.")

    CapabilityTypes = device_property(
        dtype=(str,), default_value=(), doc="Types of capabilities; kept for compatibility."
    )

    mapped_commands = (*POWER_COMMANDS, *OBS_COMMANDS)
    submittable = (*mapped_commands, "RunPlan")

    def init_device(self) -> None:
        """Start anew, with nothing assigned."""
        self._activation_time = 0.0
        self._resources: tuple[str, ...] = ()
        super().init_device()

    def check_allowed(self, name: str) -> None:
        """Refuse a command in the wrong obsState, in the words of SKA devices.

        Not by Tango's guards, which do not see the key of a call that is only repeated.
        """
        if name in OBS_COMMANDS and self.obs.state not in OBS_COMMANDS[name].allowed:
            raise StateModelError(self._refusal(name))
        super().check_allowed(name)

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

        def ahead(status: TaskStatus) -> None:
            if tree.has_worked:
                self._keep_assigned(*self._effect(name, argument, releases_all=releases_all))
            self.keep_end(lambda obs: _end(obs, rule, success, status, tree))

        def ended(status: TaskStatus, _result: object) -> None:
            if tree.has_worked:
                self._note_effect(name, argument, releases_all=releases_all)
            self.move_obs(lambda: _end(self.obs, rule, success, status, tree))

        job = self.tracked(
            Job(
                name,
                tree.start,
                tree.abort,
                on_accepted=lambda: self._accept(name, rule),
                on_started=lambda: self._start(rule),
                on_ended=ended,
            ),
            tree,
        )
        return _first(job, ahead)

    def make_abort_job(self) -> Job:
        """Return an abort that reaches all children and brings obsState to ABORTED."""
        job = super().make_abort_job()
        job.on_accepted = lambda: self.try_obs("abort_invoked")
        job.on_started = lambda: self.command_obs_state(ObsState.ABORTED)
        told = job.on_ended

        def ended(status: TaskStatus, result: object) -> None:
            self.try_obs("abort_completed")
            told(status, result)

        job.on_ended = ended
        return _first(
            job, lambda _: self.keep_end(lambda obs: obs.perform_if_possible("abort_completed"))
        )

    @attribute(dtype=float, unit="s", standard_unit="s", display_unit="s")
    def activationTime(self) -> float:
        """When the observation began, in seconds since 1970; 0 if none has."""
        return self._activation_time

    @attribute(dtype=(str,), max_dim_x=MAX_RESOURCES)
    def assignedResources(self) -> tuple[str, ...]:
        """What was assigned: the names in the lists of each AssignResources that worked."""
        return self._resources

    @attribute(dtype=(str,), max_dim_x=10)
    def configuredCapabilities(self) -> tuple[str, ...]:
        """How many children of each group are configured: ``type:count``."""
        return self._capabilities() if self.obs.state in _CONFIGURED else ()

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

    def _effect(
        self, name: str, argument: str | None, *, releases_all: bool
    ) -> tuple[tuple[str, ...], float]:
        """Return what is assigned after a command that has worked, and since when."""
        resources, since = self._resources, self._activation_time
        if name == "AssignResources":
            named = resource_names(argument)
            return tuple(dict.fromkeys((*resources, *named)))[:MAX_RESOURCES], since or time.time()
        if releases_all or name in {"ReleaseAllResources", "Restart"}:
            return (), 0.0
        if name == "ReleaseResources":
            released = set(resource_names(argument))
            return tuple(item for item in resources if item not in released), since
        return resources, since

    def _note_effect(self, name: str, argument: str | None, *, releases_all: bool) -> None:
        """Keep account of what is assigned and since when the observation goes on."""
        effect = self._effect(name, argument, releases_all=releases_all)
        self._resources, self._activation_time = effect
        if name in {"Configure", "End"}:
            self.show_configuration(100 if name == "Configure" else 0)
        self._keep_assigned(*effect)

    def _keep_assigned(self, resources: tuple[str, ...], since: float) -> None:
        self.keep(assigned={"names": resources, "since": since})

    def take_back(self, kept: Mapping[str, Any], *, goes_on: bool) -> None:
        """Remember what was assigned before a crash."""
        assigned = kept.get("assigned")
        if isinstance(assigned, dict):
            self._resources = tuple(map(str, assigned.get("names", ())))[:MAX_RESOURCES]
            self._activation_time = float(assigned.get("since", 0.0))
        super().take_back(kept, goes_on=goes_on)

    def _capabilities(self) -> tuple[str, ...]:
        counts = Counter(group for spec in self.specs for group in spec.groups)
        return tuple(f"{group}:{count}" for group, count in sorted(counts.items()))[:10]

    def _refusal(self, name: str) -> str:
        expected = sorted(OBS_COMMANDS[name].allowed)
        return (
            f"{name} command not permitted in observation state {self.obs.state.name};"
            f" permitted in {', '.join(state.name for state in expected)}"
        )

    def _number(self) -> int | None:
        return int(self.SubID) if self.SubID.isdigit() else None

    def _accept(self, name: str, rule: ObsCommand) -> None:
        def accept() -> None:
            if self.obs.state not in rule.allowed:
                raise StateModelError(self._refusal(name))
            if rule.hook is not None:
                self.obs.perform(f"{rule.hook}_invoked")

        self.move_obs(accept)

    def _start(self, rule: ObsCommand) -> None:
        self.command_obs_state(rule.commanded)
        if rule.on_start is not None:
            self.try_obs(rule.on_start)


_ABORTS = frozenset({ObsState.ABORTING, ObsState.ABORTED})
_CONFIGURED = frozenset({ObsState.READY, ObsState.SCANNING})
_RECOVERIES = frozenset({"obsreset", "restart"})


def _end(
    obs: ObsStateMachine,
    rule: ObsCommand,
    success: str | None,
    status: TaskStatus,
    tree: TreeJob,
) -> None:
    """Move to where a command's end leads; never leave obsState in between."""
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


def _first(job: Job, ahead: Callable[[TaskStatus], None]) -> Job:
    """Have `ahead` called before the end of a job is written down."""
    written = job.before_end

    def before_end(status: TaskStatus, result: object, go_on: Callable[[], None]) -> None:
        try:
            ahead(status)
        except Exception:  # noqa: BLE001 - the end must be written all the same
            _log.exception("what %s leads to cannot be kept", job.name)
        written(status, result, go_on)

    job.before_end = before_end
    return job
