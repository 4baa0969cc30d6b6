"""A parent that runs plans: procedures that use devices and command children.

A plan is a command like any other (RunPlan), or a step of one, by the command map. The engine and
what it needs is loaded only where there are plans.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tango
from tango.server import attribute, command, device_property

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices._analysing import AnalysingParent
from milonga.devices._plan_book import PlanBook
from milonga.devices._plan_calls import PlanCaller
from milonga.devices._plan_properties import (
    EngineLimits,
    RunPlanArgument,
    plans_named_in,
    read_plan_devices,
    read_plans,
    read_run_plan,
)
from milonga.devices._plan_tree import plan_tree
from milonga.devices._plan_view import EngineView
from milonga.devices._tracked import LRC_REPLY, LrcReply, latin1, reply
from milonga.devices._tree_job import Ticket, TreeJob
from milonga.errors import ArgumentError, CommandMapError, CommandRejected, PlanNotFound
from milonga.lrc import Job, Reply
from milonga.records import node_uid
from milonga.tasks import BaseTask, ChildSpec, PlanFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from milonga.devices._plan_desk import PlanDesk
    from milonga.devices._plan_verbs import Verb

__all__ = ["DATA_VARIABLE", "PlanningParent"]

DATA_VARIABLE = "MILONGA_DATA"
"""Environment variable with the folder for documents, where no property says otherwise."""

DATA_FOLDER = "milonga-data"

CLOSE_TIMEOUT = 2.0
"""Seconds that a plan has for its cleanup when the device goes."""

_PUSHED = (
    "engineState",
    "planProgress",
    "runningPlan",
    "actions",
    "lastRunUid",
    "planProblem",
    "documentsWaiting",
    "documentsLost",
)


class PlanningParent(AnalysingParent):
    """A device that commands others, and runs plans."""

    Plans = device_property(
        dtype=(str,),
        default_value=(),
        doc="The plans that may be run: module:function, or name=module:function, one a line.",
    )
    PlanDevices = device_property(
        dtype=(str,),
        default_value=(),
        doc='What plans may use, one JSON object a line: {"name": …, "type": …, "trl": …}; the type'
        " is motor, detector, or module:Class of an ophyd-async device.",
    )
    DataFolder = device_property(
        dtype=str,
        default_value="",
        doc="Where the documents of runs go; default: $MILONGA_DATA, or else milonga-data.",
    )
    DocumentSink = device_property(
        dtype=str,
        default_value="",
        doc="URL of a Tiled server to which runs are delivered from their files, with the key in"
        " $TILED_API_KEY; default: they stay where they are.",
    )
    DocumentSinkLimit = device_property(
        dtype=float,
        default_value=1000.0,
        doc="MB of documents that may wait for the server; beyond it the oldest runs are not"
        " delivered, but their files stay.",
    )
    PlanTimeout = device_property(
        dtype=float,
        default_value=0.0,
        doc="Seconds after which a plan is aborted, unless RunPlan says otherwise; 0: never.",
    )
    PauseGrace = device_property(
        dtype=float,
        default_value=1.0,
        doc="Seconds for which Pause waits for the plan's next checkpoint.",
    )
    HaltAfter = device_property(
        dtype=float,
        default_value=10.0,
        doc="Seconds for the cleanup of a plan whose time is over, or that is told to abort again,"
        " and for its devices to come to rest when it was told to end; then it is halted.",
    )
    MaxQueuedPlans = device_property(
        dtype="DevLong",
        default_value=32,
        doc="How many plans may wait behind the one that runs.",
    )
    LoopLagLimit = device_property(
        dtype=float,
        default_value=1.0,
        doc="Seconds for which a plan may block the event loop before that is logged; the plans of"
        " all devices of a server share it, and the last device that is initialised says it.",
    )

    _desk: "PlanDesk | None" = None

    def set_up(self) -> None:
        """Read the properties, and load the plans."""
        self._desk = None
        self._plan_commands: frozenset[str] = frozenset()
        super().set_up()
        self.announce(*_PUSHED)
        in_commands = plans_named_in(self._map)
        self._plan_commands = frozenset(in_commands)
        plans = read_plans(self.Plans)
        for names in in_commands.values():
            plans |= {name: name for name in names if name not in plans}  # module:function
        if plans:
            self._desk = self._open_desk(plans)

    def document_folder(self) -> Path | None:
        """Return where the documents of runs are."""
        return self._desk.documents.folder if self._desk is not None else None

    def plan_names(self) -> tuple[str, ...]:
        """Return the plans that a command map may name."""
        return tuple(read_plans(self.Plans))

    def _open_desk(self, plans: Mapping[str, str]) -> "PlanDesk":
        # here, because it takes a second and most devices have no plans
        from milonga.devices._plan_desk import PlanDesk  # noqa: PLC0415
        from milonga.devices._plan_documents import PlanDocuments  # noqa: PLC0415

        if self.PlanTimeout < 0 or not self.PauseGrace >= 0:
            raise CommandMapError(
                f"Properties PlanTimeout, PauseGrace: found {self.PlanTimeout},"
                f" {self.PauseGrace}; expected seconds >= 0"
            )

        def caller(running: "Callable[[], str]") -> PlanCaller:
            return PlanCaller(self.specs, self.children, self._hindrance, running)

        devices = read_plan_devices(self.PlanDevices)
        documents = PlanDocuments(
            self.get_name(),
            Path(self.DataFolder or os.environ.get(DATA_VARIABLE) or DATA_FOLDER),
            self.DocumentSink,
            self.DocumentSinkLimit,
        )
        return PlanDesk(
            self.get_name(),
            plans,
            devices,
            documents,
            caller,
            EngineLimits(self.HaltAfter, self.MaxQueuedPlans, self.LoopLagLimit),
            self.scheduler,
            self.publish,
            self.logger,
        )

    def delete_device(self) -> None:
        """End the plan, then give every command a final state."""
        if self._desk is not None:
            with tango.AutoTangoAllowThreads(self):
                self._desk.close(CLOSE_TIMEOUT)
        super().delete_device()

    def _hindrance(self, child: ChildSpec) -> str:
        return "is out of service" if child.name in self._out.names else ""

    # Commands that are plans

    def plan_factories(self, ticket: Ticket) -> Mapping[str, PlanFactory]:
        """Return what makes the actions of plans that are steps of a command."""
        desk = self._desk
        if desk is None:
            return {}

        def factory(name: str) -> PlanFactory:
            return lambda argument, path: desk.action_of_command(
                name, argument, lambda: self._metadata(ticket), self._book(ticket, path)
            )

        return {name: factory(name) for name in desk.registry.names}

    def refusal_before_queue(self, name: str) -> Reply | None:
        """Refuse a command that is a plan while there is another plan."""
        refusal = super().refusal_before_queue(name)
        if refusal is None and name in self._plan_commands and self._desk is not None:
            busy = self._desk.busy()
            if busy:
                return ResultCode.REJECTED, f"{name}: {busy}"
        return refusal

    def make_job(self, name: str, argument: str | None) -> Job:
        """Return a plan as a job, or one of the power commands."""
        if name != "RunPlan":
            return super().make_job(name, argument)
        wanted = read_run_plan(argument)
        desk = self._desk
        if desk is None:
            raise PlanNotFound(
                f"plan: found {wanted.plan!r}; expected none, as the device has no plans"
            )
        tree = self._plan_job(desk, wanted, argument)

        def ended(_status: TaskStatus, _result: object) -> None:
            desk.release(tree)

        job = Job(
            name,
            tree.start,
            tree.abort,
            on_accepted=lambda: desk.reserve(tree, wanted.plan, may_wait=wanted.on_busy == "queue"),
            on_ended=ended,
        )
        return self.tracked(job, tree)

    def _plan_job(self, desk: "PlanDesk", wanted: RunPlanArgument, argument: str | None) -> TreeJob:
        ticket = Ticket(argument)
        busy = "" if wanted.on_busy == "queue" else desk.busy()
        if busy:
            raise CommandRejected(f"RunPlan: plan {wanted.plan!r}: {busy}")
        timeout = wanted.timeout or self.PlanTimeout or None
        analyses = self.analysis_starters(ticket)
        if wanted.analysis is not None and wanted.analysis not in analyses:
            known = ", ".join(analyses) or "none, as the device has no analyses"
            raise ArgumentError(
                f"RunPlan: analysis: found {wanted.analysis!r}; expected one of {known}"
            )
        book = self._book(ticket, lambda: (wanted.plan,))
        action = desk.action(
            wanted.plan, wanted.arguments, lambda: self._metadata(ticket), timeout, book
        )

        def make(completed: "Callable[..., None]", progressed: "Callable[..., None]") -> BaseTask:
            analysis = analyses[wanted.analysis] if wanted.analysis is not None else None
            return plan_tree(wanted, action, analysis, completed, progressed, self.logger)

        return TreeJob(make, self._context, ticket=ticket)

    def _book(self, ticket: Ticket, path: "Callable[[], tuple[str, ...]]") -> PlanBook | None:
        """Return where what a plan does is written down; None if there are no records."""
        if self._records is None:
            return None
        return PlanBook(
            self._records.recorder,
            lambda: node_uid(ticket.command_id, *path()),
            lambda: ticket.command_id,
            self.scheduler.call_soon,
        )

    def _metadata(self, ticket: Ticket) -> dict[str, Any]:
        """Return what the start documents of a command's runs say of it."""
        metadata = {"command_id": ticket.command_id, "device": self.get_name()}
        if ticket.transaction_id is not None:
            metadata["transaction_id"] = ticket.transaction_id
        return metadata

    def _abort(self) -> Reply:
        # the first abort is carried on by the command that runs the plan; another one means that
        # the plan's cleanup takes too long
        again = self._desk is not None and self._desk.is_aborting
        answer = super()._abort()
        if again and self._desk is not None:
            self._desk.end("abort")
        return answer

    def _view(self) -> EngineView:
        return self._desk.view() if self._desk is not None else EngineView()

    def _with_desk(self, verb: str) -> "PlanDesk":
        if self._desk is None:
            raise CommandRejected(f"{verb}: found a device without plans; expected property Plans")
        return self._desk

    # Attributes

    @attribute(dtype=str)
    def engineState(self) -> str:
        """What the engine does: idle, running, paused, or on its way to one of these."""
        return self._view().engineState

    @attribute(dtype="DevUShort", unit="%", min_value=0, max_value=100)
    def planProgress(self) -> int:
        """How far the running plan is, as far as it tells."""
        return self._view().planProgress

    @attribute(dtype=str)
    def runningPlan(self) -> str:
        """Name of the plan that runs or is paused; empty if there is none."""
        return self._view().runningPlan

    @attribute(dtype=str)
    def actions(self) -> str:
        """What an operator can do to the running plan: a JSON array."""
        return latin1(self._view().actions)

    @attribute(dtype=str)
    def lastRunUid(self) -> str:
        """The run that was opened last; the name of its file of documents."""
        return self._view().lastRunUid

    @attribute(dtype=str)
    def dataFolder(self) -> str:
        """Where the documents of runs are, on the host of this device."""
        return str(self._desk.documents.folder) if self._desk is not None else ""

    @attribute(dtype="DevLong64")
    def documentsWaiting(self) -> int:
        """How many documents the sink has not got yet; 0 if there is none."""
        return self._view().documentsWaiting

    @attribute(dtype="DevLong64")
    def documentsLost(self) -> int:
        """How many documents could not be written since the device was initialised."""
        return self._view().documentsLost

    @attribute(dtype=str)
    def planProblem(self) -> str:
        """Why the plan that is paused could not be resumed; empty if nothing is wrong."""
        return latin1(self._view().planProblem)

    # Commands

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def RunPlan(self, argument: str) -> LrcReply:
        """Run a plan; takes a JSON object: plan, any of arguments, on_busy, timeout, analysis."""
        return reply(self.submit("RunPlan", argument))

    @command(dtype_out=(str,))
    def ListPlans(self) -> list[str]:
        """Return the names of the plans that may be run."""
        return list(self._desk.registry.names) if self._desk is not None else []

    @command(dtype_in=str, dtype_out=str)
    def DescribePlan(self, name: str) -> str:
        """Describe a plan: a JSON object with its docs, actions and the schema of its arguments."""
        try:
            return latin1(self._with_desk("DescribePlan").registry.describe(name))
        except (PlanNotFound, CommandRejected) as error:
            tango.Except.throw_exception("PlanNotFound", str(error), "DescribePlan")
            raise  # not reached: throw_exception has raised

    @command(dtype_out=LRC_REPLY)
    def Pause(self) -> LrcReply:
        """Pause the plan at its next checkpoint."""
        return reply(self._verb("Pause", lambda desk: desk.pause(self.PauseGrace)))

    @command(dtype_out=LRC_REPLY)
    def Resume(self) -> LrcReply:
        """Let a paused plan go on."""
        return reply(self._verb("Resume", lambda desk: desk.resume()))

    @command(dtype_out=LRC_REPLY)
    def StopPlan(self) -> LrcReply:
        """End the plan, with its cleanup, as a success."""
        return reply(self._verb("StopPlan", lambda desk: desk.end("stop")))

    @command(dtype_out=LRC_REPLY)
    def AbortPlan(self) -> LrcReply:
        """End the plan, with its cleanup, as aborted."""
        return reply(self._verb("AbortPlan", lambda desk: self._cut_off(desk, "abort")))

    @command(dtype_out=LRC_REPLY)
    def HaltPlan(self) -> LrcReply:
        """End the plan without its cleanup."""
        return reply(self._verb("HaltPlan", lambda desk: self._cut_off(desk, "halt")))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def TriggerAction(self, name: str) -> LrcReply:
        """Do a momentary action of the running plan."""
        return reply(self._verb("TriggerAction", lambda desk: desk.trigger(name)))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def ToggleAction(self, name: str) -> LrcReply:
        """Switch an action of the running plan; takes its name, or JSON with name and on."""
        return reply(self._verb("ToggleAction", lambda desk: desk.toggle(name)))

    def _cut_off(self, desk: "PlanDesk", verb: "Verb") -> Reply:
        command = desk.running_command
        if command is not None:
            self.note_abort(command)
        return desk.end(verb)

    def _verb(self, name: str, act: "Callable[[PlanDesk], Reply]") -> Reply:
        try:
            return act(self._with_desk(name))
        except CommandRejected as error:
            return ResultCode.REJECTED, str(error)
