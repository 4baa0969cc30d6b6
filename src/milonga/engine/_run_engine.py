"""The engine that runs plans and never keeps its caller waiting."""

# bluesky is annotated in parts only.
# mypy: untyped-calls-exclude="bluesky"

import logging
import threading
import weakref
from collections.abc import Callable, MutableMapping
from contextlib import nullcontext
from typing import Any, Self

from bluesky import run_engine as bluesky_engine
from bluesky.run_engine import RunEngineResult, default_scan_id_source
from bluesky.utils import DuringTask

from milonga.engine._desk import Desk, EngineStatistics, OnBusy
from milonga.engine._handle import PlanFuture, PlanHandle
from milonga.engine._invocation import ChildCaller
from milonga.engine._loop import LoopLease, Surroundings, lease_of
from milonga.engine._stage import TransitionError
from milonga.engine._threads import Worker
from milonga.engine._watchdog import LoopWatchdog, watchdog_of

__all__ = ["EngineStatistics", "RunEngine"]

_logger = logging.getLogger("milonga.engine")


class RunEngine(Desk):
    """Runs bluesky plans, one at a time, in the event loop that all engines of a process share.

    Any thread may call any method, the document callbacks of a plan included, and none of those
    that control a plan waits: they return futures. Callbacks of futures run in a worker thread of
    the engine; messages and document callbacks run in the thread of the event loop.

    Parameters
    ----------
    md : mapping, optional
        Metadata of all runs. A plain dict is copied; another mapping, which may be persistent,
        is used and written to.
    loop : asyncio.AbstractEventLoop, optional
        A loop of the caller's own, instead of the shared one.
    preprocessors : list, optional
        Functions that wrap the plan, the first one innermost: ``[f, g]`` makes ``g(f(plan))``.
    md_validator, md_normalizer : callable, optional
        See `bluesky.RunEngine`.
    scan_id_source : callable, optional
        Makes the next scan id from the metadata; may be async.
    during_task : DuringTask, optional
        Its `block(event)` is called in the worker while a plan runs.
    call_returns_result : bool, optional
        Whether the future of ``RE(plan)`` has a `RunEngineResult`, or else the uids of the runs.
    name : str, optional
        Name in threads and logs.
    caller : ChildCaller, optional
        The way to child devices, for `plan_stubs.invoke`.
    thread_context : callable, optional
        Makes a context manager that the engine's threads live in. Give `tango.EnsureOmniThread`
        where document callbacks push Tango events.
    max_queued : int, optional
        How many plans may wait.
    halt_after : float, optional
        Seconds that a plan's cleanup has, after a timeout or a second abort, until it is halted;
        and that devices have to come to rest after a plan that was told to end.
    lag_limit : float, optional
        Seconds for which a plan may block the event loop before that is logged.

    Raises
    ------
    EngineBlockedError
        If the event loop does not answer, as a plan blocks it.
    RuntimeError
        If it is made in the thread of its event loop.
    TypeError
        If `md` is no mapping that can be written to.

    Examples
    --------
    >>> from bluesky.plan_stubs import null
    >>> with RunEngine() as RE:
    ...     RE(null()).result(timeout=5.0).exit_status
    'success'
    """

    def __init__(
        self,
        md: MutableMapping[str, Any] | None = None,
        *,
        loop: Any = None,
        preprocessors: list[Callable[..., Any]] | None = None,
        md_validator: Callable[..., Any] | None = None,
        md_normalizer: Callable[..., Any] | None = None,
        scan_id_source: Callable[..., Any] = default_scan_id_source,
        during_task: DuringTask | None = None,
        call_returns_result: bool = True,
        name: str = "engine",
        caller: ChildCaller | None = None,
        thread_context: Surroundings = nullcontext,
        max_queued: int = 32,
        halt_after: float = 10.0,
        lag_limit: float = 1.0,
    ) -> None:
        self.name = name
        self.caller = caller
        self.max_queued = max_queued
        self.halt_after = halt_after
        self._open_desk()
        self._worker = Worker(f"milonga-{name}", surroundings=thread_context)
        self._lease = lease_of(loop)
        self._finalizer = weakref.finalize(self, _release_later, self._lease)
        self._finalizer.atexit = False  # plans are still to be cleaned up then
        self._blocks = during_task
        before = bluesky_engine.get_bluesky_event_loop()
        try:
            self._lease.check_answers()  # bluesky's engine would wait for it for ever
            if thread_context is not nullcontext:
                self._lease.surround(thread_context)
            super().__init__(
                _own(md),
                loop=self._lease.loop,
                preprocessors=preprocessors,
                context_managers=[],
                md_validator=md_validator,
                md_normalizer=md_normalizer,
                scan_id_source=scan_id_source,
                during_task=during_task or DuringTask(),
                call_returns_result=call_returns_result,
            )
        except BaseException:
            self._finalizer.detach()
            self._lease.release()
            raise
        if loop is not None and before is not None:
            # Devices connect in the global loop; an engine with its own must not take it away.
            bluesky_engine.set_bluesky_event_loop(before)
        self.pause_msg = ""
        self.watchdog: LoopWatchdog = watchdog_of(self.loop, self._th)
        self.watchdog.limit = lag_limit
        self._set_the_stage()
        self._learn_commands()
        _engines.add(self)

    # Giving it plans

    def __call__(  # type: ignore[override]
        self,
        plan: Any,
        subs: Any = None,
        /,
        *,
        timeout: float | None = None,
        on_busy: OnBusy = "queue",
        **metadata_kw: Any,
    ) -> "PlanFuture[Any]":
        """Run a plan; the future ends with it, or with its first pause.

        Parameters
        ----------
        plan : iterable of Msg
            The plan.
        subs : callable, list or dict, optional
            Document callbacks for this plan.
        timeout : float, optional
            Seconds after which the plan is aborted, with the reason ``timeout``.
        on_busy : {"queue", "reject", "replace"}, optional
            What to do if the engine has a plan, see `call`.
        **metadata_kw
            Metadata of the runs.

        Returns
        -------
        concurrent.futures.Future
            Has a `RunEngineResult`; fails with a `RunEngineInterrupted` that tells how, if the
            plan was paused, stopped, aborted or halted.
        """
        return self._submit(plan, subs, metadata_kw, timeout, on_busy).segment

    def call(
        self,
        plan: Any,
        subs: Any = None,
        /,
        *,
        timeout: float | None = None,
        on_busy: OnBusy = "reject",
        **metadata_kw: Any,
    ) -> PlanHandle:
        """Run a plan and return a handle, whose one result survives pauses.

        Parameters
        ----------
        plan, subs, timeout, **metadata_kw
            As for calling the engine itself.
        on_busy : {"reject", "queue", "replace"}, optional
            If the engine has a plan: refuse, wait behind it, or abort it and all that wait.

        Raises
        ------
        EngineBusyError
            If the plan is refused, or the queue is full.
        EngineClosedError
            If the engine was shut down.
        """
        return self._submit(plan, subs, metadata_kw, timeout, on_busy).handle

    submit = call

    # Telling plans what to do

    def request_pause(
        self, defer: bool = False, *, grace: float | None = None
    ) -> "PlanFuture[bool]":
        """Ask the plan to pause; see `PlanHandle.pause`.

        Raises
        ------
        TransitionError
            If the engine has no plan.
        """
        return self._needed("pause").pause(defer=defer, grace=grace)

    def resume(self) -> "PlanFuture[Any]":
        """Let a paused plan go on; the future is for the rest, or until the next pause."""
        self._check_alive()
        segment: PlanFuture[Any] = PlanFuture(self.post_callback)
        handle = self.handle
        if handle is None:
            segment.fail(TransitionError("resume: found the engine idle, expected it paused"))
        else:
            self._ask_to_resume(handle, PlanFuture(self.post_callback), segment)
        return segment

    def stop(self, reason: str = "") -> "PlanFuture[RunEngineResult]":
        """End the plan, with cleanup, as a success; the future has the final result."""
        return self._needed("stop").stop(reason)

    def abort(self, reason: str = "") -> "PlanFuture[RunEngineResult]":
        """End the plan, with cleanup, as aborted; the future has the final result."""
        return self._needed("abort").abort(reason)

    def halt(self, reason: str = "") -> "PlanFuture[RunEngineResult]":
        """End the plan without cleanup; the future has the final result."""
        return self._needed("halt").halt(reason)

    def reset(self) -> None:
        """Halt the plan, if there is one, and drop all subscriptions."""
        if (handle := self.handle) is not None:
            handle.halt("reset")
        self.dispatcher.unsubscribe_all()

    # The end

    def shutdown(self, timeout: float = 10.0) -> bool:
        """End all plans and the engine's threads; idempotent.

        The plan is aborted; if its cleanup takes more than half of the time it is halted. If it
        blocks the event loop, its handle is ended nevertheless and the thread is left behind. In
        a thread of the engine itself the work goes on in another one.

        Parameters
        ----------
        timeout : float, optional
            Seconds that this may take.

        Returns
        -------
        bool
            Whether everything has ended.
        """
        if self._th is threading.current_thread() or self._worker.is_current:
            threading.Thread(
                target=self._shut, args=(timeout,), name=f"milonga-{self.name}-end", daemon=True
            ).start()
            return False
        return self._shut(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.shutdown()


_engines: "weakref.WeakSet[RunEngine]" = weakref.WeakSet()


def living_engines() -> list[RunEngine]:
    """Return the engines that were not shut down."""
    return [engine for engine in list(_engines) if not engine._closed]  # noqa: SLF001 - same module


def _own(md: MutableMapping[str, Any] | None) -> Any:
    """Return metadata that the engine may write to."""
    if md is not None and not isinstance(md, MutableMapping):
        raise TypeError(f"md: found {md!r}, expected a mapping that can be written to")
    if md is not None and type(md) is not dict:
        return md
    own = dict(md or {})
    own["versions"] = dict(own.get("versions", {}))
    return own


def _release_later(lease: LoopLease) -> None:
    """Give the lease of an engine that was forgotten back, not in the garbage collector."""
    threading.Thread(target=lease.release, name="milonga-engine-release", daemon=True).start()
