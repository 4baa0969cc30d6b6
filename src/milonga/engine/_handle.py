"""A plan that was given to an engine, from then to its end."""

import concurrent.futures
import threading
import time
import uuid
from collections.abc import Callable, Generator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from bluesky.run_engine import RunEngineResult

from milonga.engine._interruptions import PlanHalted, PlanStopped, RunEngineInterrupted
from milonga.engine._progress import PlanProgress

if TYPE_CHECKING:
    from milonga.engine._desk import Desk

__all__ = ["PlanFuture", "PlanHandle", "PlanState", "Verb"]

T = TypeVar("T")


class PlanState(StrEnum):
    """Where a plan stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    ABORTING = "aborting"
    HALTING = "halting"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    ABORTED = "aborted"
    HALTED = "halted"

    @property
    def is_final(self) -> bool:
        """Whether the plan has ended."""
        return self in _FINAL


_FINAL = frozenset(
    {
        PlanState.DONE,
        PlanState.FAILED,
        PlanState.STOPPED,
        PlanState.ABORTED,
        PlanState.HALTED,
    }
)


class Verb(StrEnum):
    """The ways to tell a plan to end, the stronger ones later."""

    STOP = "stop"
    ABORT = "abort"
    HALT = "halt"

    @property
    def strength(self) -> int:
        """Which of two verbs wins."""
        return list(Verb).index(self)


class PlanFuture(concurrent.futures.Future[T]):
    """A future whose callbacks run in the engine's worker thread, never in the event loop.

    Parameters
    ----------
    post : callable
        Has the worker call a function.
    """

    def __init__(self, post: Callable[..., None]) -> None:
        super().__init__()
        self._post = post
        self.set_running_or_notify_cancel()

    def _invoke_callbacks(self) -> None:
        # A callback of the standard library's future runs where the result is set, which is the
        # event loop: a callback that waits there would stop every engine of the process.
        if self._done_callbacks:  # type: ignore[attr-defined]
            self._post(super()._invoke_callbacks)  # type: ignore[misc]

    def settle(self, result: T) -> None:
        """Set the result, unless the future is done."""
        if not self.done():
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Set the exception, unless the future is done."""
        if not self.done():
            self.set_exception(error)


