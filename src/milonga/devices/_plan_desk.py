"""The plans of one device: those that it allows, the one that runs, and what is told of it.

This brings the engine and the device together, and is loaded only by devices that have plans.
Nothing here waits for the engine but `close`.
"""

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, Protocol

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices import _plan_verbs as verbs
from milonga.devices._monitoring import watch_event_loop
from milonga.devices._plan_book import PlanBook
from milonga.devices._plan_calls import PlanCaller
from milonga.devices._plan_documents import PlanDocuments
from milonga.devices._plan_properties import EngineLimits, PlanDeviceSpec
from milonga.devices._plan_registry import DeskRegistry
from milonga.devices._plan_run import PlanRun
from milonga.devices._plan_verbs import Verb
from milonga.devices._plan_view import EngineView, actions_text
from milonga.devices._plan_work import PlanWork
from milonga.engine import (
    LoopLease,
    PlanHandle,
    PlanInvocation,
    PlanState,
    PreparedPlan,
    RunEngine,
    hold_event_loop,
)
from milonga.engine.protocols import Msg
from milonga.errors import CommandRejected, MilongaError
from milonga.lrc import Reply
from milonga.tasks import ExecutionContext, LeafAction, NoWork

__all__ = ["PlanDesk"]

FLUSH_PATIENCE = 5.0
"""Seconds for which the end of a plan waits until its documents are on disk."""


class Clock(Protocol):
    """The device's one thread that starts and ends commands."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call it on the thread."""

    def call_later(self, delay: float, function: Callable[[], None]) -> Any:
        """Call it on the thread, later."""


_lease: list[LoopLease] = []


def _keep_event_loop() -> None:
    """Keep the engines' event loop for the life of the server: pytango binds itself to it."""
    if not _lease:
        _lease.append(hold_event_loop())


