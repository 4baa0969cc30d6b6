"""Where plans are given to an engine, from any thread: the one it has, and those that wait."""

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from bluesky.run_engine import RunEngineResult
from bluesky.utils import DuringTask

from milonga.engine._callbacks import release_idle_threads
from milonga.engine._commands import CommandStage
from milonga.engine._handle import PlanFuture, PlanHandle, PlanState, Verb
from milonga.engine._interruptions import PlanAborted, PlanHalted, PlanStopped
from milonga.engine._loop import LoopLease
from milonga.engine._play import Play
from milonga.engine._stage import TransitionError
from milonga.engine._threads import Worker
from milonga.engine._watchdog import LoopWatchdog
from milonga.errors import EngineBusyError, EngineClosedError

__all__ = ["Desk", "EngineStatistics", "OnBusy"]

_logger = logging.getLogger("milonga.engine")

OnBusy = Literal["reject", "queue", "replace"]
_UNBEGUN = {
    Verb.STOP: (PlanState.STOPPED, PlanStopped, "success"),
    Verb.ABORT: (PlanState.ABORTED, PlanAborted, "abort"),
    Verb.HALT: (PlanState.HALTED, PlanHalted, "abort"),
}


@dataclass(frozen=True)
class EngineStatistics:
    """What an engine has to do and has done."""

    running: bool
    queued: int
    submitted: int
    refused: int
    ended: int
    callbacks_waiting: int


