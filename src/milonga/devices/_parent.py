"""A device that commands others: composes each command into a task tree and runs it."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from tango.server import attribute, command, device_property

from milonga.control_model import (
    COMMUNICATING_MODES,
    CommunicationStatus,
    HealthState,
    ResultCode,
    TaskStatus,
)
from milonga.devices._base import POWER_COMMANDS, MilongaDevice
from milonga.devices._children import ChildLinks
from milonga.devices._health import HealthBoard
from milonga.devices._out_of_service import OutOfService
from milonga.devices._parent_properties import read_children, read_command_map, read_policy
from milonga.devices._supervision import Supervision
from milonga.devices._tracked import LRC_REPLY, LrcReply, reply
from milonga.devices._tree_job import Ticket, TreeJob
from milonga.errors import MilongaError
from milonga.lrc import Job, Reply, Reporter
from milonga.tasks import (
    BaseTask,
    ChildSpec,
    ExecutionContext,
    InternalMethod,
    PlanFactory,
    compose,
)

__all__ = ["MilongaParent"]

MAX_CHILDREN = 1024
"""How many children are listed."""

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

    def set_up(self) -> None:
        """Read the properties."""
        super().set_up()
        self.announce("healthInfo", "childrenOutOfService")
        self._trees: OrderedDict[str, BaseTask] = OrderedDict()
        self._health_info = "{}"
        self.specs = read_children(self.Children)
        self._policy = read_policy(self.Policy)
        known = (*self.mapped_commands, "Abort")
        self._map = read_command_map(
            self.CommandMap, known, self.specs, self.internal_methods(), self.plan_names()
        )
        self._out = OutOfService(self.get_name(), {spec.name for spec in self.specs})
        board = HealthBoard(self.specs, self._policy.critical)
        for name in self._out.names:
            board.take_out(self._spec(name).trl, out=True)
        self.supervision = Supervision(
            board, self.scheduler, self._children_are_in, self._health_is
        )
        self.children = ChildLinks(self.specs, self.supervision.saw, self.CommandTimeout)
        self._context = ExecutionContext(
            runtime=self.scheduler, caller=self.children, logger=self.logger
        )

    def delete_device(self) -> None:
        """Give every command a final state, and the links back."""
        super().delete_device()
        if hasattr(self, "children"):  # not if a property was wrong
            self.supervision.end()
            self.children.close()

    def communicate(self, wanted: bool) -> None:
        """Open or close the links to the children, as the admin mode says."""
        if not wanted:
            self.supervision.end()
            self.children.close()
            self.connected(CommunicationStatus.DISABLED)
        elif not self.specs:
            super().communicate(wanted)
        else:
            self.connected(CommunicationStatus.NOT_ESTABLISHED)
            self.supervision.begin(self.specs)
            self.children.open()

    def refusal_before_queue(self, name: str) -> Reply | None:
        """Refuse commands that could not reach anybody."""
        if self._admin_mode not in COMMUNICATING_MODES:
            mode = self._admin_mode.name
            text = f"{name}: admin mode is {mode}; expected ONLINE or ENGINEERING"
            return ResultCode.REJECTED, text
        return super().refusal_before_queue(name)

    def power_reached(self, name: str) -> None:
        """Take the state that a power command leads to."""
        super().power_reached(name)
        self.supervision.board.expect(self.get_state().name)
        self.supervision.judge_soon()

    def internal_methods(self) -> Mapping[str, InternalMethod]:
        """Return the methods that a command map may call, by name."""
        return {}

    def plan_names(self) -> tuple[str, ...]:
        """Return the names of the plans that a command map may name."""
        return ()

    def plan_factories(self, ticket: Ticket) -> Mapping[str, PlanFactory]:  # noqa: ARG002
        """Return what makes the actions of plans that are steps of the command of a ticket."""
        return {}

    def make_tree_job(self, name: str, argument: str | None) -> TreeJob:
        """Compose the tree of a command.

        Raises
        ------
        CompositionError
            If the command cannot be carried out with the children that are there.
        """
        ticket = Ticket()

        def make(completed: Callable[..., None], progressed: Callable[..., None]) -> BaseTask:
            return compose(
                name,
                self._map[name],
                argument,
                self.specs,
                self.internal_methods(),
                policy=self._policy,
                timeout=self.CommandTimeout,
                plans=self.plan_factories(ticket),
                is_available=lambda spec: spec.name not in self._out.names,
                completed_callback=completed,
                progress_callback=progressed,
                logger=self.logger,
            )

        return TreeJob(make, self._context, self._note_result, ticket)

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
            tree,
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

        return self.tracked(Job("Abort", start, tree.abort), tree)

    def tracked(self, job: Job, tree: TreeJob) -> Job:
        """Remember the tree of a job, under the job's command id once it has one."""
        accepted = job.on_submitted

        def submitted(uid: str) -> None:
            tree.ticket.note(uid, job)
            self._trees[uid] = tree.task
            while len(self._trees) > TREES_KEPT:
                self._trees.popitem(last=False)
            accepted(uid)

        job.on_submitted = submitted
        return job

    @attribute(dtype=str)
    def healthInfo(self) -> str:
        """Why the health is as it is: a JSON object of device names and lists of texts."""
        return self._health_info

    @attribute(dtype=(str,), max_dim_x=MAX_CHILDREN)
    def childrenOutOfService(self) -> tuple[str, ...]:
        """Names of the children that get no commands."""
        return self._out.names

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def TakeOutOfService(self, child: str) -> LrcReply:
        """Send a child, given by its name, no commands any more, until it is taken back."""
        return reply(self._serve(child, out=True))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def ReturnToService(self, child: str) -> LrcReply:
        """Send a child commands again."""
        return reply(self._serve(child, out=False))

    @command(dtype_in=str, dtype_out=str)
    def CommandTree(self, command_id: str) -> str:
        """Return the task tree of a command as JSON; ``{}`` if it is not known."""
        task = self._trees.get(command_id)
        return "{}" if task is None else json.dumps(task.snapshot())

    def _serve(self, child: str, *, out: bool) -> Reply:
        try:
            self._out.put(child, out=out)
        except MilongaError as error:
            return ResultCode.REJECTED, str(error)
        self.logger.warning("child %s was %s", child, "taken out of service" if out else "returned")
        self.supervision.board.take_out(self._spec(child).trl, out=out)
        self.supervision.judge_soon()
        self.publish("childrenOutOfService", self._out.names)
        return ResultCode.OK, f"{child} is {'out of' if out else 'in'} service"

    def _spec(self, name: str) -> ChildSpec:
        return next(spec for spec in self.specs if spec.name == name)

    def _children_are_in(self, state: str) -> None:
        self.connected(CommunicationStatus.ESTABLISHED, state=state)
        self.supervision.board.expect(state)

    def _health_is(self, health: HealthState, causes: Mapping[str, list[str]]) -> None:
        self._health_info = json.dumps(causes)
        self.publish("healthInfo", self._health_info)
        self.set_health(health)

    def _note_result(self, payload: Mapping[str, object]) -> None:
        """Take the health that a command's end speaks for."""
        if payload.get("status") not in {TaskStatus.ABORTED, TaskStatus.REJECTED}:
            result = payload.get("result")
            text = str(result[1]) if isinstance(result, tuple | list) else ""
            self.supervision.board.note_result(payload, text)
            self.supervision.judge_soon()
