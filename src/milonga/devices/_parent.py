"""A device that commands others: composes each command into a task tree and runs it."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from tango.server import attribute, command, device_property

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.devices._base import POWER_COMMANDS, MilongaDevice
from milonga.devices._children import Children as ChildLinks
from milonga.devices._tree_job import TreeJob
from milonga.errors import CommandMapError
from milonga.lrc import Job, Reporter
from milonga.tasks import (
    BaseTask,
    ChildSpec,
    ExecutionContext,
    InternalMethod,
    PolicySpec,
    check_command_map,
    compose,
    default_command_map,
)
from milonga.tasks import CommandMap as CommandTrees

__all__ = ["MilongaParent"]

TREES_KEPT = 100
"""Of how many commands a device remembers the tree."""


class MilongaParent(MilongaDevice):
    """A device whose commands run down to its children."""

    Children = device_property(
        dtype=(str,),
        default_value=(),
        doc='The children, one JSON object a line: {"name": …, "trl": …, "groups": […]}.',
    )
    CommandMap = device_property(
        dtype=str, default_value="{}", doc="What each command does: JSON, over the default map."
    )
    Policy = device_property(
        dtype=str, default_value="{}", doc="How outcomes of children are joined: JSON."
    )

    mapped_commands: tuple[str, ...] = POWER_COMMANDS

    def init_device(self) -> None:
        """Start anew: read the properties, link to the children."""
        super().init_device()
        self._trees: OrderedDict[str, BaseTask] = OrderedDict()
        self._health_info: dict[str, list[str]] = {}
        self.set_change_event("healthInfo", True, False)
        self.set_archive_event("healthInfo", True, False)
        self.specs = _read_children(self.Children)
        self._policy = _read_policy(self.Policy)
        self._map = self._read_command_map()
        self.children = ChildLinks(self.specs, self.scheduler)
        self._context = ExecutionContext(
            runtime=self.scheduler, caller=self.children, logger=self.logger
        )

    def delete_device(self) -> None:
        """Give every command a final state, and the links back."""
        super().delete_device()
        self.children.close()

    def internal_methods(self) -> Mapping[str, InternalMethod]:
        """Return the methods that a command map may call, by name."""
        return {}

    def make_tree_job(self, name: str, argument: str | None) -> TreeJob:
        """Compose the tree of a command.

        Raises
        ------
        CompositionError
            If the command cannot be carried out with the children that are there.
        """

        def make(completed: Callable[..., None], progressed: Callable[..., None]) -> BaseTask:
            return compose(
                name,
                self._map[name],
                argument,
                self.specs,
                self.internal_methods(),
                policy=self._policy,
                timeout=self.CommandTimeout,
                completed_callback=completed,
                progress_callback=progressed,
                logger=self.logger,
            )

        return TreeJob(make, self._context, self._note_health)

    def make_job(self, name: str, argument: str | None) -> Job:
        """Return one of the power commands as a tree over the children."""
        tree = self.make_tree_job(name, argument)

        def ended(_status: TaskStatus, _result: object) -> None:
            if tree.has_worked:
                self.power_reached(name)

        return self.tracked(
            Job(
                name,
                tree.start,
                tree.abort,
                on_started=lambda: self.power_started(name),
                on_ended=ended,
            ),
            tree.task,
        )

    def make_abort_job(self) -> Job:
        """Return an abort that reaches all children."""
        if not self.specs:
            return super().make_abort_job()
        tree = self.make_tree_job("Abort", None)

        def start(report: Reporter) -> None:
            def reported(**news: Any) -> None:
                if news.get("result", (None,))[0] == ResultCode.OK:
                    del news["result"]  # the server has the words that SKA clients look for
                report(**news)

            tree.start(reported)

        return self.tracked(Job("Abort", start, tree.abort), tree.task)

    def tracked(self, job: Job, task: BaseTask) -> Job:
        """Remember the tree of a job, under the job's command id once it has one."""
        accepted = job.on_submitted

        def submitted(uid: str) -> None:
            self._trees[uid] = task
            while len(self._trees) > TREES_KEPT:
                self._trees.popitem(last=False)
            accepted(uid)

        job.on_submitted = submitted
        return job

    @attribute(dtype=str)
    def healthInfo(self) -> str:
        """Why the health is as it is: a JSON object of device names and texts."""
        return json.dumps(self._health_info)

    @command(dtype_in=str, dtype_out=str)
    def CommandTree(self, command_id: str) -> str:
        """Return the task tree of a command as JSON; ``{}`` if it is not known."""
        task = self._trees.get(command_id)
        return "{}" if task is None else json.dumps(task.snapshot())

    def _read_command_map(self) -> CommandTrees:
        known = (*self.mapped_commands, "Abort")
        own = CommandTrees.from_json(self.CommandMap)
        problems = [
            f"{name}: unknown command; expected one of {', '.join(known)}"
            for name in own.names()
            if name not in known
        ]
        command_map = own.merged_over(default_command_map(known))
        problems += check_command_map(command_map, self.specs, self.internal_methods())
        if problems:
            raise CommandMapError(f"Property CommandMap: {'; '.join(problems)}")
        return command_map

    def _note_health(self, payload: Mapping[str, object]) -> None:
        """Take the health that a command's end speaks for."""
        if payload.get("status") in {TaskStatus.ABORTED, TaskStatus.REJECTED}:
            return
        word = payload.get("health_state")
        health = HealthState.OK if word is None else HealthState[str(word)]
        failed = payload.get("failed_devices")
        result = payload.get("result")
        text = str(result[1]) if isinstance(result, tuple | list) else ""
        self._health_info = (
            {}
            if health is HealthState.OK or not isinstance(failed, Iterable)
            else {str(device): [text] for device in failed}
        )
        self.publish("healthInfo", json.dumps(self._health_info))
        self.set_health(health)


def _read_children(lines: Iterable[str]) -> tuple[ChildSpec, ...]:
    children = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            children.append(ChildSpec.model_validate_json(line))
        except ValidationError as error:
            raise CommandMapError(
                f"Property Children, line {number}: {_first_problem(error)}; found {line!r}"
            ) from error
    return tuple(children)


def _read_policy(text: str) -> PolicySpec:
    try:
        return PolicySpec.model_validate_json(text or "{}")
    except ValidationError as error:
        raise CommandMapError(f"Property Policy: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "value"
    return f"{where}: found {problem['input']!r}; {problem['msg']}"