class PlanHandle:
    """What a client holds of a plan: its state, its verbs and its one result.

    Any thread may call any method, the document callbacks of the plan included. No verb waits:
    each returns a future at once. Waiting in the thread of the event loop is refused.

    Attributes
    ----------
    id : str
        Unique id of the handle.
    name : str
        Name of the plan.
    future : concurrent.futures.Future
        Ends when the plan has ended, whatever pauses there were: with its `RunEngineResult` when
        it ran to its end or was stopped, else with the exception.
    """

    def __init__(self, engine: "Desk", name: str, timeout: float | None) -> None:
        self.id = uuid.uuid4().hex
        self.name = name
        self.timeout = timeout
        self.future: PlanFuture[RunEngineResult] = PlanFuture(engine.post_callback)
        self.ended: PlanFuture[RunEngineResult] = PlanFuture(engine.post_callback)
        self.started_at: float | None = None
        self.steps = PlanProgress(self._progressed)
        self._engine = engine
        self._lock = threading.Lock()
        self._state = PlanState.QUEUED
        self._uids: tuple[str, ...] = ()
        self._reason = ""
        self._result: RunEngineResult | None = None
        self._interruption: RunEngineInterrupted | None = None
        self._observers: list[Callable[[PlanState, int], None]] = []

    def __repr__(self) -> str:
        return f"<PlanHandle {self.name!r}: {self._state}>"

    # What it says

    @property
    def state(self) -> PlanState:
        """Where the plan stands."""
        return self._state

    @property
    def progress(self) -> int:
        """Percentage that is done, from documents or declared steps; 0 if nothing was announced."""
        return 100 if self._state is PlanState.DONE else self.steps.percent

    @property
    def reason(self) -> str:
        """Why the plan ended early or failed; empty if it did not."""
        return self._reason

    @property
    def uids(self) -> tuple[str, ...]:
        """The runs that the plan has opened so far."""
        return self._uids

    @property
    def interruption(self) -> RunEngineInterrupted | None:
        """How the plan was ended early, a stop included; None if it was not."""
        return self._interruption

    @property
    def outcome(self) -> RunEngineResult | None:
        """The final result, however the plan ended; None before that."""
        return self._result

    def done(self) -> bool:
        """Whether the plan has ended."""
        return self.future.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the plan; False if it has not come within `timeout` seconds."""
        self._engine.check_may_wait(self.future)
        try:
            self.future.exception(timeout)
        except TimeoutError:
            return self.future.done()
        return True

    def result(self, timeout: float | None = None) -> RunEngineResult:
        """Wait for the end of the plan and return its result, or raise what it failed with.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.

        Raises
        ------
        TimeoutError
            If the plan has not ended by then; it goes on.
        RunEngineInterrupted
            `PlanAborted`, `PlanHalted` or `PauseFailed`. A plan that was stopped has a result.
        """
        self._engine.check_may_wait(self.future)
        return self.future.result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end of the plan and return what it failed with, or None."""
        self._engine.check_may_wait(self.future)
        return self.future.exception(timeout)

    def add_done_callback(self, callback: Callable[["PlanHandle"], object]) -> None:
        """Call `callback` with the handle when the plan has ended, in the engine's worker."""
        self.future.add_done_callback(lambda _: callback(self))

    def observe(self, observer: Callable[[PlanState, int], None]) -> None:
        """Call `observer` with each new state or progress, in the event loop; it must be short."""
        self._observers.append(observer)

    def __await__(self) -> Generator[Any, None, RunEngineResult]:
        import asyncio  # noqa: PLC0415 - only those who await need it

        return asyncio.wrap_future(self.future).__await__()

    # What it does

    def pause(self, *, defer: bool = False, grace: float | None = None) -> PlanFuture[bool]:
        """Ask the plan to pause.

        Parameters
        ----------
        defer : bool, optional
            Wait for the next checkpoint. Otherwise the message in work is interrupted, and the
            plan goes on from the last checkpoint when it is resumed.
        grace : float, optional
            Seconds after which a deferred pause does not wait any longer.

        Returns
        -------
        concurrent.futures.Future
            True when the plan is paused, False if it has ended instead.
        """
        return self._engine.pause_plan(self, defer=defer, grace=grace)

    def resume(self) -> PlanFuture[bool]:
        """Let the plan go on; the future is True then, and fails if it was not paused."""
        return self._engine.resume_plan(self)

    def stop(self, reason: str = "") -> PlanFuture[RunEngineResult]:
        """End the plan, with cleanup; that counts as success. The future has the final result."""
        return self._engine.end_plan(self, Verb.STOP, reason)

    def abort(
        self, reason: str = "", *, halt_after: float | None = None
    ) -> PlanFuture[RunEngineResult]:
        """End the plan, with cleanup; that counts as aborted.

        Parameters
        ----------
        reason : str, optional
            Why; it goes into the stop document.
        halt_after : float, optional
            Seconds that the cleanup may take before the plan is halted. When an abort is asked
            for again, the engine's `halt_after` holds if this is not given.

        Returns
        -------
        concurrent.futures.Future
            Has the final result, when the plan has ended.
        """
        return self._engine.end_plan(self, Verb.ABORT, reason, halt_after=halt_after)

    def halt(self, reason: str = "") -> PlanFuture[RunEngineResult]:
        """End the plan without cleanup. The future has the final result."""
        return self._engine.end_plan(self, Verb.HALT, reason)

    # For the engine

    def move(self, state: PlanState) -> None:
        """Note where the plan stands, and tell those who observe."""
        with self._lock:
            if self._state is state or self._state.is_final:
                return
            self._state = state
            if state is PlanState.STARTING:
                self.started_at = time.monotonic()
        self._tell()

    def _progressed(self, _percent: int) -> None:
        self._tell()

    def _tell(self) -> None:
        for observer in tuple(self._observers):
            self._engine.guarded(observer, self._state, self.progress)

    def opened(self, uids: tuple[str, ...]) -> None:
        """Note which runs there are."""
        self._uids = uids

    def end(self, state: PlanState, result: RunEngineResult, error: BaseException | None) -> bool:
        """Fix the outcome, once; return whether this was the time."""
        with self._lock:
            if self._result is not None:
                return False
            self._result = result
        self._uids = result.run_start_uids
        self._reason = result.reason
        if isinstance(error, RunEngineInterrupted):
            self._interruption = error
        self.move(state)
        if error is None or isinstance(error, PlanStopped):
            self.future.settle(result)
        else:
            self.future.fail(error)
        self.ended.settle(result)
        return True

    def give_up(self, reason: str) -> bool:
        """End the handle of a plan that cannot be ended, since it blocks the event loop."""
        result = RunEngineResult(self._uids, None, "abort", True, reason, None)
        error = PlanHalted(self.name, reason, result)
        return self.end(PlanState.HALTED, result, error)
