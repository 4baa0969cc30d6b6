"""A device that commands others: composes each command into a task tree and runs it."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from tango.server import attribute, command, device_property

from milonga.control_model import (
    COMMUNICATING_MODES,
    CommunicationStatus,
    HealthState,
    ResultCode,
    TaskStatus,
    is_final,
)
from milonga.devices._aborting import Aborts
from milonga.devices._base import POWER_COMMANDS
from milonga.devices._children import ChildLinks
from milonga.devices._command_trees import CommandTrees
from milonga.devices._health import HealthBoard
from milonga.devices._last_outcomes import LastOutcomes
from milonga.devices._out_of_service import OutOfService
from milonga.devices._own_commands import can_be_own
from milonga.devices._parent_properties import read_children, read_command_map, read_policy
from milonga.devices._statistics import statistics_of
from milonga.devices._steps_device import AskingDevice
from milonga.devices._supervision import Supervision
from milonga.devices._tracked import LRC_REPLY, LrcReply, reply
from milonga.devices._tree_job import Ticket, TreeJob
from milonga.devices._tree_nodes import never_run
from milonga.devices._unconfirmed import UnconfirmedCommands
from milonga.errors import CommandMapError, MilongaError
from milonga.lrc import Job, Lane, Reply
from milonga.tasks import (
    AnalysisStarter,
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

ABORT_PATIENCE = 3.0
"""Seconds that children have to end what they were asked to end; those with children, longer."""


class MilongaParent(AskingDevice):
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

    DeadlineMargin = device_property(
        dtype=float,
        default_value=0.25,
        doc="Seconds that children have less than a command, so that it is they who tell what was"
        " late: more where they are slow to answer.",
    )
    StallTime = device_property(
        dtype=float,
        default_value=4.0,
        doc="Seconds without a sign of a child after which its part of a command is stalled.",
    )

    mapped_commands: tuple[str, ...] = POWER_COMMANDS

    safety_commands: frozenset[str] = frozenset()
    """The commands that overtake all others, as the command map says."""

    def set_up(self) -> None:
        """Read the properties."""
        # first what is asked for also where a property is wrong
        self._last_outcomes = LastOutcomes()
        self._trees = CommandTrees(self._table.status_of)
        self._health_info = "{}"
        super().set_up()
        self.announce("healthInfo", "childrenOutOfService", "lastOutcomes")
        self.specs = read_children(self.Children)
        self._policy = read_policy(self.Policy)
        known = (*self.mapped_commands, "Abort")
        self._map = read_command_map(
            self.CommandMap,
            known,
            self.specs,
            self.internal_methods(),
            self.plan_names(),
            self.analysis_names(),
        )
        self._offer_safety(known)
        self._maps_abort = "Abort" in json.loads(self.CommandMap or "{}")
        self._out = OutOfService(self.get_name(), {spec.name for spec in self.specs})
        board = HealthBoard(self.specs, self._policy.critical)
        for name in self._out.names:
            board.take_out(self._spec(name).trl, out=True)
        self.supervision = Supervision(
            board, self.scheduler, self._children_are_in, self._health_is
        )
        self.children = ChildLinks(self.specs, self.supervision.saw, self.CommandTimeout)
        self.monitor.watch_children(self.children.statistics)
        self._methods = Lane(f"milonga-methods {self.get_name()}")
        self._safety_methods = Lane(f"milonga-safety-methods {self.get_name()}")
        self._context = ExecutionContext(
            runtime=self.scheduler,
            caller=self.children,
            logger=self.logger,
            abort_timeout=ABORT_PATIENCE,
            deadline_margin=max(0.0, self.DeadlineMargin),
            stall_after=max(0.0, self.StallTime),
            run_method=self._methods.add,
        )
        self.unconfirmed = UnconfirmedCommands(self.children.device, self.scheduler.call_later)
        self._urgently = replace(
            self._context, caller=self.children.urgent(), run_method=self._safety_methods.add
        )
        self._aborts = Aborts(self.specs, self.children, self._context)

    def delete_device(self) -> None:
        """Give every command a final state, and the links back."""
        super().delete_device()
        if hasattr(self, "children"):  # not if a property was wrong
            self.supervision.end()
            self.unconfirmed.close()
            self.children.close()
            for lane in (self._methods, self._safety_methods):
                lane.close()
                if not lane.join(max(0.0, self.DrainTime)):
                    self.logger.warning("a method of a command has not ended; it is left to itself")

    def communicate(self, wanted: bool) -> None:
        """Open or close the links to the children, as the admin mode says."""
        if not wanted:
            self.supervision.end()
            self.children.leave()
            self.connected(CommunicationStatus.DISABLED)
            return
        if self.specs:
            self.connected(CommunicationStatus.NOT_ESTABLISHED)
            self.supervision.begin(self.specs)
            self.children.open()
        else:
            super().communicate(wanted)
        self.take_up_unfinished(self.children.resume_at)  # also without children: plans, obsState

    def refusal_before_queue(self, name: str) -> Reply | None:
        """Refuse commands that could not reach anybody; but never what brings to safety."""
        if name in self.safety_commands and not self._failed_init:
            return None
        if not self._failed_init and self._admin_mode not in COMMUNICATING_MODES:
            mode = self._admin_mode.name
            text = f"{name}: admin mode is {mode}; expected ONLINE or ENGINEERING"
            return ResultCode.REJECTED, text
        return super().refusal_before_queue(name)

    def power_reached(self, name: str) -> None:
        """Take the state that a power command leads to."""
        super().power_reached(name)
        if self._admin_mode not in COMMUNICATING_MODES:
            return
        self.supervision.board.expect(self.get_state().name)
        self.supervision.judge_soon()

    def internal_methods(self) -> Mapping[str, InternalMethod]:
        """Return the methods that a command map may call, by name.

        They run one after the other on a thread of the device's own, so that one that takes its
        time holds up neither deadlines nor aborts; those of safety commands on another thread.
        """
        return {}

    def plan_names(self) -> tuple[str, ...]:
        """Return the names of the plans that a command map may name."""
        return ()

    def plan_factories(self, ticket: Ticket) -> Mapping[str, PlanFactory]:  # noqa: ARG002
        """Return what makes the actions of plans that are steps of the command of a ticket."""
        return {}

    def analysis_names(self) -> tuple[str, ...]:
        """Return the names of the analyses that a command map may name."""
        return ()

    def analysis_starters(self, ticket: Ticket) -> Mapping[str, AnalysisStarter]:  # noqa: ARG002
        """Return what starts the analyses that are steps of the command of a ticket."""
        return {}

    def make_tree_job(self, name: str, argument: str | None) -> TreeJob:
        """Compose the tree of a command.

        Raises
        ------
        CompositionError
            If the command cannot be carried out with the children that are there.
        """
        ticket = Ticket(argument)

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
                analyses=self.analysis_starters(ticket),
                ask=self.steps.asker(ticket),
                is_available=lambda spec: spec.name not in self._out.names,
                completed_callback=completed,
                progress_callback=progressed,
                logger=self.logger,
            )

        context = self._urgently if name in self.safety_commands else self._context
        return TreeJob(make, context, self._note_result, ticket)

    def make_job(self, name: str, argument: str | None) -> Job:
        """Return a power command, or a safety command, as a tree over the children."""
        tree = self.make_tree_job(name, argument)
        job = (
            self._power_job(name, tree)
            if name in POWER_COMMANDS
            else Job(name, tree.start, tree.abort)
        )
        job.safety = name in self.safety_commands
        job.interrupts = self._map[name].interrupts == "running"
        return self.tracked(job, tree)

    def _power_job(self, name: str, tree: TreeJob) -> Job:

        def ended(_status: TaskStatus, _result: object) -> None:
            if tree.has_worked:
                self.power_reached(name)

        return Job(
            name,
            tree.start,
            tree.abort,
            on_started=lambda: self.power_started(name),
            on_ended=ended,
        )

    def _offer_safety(self, known: Collection[str]) -> None:
        """Have the safety commands of the map, also those with names of their own."""
        self.safety_commands = frozenset(name for name, spec in self._map.items() if spec.safety)
        own = sorted(self.safety_commands - set(known))
        taken = sorted(set(own) - set(can_be_own(type(self), own)))
        if taken:
            raise CommandMapError(
                f"Property CommandMap: {taken[0]}: found the name of something else that the device"
                " has, expected another one for a safety command"
            )
        self.offer(own, self.safety_commands)

    def make_abort_job(self) -> Job:
        """Return an abort that reaches all children."""
        if self._failed_init or not self.specs:
            return super().make_abort_job()
        if self._maps_abort:
            mapped = self.make_tree_job("Abort", None)
            return self.tracked(Job("Abort", mapped.start, mapped.abort), mapped)
        running, unconfirmed = self._trees.running(), self.unconfirmed.all()
        return self.tracked(*self._aborts.job(running, unconfirmed))

    def tracked(self, job: Job, tree: TreeJob) -> Job:
        """Remember the tree of a job, under the job's command id once it has one."""
        tree.record = self.recorded(job, tree.task, tree.ticket.argument)
        tree.task.observe(self.unconfirmed.watcher(tree.ticket))
        job.work = tree
        job.limit = tree.limit
        accepted, ended = job.on_submitted, job.on_ended

        def also_told(status: TaskStatus, result: object) -> None:
            if tree.payload:
                self._last_outcomes.note(tree.ticket.command_id, job.name, tree.payload)
                watched = self._is_watched("lastOutcomes")
                self.publish("lastOutcomes", self._last_outcomes.text() if watched else None)
            ended(status, result)

        job.on_ended = also_told

        def submitted(uid: str) -> None:
            tree.ticket.note(uid, job)
            if job.joins:  # what becomes of it is to be seen in the one that it joins
                self._trees.add(uid, self._trees.get(job.joins) or tree.task)
            else:
                self._trees.add(uid, tree.task)
                self.task_trees.follow(uid, job, tree.task)
            accepted(uid)

        job.on_submitted = submitted
        return job

    @attribute(dtype=str)
    def healthInfo(self) -> str:
        """Why the health is as it is: a JSON object of device names and lists of texts."""
        return self._health_info

    @attribute(dtype=str)
    def lrcStatistics(self) -> str:
        """Figures of commands and of what was heard of each child: a JSON object of numbers.

        ``commands`` has this device's own, ``children`` those of the link to each child by name,
        ``totals`` the sums of these: events, those that were late, doubled, reordered or missing,
        commands lost, restarts seen. ``stalled`` lists the devices that nothing is heard of, and
        ``unconfirmed`` the commands that were given up and may still run: device, command, its id
        there, and as ``task`` the id of the command here that it was part of.
        """
        if self._failed_init:
            return json.dumps(statistics_of(self.commands, (), {}, ()) | {"unconfirmed": []})
        running = self._trees.running()
        figures = statistics_of(self.commands, self.specs, self.children.statistics(), running)
        return json.dumps(figures | {"unconfirmed": self.unconfirmed.as_data()})

    @attribute(dtype=str)
    def lastOutcomes(self) -> str:
        """What became of each child in the command that ended last: a JSON object.

        It has command, command_id, status, result_code, message and partial, and as ``outcomes``
        those of each leaf of its tree, with path, target and cause; ``omitted`` counts those that
        are left out to save room, successes first.
        """
        return self._last_outcomes.text()

    @attribute(dtype=(str,), max_dim_x=MAX_CHILDREN)
    def childrenOutOfService(self) -> tuple[str, ...]:
        """Names of the children that get no commands."""
        return () if self._failed_init else self._out.names

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
        if task is None:
            return "{}"
        tree, status = task.snapshot(), self._table.status_of(command_id)
        return json.dumps(never_run(tree, status) if is_final(status) else tree)

    def _serve(self, child: str, *, out: bool) -> Reply:
        if self._failed_init:
            return self.not_set_up("TakeOutOfService" if out else "ReturnToService")
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