class Desk(CommandStage):
    """The side of the engine that other threads talk to.

    A lock guards which plan the engine has and which wait; nothing is called under it but the
    posting of calls.
    """

    name: str
    max_queued: int
    watchdog: LoopWatchdog
    _worker: Worker
    _lease: LoopLease
    _finalizer: "weakref.finalize[..., Any]"
    _blocks: DuringTask | None

    def _open_desk(self) -> None:
        self._desk = threading.Lock()
        self._current: Play | None = None
        self._queue: deque[Play] = deque()
        self._closed = False
        self._submitted = self._refused = self._ended = 0
        engine = weakref.ref(self)
        self._reason_to_watch = lambda: (found := engine()) is not None and found.is_busy

    def _submit(
        self, plan: Any, subs: Any, metadata: dict[str, Any], timeout: float | None, on_busy: OnBusy
    ) -> Play:
        self._check_alive()
        if on_busy not in {"reject", "queue", "replace"}:
            text = f"on_busy: found {on_busy!r}, expected 'reject', 'queue' or 'replace'"
            raise ValueError(text)
        handle = PlanHandle(self, getattr(plan, "__name__", type(plan).__name__), timeout)
        play = Play(handle, plan, subs, metadata, PlanFuture(self.post_callback))
        replaced: PlanHandle | None = None
        dropped: list[Play] = []
        with self._desk:
            self._check_open()
            if self._current is None:
                self._put_on(play)
            elif on_busy == "replace":
                # At once, or the end of the current plan would start one of those that wait.
                replaced, dropped = self._current.handle, list(self._queue)
                self._queue = deque([play])
            else:
                self._check_room(on_busy)
                self._queue.append(play)
            self._submitted += 1
            self._ended += len(dropped)
        reason = f"replaced by {handle.name}"
        for each in dropped:
            self._discard(each, Verb.ABORT, reason)
        if replaced is not None:
            replaced.abort(reason)
        return play

    def _check_alive(self) -> None:
        if self.state == "panicked":
            raise RuntimeError("found the engine panicked, expected a new one to be made")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineClosedError(f"engine {self.name!r}: found it shut down, expected it open")

    def _check_room(self, on_busy: str) -> None:
        waiting = len(self._queue)
        if on_busy == "queue" and waiting < self.max_queued:
            return
        self._refused += 1
        current = self._current.handle if self._current is not None else None
        raise EngineBusyError(
            f"engine {self.name!r}: found {current!r} and {waiting} waiting plans; expected it "
            f"free, or on_busy='queue' with less than {self.max_queued} waiting"
        )

    def _put_on(self, play: Play) -> None:
        """Start a plan; the desk's lock is held, so that no control call can come before."""
        self._current = play
        play.begun = time.monotonic()
        self.watchdog.watch_while(self._reason_to_watch)
        self.loop.call_soon_threadsafe(self._begin, play)

    def _block_worker(self) -> Callable[[], None]:
        """Have `during_task` block the worker until what is returned is called."""
        if self._blocks is None:
            return lambda: None
        over = threading.Event()
        self._worker.post(self._blocks.block, over)
        return over.set

    def _play_ended(self, play: Play) -> None:
        with self._desk:
            self._ended += 1
            if self._current is play:
                self._current = None
            if self._current is None and self._queue and not self._closed:
                self._put_on(self._queue.popleft())

    @property
    def handle(self) -> PlanHandle | None:
        """The plan that the engine has now."""
        play = self._current
        return play.handle if play is not None else None

    @property
    def queued(self) -> tuple[PlanHandle, ...]:
        """The plans that wait, the next one first."""
        with self._desk:
            return tuple(play.handle for play in self._queue)

    @property
    def is_busy(self) -> bool:
        """Whether the engine has a plan."""
        return self._current is not None

    def _needed(self, verb: str) -> PlanHandle:
        self._check_alive()
        handle = self.handle
        if handle is None:
            raise TransitionError(f"{verb}: found the engine idle, expected it to have a plan")
        return handle

    def end_plan(
        self, handle: PlanHandle, verb: Verb, reason: str, *, halt_after: float | None = None
    ) -> "PlanFuture[RunEngineResult]":
        """End a plan of this engine, wherever it stands."""
        with self._desk:
            waiting = next((each for each in self._queue if each.handle is handle), None)
            if waiting is not None:
                self._queue.remove(waiting)
                self._ended += 1
        if waiting is not None:
            self._discard(waiting, verb, reason)
        elif not handle.done():
            self._post(self._end_on_loop, handle, verb, reason, halt_after)
        return handle.ended

    def _discard(self, play: Play, verb: Verb, reason: str) -> None:
        """End a plan that has not begun."""
        state, kind, exit_status = _UNBEGUN[verb]
        result = RunEngineResult((), None, exit_status, True, reason, None)
        error = kind(play.handle.name, reason, result)
        close = getattr(play.plan, "close", None)
        if callable(close):
            self.guarded(close)
        play.handle.end(state, result, error)
        play.segment.fail(error)
        for pause in play.early_pauses:
            pause()

    def pause_plan(
        self, handle: PlanHandle, *, defer: bool, grace: float | None
    ) -> "PlanFuture[bool]":
        """Pause a plan of this engine; one that waits pauses before its first message."""
        future: PlanFuture[bool] = PlanFuture(self.post_callback)
        with self._desk:
            waiting = next((each for each in self._queue if each.handle is handle), None)
            if waiting is not None:
                waiting.early_pauses.append(
                    partial(self._pause_on_loop, handle, future, defer, grace)
                )
        if handle.done():
            future.settle(False)
        elif waiting is None:
            self._post(self._pause_on_loop, handle, future, defer, grace)
        return future

    def resume_plan(self, handle: PlanHandle) -> "PlanFuture[bool]":
        """Resume a plan of this engine."""
        future: PlanFuture[bool] = PlanFuture(self.post_callback)
        self._ask_to_resume(handle, future, PlanFuture(self.post_callback))
        return future

    def _ask_to_resume(
        self, handle: PlanHandle, future: "PlanFuture[bool]", segment: "PlanFuture[Any]"
    ) -> None:
        self._post(self._resume_on_loop, handle, future, segment)

    def _post(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:
            raise EngineClosedError(f"engine {self.name!r}: found its event loop closed") from error

    def post_callback(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a user's function in the engine's worker thread."""
        self._worker.post(function, *arguments)

    def check_may_wait(self, future: "PlanFuture[Any]") -> None:
        """Raise rather than wait in the thread that the plan needs."""
        if self._th is threading.current_thread() and not future.done():
            text = "found a wait for a plan in the event loop's thread, which runs the plan"
            raise RuntimeError(f"{text}; expected add_done_callback, or await")

    def statistics(self) -> EngineStatistics:
        """Return what the engine has to do and has done."""
        with self._desk:
            return EngineStatistics(
                running=self._current is not None,
                queued=len(self._queue),
                submitted=self._submitted,
                refused=self._refused,
                ended=self._ended,
                callbacks_waiting=self._worker.depth,
            )

    def _shut(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        with self._desk:
            self._closed = True
            current = self._current
            waiting = list(self._queue)
            self._queue.clear()
        for play in waiting:
            self._discard(play, Verb.ABORT, "the engine was shut down")
        ended = current is None or self._end_for_good(current, timeout)
        left = max(0.05, deadline - time.monotonic())
        worker_ended = self._worker.close(left)
        self._finalizer.detach()
        self.watchdog.rest()
        release_idle_threads()
        left = max(0.05, deadline - time.monotonic())
        return self._lease.release(left if ended else 0.0) and worker_ended and ended

    def _end_for_good(self, play: Play, timeout: float) -> bool:
        handle = play.handle
        steps: tuple[tuple[Callable[[], object], float], ...] = (
            (lambda: handle.abort("the engine was shut down"), 0.5),
            (lambda: handle.halt("the engine was shut down"), 0.25),
            (lambda: self._post(self._break_off, handle), 0.15),
        )
        for step, share in steps:
            try:
                step()
                handle.ended.result(timeout * share)
            except (TimeoutError, EngineClosedError):
                continue
            return True
        _logger.error("plan %r blocks its event loop and was given up", handle.name)
        handle.give_up("it blocked the event loop when the engine was shut down")
        play.segment.fail(PlanHalted(handle.name, handle.reason, handle.outcome))
        play.segment_over()
        return False
