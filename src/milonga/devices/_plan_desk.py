"""The plans of one device: those that it allows, the one that runs, and what is told of it.

This brings the engine and the device together, and is loaded only by devices that have plans.
Nothing here waits for the engine but `close`.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.devices import _plan_verbs as verbs
from milonga.devices._plan_calls import PlanCaller
from milonga.devices._plan_properties import PlanDeviceSpec
from milonga.devices._plan_registry import DeskRegistry
from milonga.devices._plan_run import NeverRan, PlanRun
from milonga.devices._plan_verbs import Verb
from milonga.devices._plan_view import EngineView, actions_text
from milonga.engine import (
    DocumentBridge,
    JsonLinesWriter,
    LoopLease,
    PlanHandle,
    PlanInvocation,
    PlanState,
    PreparedPlan,
    RunEngine,
    hold_event_loop,
)
from milonga.errors import CommandMapError, CommandRejected, MilongaError
from milonga.lrc import Reply
from milonga.tasks import ExecutionContext, LeafAction

__all__ = ["PlanDesk"]

FLUSH_PATIENCE = 5.0
"""Seconds for which the end of a plan waits until its documents are on disk."""

DOCUMENTS_WAITING = 100_000
"""How many documents may wait for the disk before some are dropped."""


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
    folder : Path
        Where documents go.
    caller : callable
        Makes the way to the children, given a function that returns the id of the running plan.
    clock : Clock
        The device's scheduler; what is reported is reported there.
    publish : callable
        Gets the name and the new value of an attribute.
    logger : logging.Logger
        The device's.

    Raises
    ------
    CommandMapError
        If a plan or a device cannot be made, or the folder not be used.
    """

    def __init__(
        self,
        name: str,
        plans: Mapping[str, str],
        devices: Iterable[PlanDeviceSpec],
        folder: Path,
        caller: Callable[[Callable[[], str]], PlanCaller],
        clock: Clock,
        publish: Callable[[str, object], None],
        logger: logging.Logger,
    ) -> None:
        self.registry = DeskRegistry.of(plans, devices)
        self.folder = folder.absolute()
        try:
            writer = JsonLinesWriter(self.folder)
        except OSError as error:
            raise CommandMapError(
                f"Property DataFolder: found {str(folder)!r}, which cannot be made:"
                f" {error.strerror}"
            ) from error
        self._writer = writer
        self._clock = clock
        self._publish = publish
        self._logger = logger
        self._lock = threading.Lock()
        self._told = EngineView()
        self._look_is_due = False
        self._last_uid = ""
        self._runs: dict[str, PlanRun] = {}
        self._reserved: dict[object, str] = {}
        self._caller = caller(self._running_id)
        _keep_event_loop()
        self.engine = RunEngine(
            name=name, caller=self._caller, thread_context=tango.EnsureOmniThread
        )
        self._documents = DocumentBridge(
            writer, capacity=DOCUMENTS_WAITING, name=f"milonga documents {name}"
        )
        self.engine.subscribe(self._take_document)  # type: ignore[no-untyped-call]

    def close(self, timeout: float) -> None:
        """End the plan and the engine, and finish what is being written."""
        if not self.engine.shutdown(timeout):
            self._logger.error(
                "the engine did not end within %g s; its plan is left behind", timeout
            )
        self._documents.close(1.0)
        self._writer.close()

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

        Raises
        ------
        PlanNotFound, ArgumentError
            If there is no such plan, or it does not take that.
        """
        prepared = self.registry.prepare(name, argument)

        def start(_context: ExecutionContext, on_update: Callable[..., None]) -> PlanRun | NeverRan:
            return self._start(prepared, metadata(), timeout, on_update)

        return start

    def action_of_command(
        self, name: str, argument: str | None, metadata: Callable[[], Mapping[str, Any]]
    ) -> LeafAction:
        """Make the action for a step of a command, whose argument has an envelope, see `action`."""
        return self.action(name, self.registry.without_envelope(name, argument), metadata)

    def _start(
        self,
        prepared: PreparedPlan,
        metadata: Mapping[str, Any],
        timeout: float | None,
        on_update: Callable[..., None],
    ) -> PlanRun | NeverRan:
        try:
            handle = self.engine.call(prepared.plan, timeout=timeout, on_busy="queue", **metadata)
        except MilongaError as error:
            on_update(status=TaskStatus.REJECTED, result=(ResultCode.REJECTED, str(error)))
            return NeverRan()
        run = PlanRun(handle, prepared, self._caller.calls)
        with self._lock:
            self._runs[handle.id] = run
        handle.observe(lambda _state, _progress: self._look_soon())
        handle.ended.add_done_callback(lambda _: self._forget(handle))
        run.invocation = PlanInvocation(handle, partial(self._report, on_update))
        self._look_soon()
        return run

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
            self._clock.call_soon(report)

        self._documents.after(written)

    # What is told

    def view(self) -> EngineView:
        """Return what clients see of the engine."""
        handle = self.engine.handle
        if handle is None:
            return EngineView(lastRunUid=self._last_uid)
        with self._lock:
            run = self._runs.get(handle.id)
        return EngineView(
            str(handle.state),
            handle.progress,
            handle.name,
            actions_text(run.prepared.actions.values()) if run is not None else "[]",
            self._last_uid,
        )

    def _running_id(self) -> str:
        handle = self.engine.handle
        return handle.id if handle is not None else ""

    def _take_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document in the event loop; writing it is for another thread."""
        self._documents(name, document)
        if name == "start":
            self._last_uid = document["uid"]
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
        """Let a paused plan go on."""
        return verbs.resume(self.engine.handle)

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
