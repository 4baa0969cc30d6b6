"""How a plan is paused, resumed and ended early, in the event loop.

bluesky drives a plan from two threads: the caller blocks in `__call__` while a coroutine works in
the loop, and each control call changes the coroutine's state from wherever it comes. Here only
the event loop's thread touches that state, so there is nothing to race with; what other threads
ask for is posted to it.
"""

# bluesky is annotated in parts only.
# mypy: disallow-untyped-calls=False

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any

from bluesky._vendor.super_state_machine.errors import (  # noqa: PLC2701 - no public name
    TransitionError,
)
from bluesky.protocols import Pausable
from bluesky.run_engine import RunEngineResult
from bluesky.utils import Msg, PlanHalt, RequestAbort, RequestStop, maybe_await

from milonga.engine._handle import PlanFuture, PlanHandle, PlanState, Verb
from milonga.engine._interruptions import PlanPaused
from milonga.engine._play import Play
from milonga.engine._rewind import RewindStage

__all__ = ["ControlStage", "TransitionError"]

_logger = logging.getLogger("milonga.engine")

_ENDING = {
    Verb.STOP: ("stopping", PlanState.STOPPING, RequestStop),
    Verb.ABORT: ("aborting", PlanState.ABORTING, RequestAbort),
    Verb.HALT: ("halting", PlanState.HALTING, PlanHalt),
}


def _last_exit() -> Generator[Msg, Any, None]:
    """Stand on top of a plan that is halted, and take the exception, so that no cleanup does."""
    yield Msg("null")