class PlanDesk:
    """Runs the plans of a device. Safe across threads.

    Parameters
    ----------
    name : str
        The device's name.
    plans : mapping
        Where each plan is, by its name: the explicit list of what clients may run.
    devices : iterable of PlanDeviceSpec
        What plans may use.
    documents : PlanDocuments
        Where documents go; closed with the desk.
    caller : callable
        Makes the way to the children, given a function that returns the id of the running plan.
    limits : EngineLimits
        How patient the engine is.
    clock : Clock
        The device's scheduler; what is reported is reported there.
    publish : callable
        Gets the name and the new value of an attribute.
    logger : logging.Logger
        The device's.

    Raises
    ------
    CommandMapError
        If a plan or a device cannot be made.
    """

    def __init__(
        self,
        name: str,
        plans: Mapping[str, str],
        devices: Iterable[PlanDeviceSpec],
        documents: PlanDocuments,
        caller: Callable[[Callable[[], str]], PlanCaller],
        limits: EngineLimits,
        clock: Clock,
        publish: Callable[[str, object], None],
        logger: logging.Logger,
    ) -> None:
        self.registry = DeskRegistry.of(plans, devices)
        self._clock = clock
        self._publish = publish
        self._logger = logger
        self._lock = threading.Lock()
        self._told = EngineView()
        self._look_is_due = False
        self._last_uid = ""
        self._problem: tuple[str, str] = "", ""
        self._runs: dict[str, PlanRun] = {}
        self._reserved: dict[object, str] = {}
        self._caller = caller(self._running_id)
        _keep_event_loop()
        self.engine = RunEngine(
            name=name,
            caller=self._caller,
            thread_context=tango.EnsureOmniThread,
            max_queued=limits.max_queued,
            halt_after=limits.halt_after,
            lag_limit=limits.lag_limit,
        )
        watch_event_loop(self.engine.loop, self.engine.watchdog)
        self.documents = documents
        self.engine.subscribe(self._take_document)  # type: ignore[no-untyped-call]
        documents.start(self._look_soon)

    def close(self, timeout: float) -> None:
        """End the plan and the engine, and finish what is being written."""
        if not self.engine.shutdown(timeout):
            self._logger.error(
                "the engine did not end within %g s; its plan is left behind", timeout
            )
        self.documents.close(1.0)

    # One plan at a time

    def reserve(self, ticket: object, plan: str, *, may_wait: bool) -> None:
        """Take the engine for a command, or have it wait behind the one that has it.

        Raises
        ------
        CommandRejected
            If another plan runs, is paused, or waits.
        """
        with self._lock:
            busy = "" if may_wait else self._busy()
            if not busy:
                self._reserved[ticket] = plan
        if busy:
            raise CommandRejected(f"plan {plan!r}: {busy}")

    def release(self, ticket: object) -> None:
        """Give the engine back."""
        with self._lock:
            self._reserved.pop(ticket, None)

    def busy(self) -> str:
        """Return why a plan cannot be run now, or an empty text."""
        with self._lock:
            return self._busy()

    def _busy(self) -> str:
        handle = self.engine.handle
        if handle is not None:
            found = f"plan {handle.name!r} {handle.state}"
        elif self._reserved:
            found = f"plan {next(iter(self._reserved.values()))!r} about to run"
        else:
            return ""
        return f'found {found}; expected no other plan, or "on_busy": "queue" in RunPlan'

    # Starting

    def action(
        self,
        name: str,
        argument: str | Mapping[str, Any] | None,
        metadata: Callable[[], Mapping[str, Any]],
        timeout: float | None = None,
        book: PlanBook | None = None,
    ) -> LeafAction:
        """Make the action of a leaf that runs a plan.

        Parameters
        ----------
        name, argument : str
            The plan, and what it takes.
        metadata : callable
            Asked for the metadata of the plan's runs when it starts.
        timeout : float, optional
            Seconds after which it is aborted.
        book : PlanBook, optional
            Where what it does is written down.

        Raises
        ------
        PlanNotFound, ArgumentError
            If there is no such plan, or it does not take that.
        """
        prepared = self.registry.prepare(name, argument)

        def start(_context: ExecutionContext, on_update: Callable[..., None]) -> PlanRun | NoWork:
            return self._start(prepared, metadata(), timeout, book, on_update)

        devices = self.registry.chosen(prepared, argument)
        return PlanWork(start, prepared.plan, devices, self._caller, self.engine.loop)

    def action_of_command(
        self,
        name: str,
        argument: str | None,
        metadata: Callable[[], Mapping[str, Any]],
        book: PlanBook | None = None,
    ) -> LeafAction:
        """Make the action for a step of a command, whose argument has an envelope, see `action`."""
        own = self.registry.without_envelope(name, argument)
        return self.action(name, own, metadata, book=book)

    def _start(
        self,
        prepared: PreparedPlan,
        metadata: Mapping[str, Any],
        timeout: float | None,
        book: PlanBook | None,
        on_update: Callable[..., None],
    ) -> PlanRun | NoWork:
        plan = self._booked(prepared.plan, book)
        try:
            handle = self.engine.call(plan, timeout=timeout, on_busy="queue", **metadata)
        except MilongaError as error:
            on_update(status=TaskStatus.REJECTED, result=(ResultCode.REJECTED, str(error)))
            return NoWork()
        run = PlanRun(handle, prepared, self._caller.calls, book)
        with self._lock:
            self._runs[handle.id] = run
        handle.observe(lambda _state, _progress: self._look_soon())
        handle.ended.add_done_callback(lambda _: self._forget(handle))
        run.invocation = PlanInvocation(handle, partial(self._report, on_update))
        self._look_soon()
        return run

    def _booked(self, plan: Any, book: PlanBook | None) -> Generator[Msg, Any, Any]:
        """Return a plan that opens its book when it begins, in the event loop, as others do."""

        def with_book() -> Generator[Msg, Any, Any]:
            self._caller.book = book
            return (yield from plan)

        generator = with_book()
        generator.__name__ = plan.__name__  # type: ignore[attr-defined] # the engine's name for it
        return generator

    def _forget(self, handle: PlanHandle) -> None:
        with self._lock:
            self._runs.pop(handle.id, None)
        self._look_soon()

    def _report(self, on_update: Callable[..., None], **update: Any) -> None:
        """Report on the device's thread; the end, once the documents are on disk."""
        report = partial(on_update, **update)
        if "result" not in update:
            self._clock.call_soon(report)
            return
        late = self._clock.call_later(FLUSH_PATIENCE, report)

        def written() -> None:
            late.cancel()
            self._clock.call_soon(partial(on_update, **self._with_losses(update)))

        self.documents.after(written)

    def _with_losses(self, update: dict[str, Any]) -> dict[str, Any]:
        """Say in a result how many of the plan's documents could not be written."""
        lost = self.documents.lost_of(update["data"]["run_start_uids"])
        if not lost:
            return update
        code, message = update["result"]
        result = code, f"{message}; {lost} documents not written"
        return update | {"result": result, "data": update["data"] | {"documents_lost": lost}}

    # What is told

    def view(self) -> EngineView:
        """Return what clients see of the engine."""
        handle = self.engine.handle
        documents = EngineView(
            lastRunUid=self._last_uid,
            documentsWaiting=self.documents.waiting,
            documentsLost=self.documents.lost,
        )
        if handle is None:
            return documents
        with self._lock:
            run = self._runs.get(handle.id)
            of_plan, problem = self._problem
        return replace(
            documents,
            engineState=str(handle.state),
            planProgress=handle.progress,
            runningPlan=handle.name,
            actions=actions_text(run.prepared.actions.values()) if run is not None else "[]",
            planProblem=problem if of_plan == handle.id else "",
        )

    @property
    def running_command(self) -> str | None:
        """The command that the running plan is part of, if it is written down."""
        book = self._caller.book
        return book.command_id if book is not None and self.engine.handle is not None else None

    def _running_id(self) -> str:
        handle = self.engine.handle
        return handle.id if handle is not None else ""

    def _take_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document in the event loop; writing it is for another thread."""
        self.documents(name, document)
        if name == "start":
            self._last_uid = document["uid"]
            if self._caller.book is not None:
                self._caller.book.run_opened(self._last_uid)
            self._look_soon()

    def _look_soon(self) -> None:
        with self._lock:
            if self._look_is_due:
                return
            self._look_is_due = True
        self._clock.call_soon(self._look)

    def _look(self) -> None:
        """Tell what has changed; on the device's thread."""
        with self._lock:
            self._look_is_due = False
        before, self._told = self._told, self.view()
        for each in fields(EngineView):
            value = getattr(self._told, each.name)
            if value != getattr(before, each.name):
                self._publish(each.name, value)

    # Verbs: none of them waits

    def pause(self, grace: float) -> Reply:
        """Ask the plan to pause at its next checkpoint, or `grace` seconds later wherever it is."""
        return verbs.pause(self.engine.handle, self._run(), grace)

    def resume(self) -> Reply:
        """Let a paused plan go on; if it cannot, that is logged and shown."""
        handle = self.engine.handle
        self._note_problem(handle, "")
        return verbs.resume(handle, self._note_problem)

    def _note_problem(self, handle: PlanHandle | None, text: str) -> None:
        """Show what is wrong with a plan; nothing if the text is empty."""
        if handle is None:
            return
        if text:
            self._logger.error("%s", text)
        with self._lock:
            self._problem = handle.id, text
        self._look_soon()

    def end(self, verb: Verb) -> Reply:
        """Ask the plan to end."""
        return verbs.end(self.engine.handle, verb)

    @property
    def is_aborting(self) -> bool:
        """Whether the plan was told to abort and is being cleaned up."""
        handle = self.engine.handle
        return handle is not None and handle.state is PlanState.ABORTING

    def trigger(self, name: str) -> Reply:
        """Do a momentary action of the plan."""
        return verbs.trigger(self._run(), name)

    def toggle(self, text: str) -> Reply:
        """Put a togglable action of the plan into its other state, or into the one that is said."""
        answer = verbs.toggle(self._run(), text)
        self._look_soon()
        return answer

    def _run(self) -> PlanRun | None:
        running = self._running_id()
        with self._lock:
            return self._runs.get(running)