class ControlStage(RewindStage):
    """A stage whose plan is controlled in the event loop's thread, and there only."""

    halt_after: float
    resume_limit: float = 10.0
    """Seconds that a device has to resume; if it takes longer, the plan stays paused."""

    _drive_task: asyncio.Task[None]
    _resume_task_of_play: asyncio.Task[None]

    def _block_worker(self) -> Callable[[], None]:
        """Have the worker blocked while the plan runs; what is returned ends that."""
        raise NotImplementedError

    def is_on(self, play: Play) -> bool:
        """Whether a plan is on the stage."""
        return self._play is play

    @property
    def is_ending(self) -> bool:
        """Whether the plan was told to end or could not be paused."""
        return self._play is not None and (self._play.verb is not None or self._interrupted)

    def guarded(self, function: Callable[..., object], *arguments: object) -> None:
        """Call what somebody gave; log what it raises."""
        try:
            function(*arguments)
        except Exception:
            _logger.exception("%r: %r failed", self, function)

    def _move_to(self, state: str) -> None:
        """Change bluesky's state; a hook that raises does not keep the engine from going on."""
        try:
            self._state = state
        except TransitionError:
            raise
        except Exception:
            _logger.exception("the state hook failed on the way to %r", state)

    # Ending early

    def _is_over(self) -> bool:
        """Whether the plan has nothing more to say; what it ended with is its own."""
        return not self._plan_stack or self._pardon_failures.is_set()  # type: ignore[attr-defined]

    def _end_on_loop(
        self, handle: PlanHandle, verb: Verb, reason: str, halt_after: float | None = None
    ) -> None:
        play = self._play
        if play is None or play.handle is not handle:
            return
        if halt_after is None and self._may_hang(play, verb):
            halt_after = self.halt_after
        if halt_after is not None:
            self._halt_later(play, halt_after, reason)
        if not play.running or self._is_between(verb):
            if play.asked is None or verb.strength > play.asked[0].strength:
                play.asked = (verb, reason)
        elif not self._is_over():
            self._apply(play, verb, reason)
        elif verb is Verb.HALT:
            self._cut_short(play, reason)

    def _may_hang(self, play: Play, verb: Verb) -> bool:
        """Whether a plan that is told this may already be waiting for a device that hangs."""
        if verb is Verb.HALT:
            return False
        again = verb is Verb.ABORT and play.verb is Verb.ABORT
        return again or self._state == "pausing" or self._is_over()

    def _halt_later(self, play: Play, seconds: float, reason: str) -> None:
        text = f"{reason}; cleanup was not over {seconds:g} s later".lstrip("; ")
        play.timers.append(
            self.loop.call_later(seconds, self._end_on_loop, play.handle, Verb.HALT, text)
        )

    def _is_between(self, verb: Verb) -> bool:
        """Whether the plan is on its way to a pause, which only a halt breaks off.

        Devices are being stopped then, and bluesky's engine would leave out the plan's cleanup.
        """
        if self._state == "suspending":
            self.loop.call_later(0.005, self._apply_asked)
            return True
        return self._state == "pausing" and verb is not Verb.HALT

    def _apply_asked(self) -> None:
        play = self._play
        if play is not None and play.asked is not None:
            self._end_on_loop(play.handle, *play.asked)

    def _apply(self, play: Play, verb: Verb, reason: str) -> None:
        play.asked = None
        # A plan that could not be paused is being cleaned up although nobody told it to end.
        first = self._state not in {"stopping", "aborting", "halting"}
        if not first and (verb is not Verb.HALT or play.verb is Verb.HALT):
            return
        was_paused = self._state == "paused"
        name, state, exception = _ENDING[verb]
        play.verb = verb
        self._reason = reason
        self._interrupted = True
        if verb is not Verb.STOP:
            self._exit_status = "abort"
            self._destroy_open_run_tracing_spans()
            for call in play.calls.values():
                self.guarded(call.abandon)
        if verb is Verb.HALT:
            self._plan_stack.append(_last_exit())
            self._response_stack.append(None)
        if first:
            self._move_to(name)
        play.handle.move(state)
        if was_paused or not first:
            with self._state_lock:
                self._exception = exception()  # type: ignore[assignment]
        if was_paused:
            self._run_permit.set()  # type: ignore[attr-defined]
        else:
            self._task.cancel()  # type: ignore[attr-defined]

    def _cut_short(self, play: Play, reason: str) -> None:
        """Break off what is done after the plan, such as the stop of a device that hangs.

        What a plan has failed with is still what becomes of it.
        """
        if self._exit_status != "fail":
            play.verb = Verb.HALT
            self._exit_status = "abort"
        self._interrupted = True
        self._reason = reason
        play.handle.move(PlanState.HALTING)
        self._drive_task.cancel()

    def _break_off(self, handle: PlanHandle) -> None:
        """End a plan whose cleanup does not, whatever it was doing."""
        if self._play is not None and self._play.handle is handle:
            self._drive_task.cancel()

    # Pause and resume

    def _pause_on_loop(
        self, handle: PlanHandle, future: PlanFuture[bool], defer: bool, grace: float | None
    ) -> None:
        play = self._play
        if play is None or play.handle is not handle:
            future.settle(False)
        elif not play.running:
            play.early_pauses.append(lambda: self._pause_on_loop(handle, future, defer, grace))
        elif self._state == "paused" and play.verb is None and not play.resuming:
            future.settle(True)
        else:
            play.pauses.append(future)
            self._pause_when_it_can(play, future, defer, grace)

    def _pause_when_it_can(
        self, play: Play, future: PlanFuture[bool], defer: bool, grace: float | None
    ) -> None:
        if self._play is not play or future.done() or play.verb is not None or self._is_over():
            return  # the future is settled at the end of the plan
        if not self._state.can_pause:
            if self._state != "pausing":
                self.loop.call_later(0.005, self._pause_when_it_can, play, future, defer, grace)
        elif defer:
            self._deferred_pause_requested = True
            if grace is not None:
                self.loop.call_later(grace, self._pause_when_it_can, play, future, False, None)
        elif self._unrepeatable:
            play.held.append(lambda: self._pause_when_it_can(play, future, False, None))
        else:
            # The response of a plan is off its stack while a message of it is in work.
            in_message = len(self._response_stack) < len(self._plan_stack)
            if in_message and self._msg_cache and self._rewindable_flag:
                self._broken_off = (self._msg_cache[-1], len(self._plan_stack) - 1)
            self._pause_now()

    async def _request_pause_coro(self, defer: bool = False) -> None:
        """Pause for a message of the plan itself."""
        if not self._state.can_pause:
            raise TransitionError(f"found the engine {self._state}, expected it to be running")
        if defer:
            self._deferred_pause_requested = True
        else:
            self._pause_now()

    def _pause_now(self) -> None:
        self._deferred_pause_requested = False
        self._interrupted = True
        self._move_to("pausing")
        if self._play is not None:
            self._play.handle.move(PlanState.PAUSING)
        try:
            for run in self._run_bundlers.values():
                run.record_interruption("pause")
        finally:
            self._task.cancel()  # type: ignore[attr-defined]

    def _paused(self) -> None:
        play = self._play
        if play is None or self._state != "paused":
            return
        play.handle.move(PlanState.PAUSED)
        pauses, play.pauses = play.pauses, []
        resumes, play.resumes = play.resumes, []
        snapshot = RunEngineResult(
            tuple(self._run_start_uids), None, self._exit_status, True, self._reason, None
        )
        play.segment.fail(PlanPaused(play.handle.name, self._reason, snapshot))
        play.segment_over()
        for pause in pauses:
            pause.settle(True)
        if play.asked is not None:
            self._apply(play, *play.asked)
        for resume in resumes:
            resume()

    def _resume_on_loop(
        self,
        handle: PlanHandle,
        future: PlanFuture[bool],
        segment: PlanFuture[Any],
    ) -> None:
        play = self._play
        if play is None or play.handle is not handle:
            self._refuse_resume(future, segment)
        elif self._state != "paused" and self._is_to_pause(play):
            play.resumes.append(lambda: self._resume_on_loop(handle, future, segment))
        elif self._state != "paused" or play.resuming:
            self._refuse_resume(future, segment)
        else:
            play.resuming = True
            self._resume_task_of_play = self.loop.create_task(
                self._resume_play(play, future, segment)
            )

    def _is_to_pause(self, play: Play) -> bool:
        """Tell whether a pause is under way, or was asked for before the plan could pause."""
        return self._state == "pausing" or bool(play.pauses or play.early_pauses)

    def _refuse_resume(self, future: PlanFuture[bool], segment: PlanFuture[Any]) -> None:
        text = f"found the engine {self._state}, expected it to be paused"
        future.fail(TransitionError(text))
        segment.fail(TransitionError(text))

    async def _resume_devices(self) -> None:
        for obj in tuple(self._objs_seen):
            if not isinstance(obj, Pausable):
                continue
            try:
                await asyncio.wait_for(maybe_await(obj.resume()), self.resume_limit)
            except TimeoutError as error:
                text = f"{obj!r}: found it not resumed after {self.resume_limit:g} s"
                raise TimeoutError(f"{text}; the plan is still paused") from error

    async def _resume_play(
        self,
        play: Play,
        future: PlanFuture[bool],
        segment: PlanFuture[Any],
    ) -> None:
        try:
            await self._resume_devices()
            if self._play is not play or self._state != "paused":
                self._refuse_resume(future, segment)
                return
            for run in self._run_bundlers.values():
                run.record_interruption("resume")
        except Exception as error:  # noqa: BLE001 - it is the answer
            future.fail(error)
            segment.fail(error)
            return
        finally:
            play.resuming = False
        self._interrupted = False
        self._plan_stack.append(self._rewind())
        self._response_stack.append(None)
        play.segment, play.segment_over = segment, self._block_worker()
        play.handle.move(PlanState.RUNNING)
        self._run_permit.set()  # type: ignore[attr-defined]
        future.settle(True)
