"""How a plan begins and ends, in the event loop."""

# bluesky is annotated in parts only.
# mypy: disallow-untyped-calls=False

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from bluesky.log import ComposableLogAdapter
from bluesky.run_engine import RunEngineResult
from bluesky.utils import Msg, ensure_generator, normalize_subs_input, single_gen

from milonga.engine._control import TransitionError
from milonga.engine._handle import PlanState, Verb
from milonga.engine._interruptions import (
    PauseFailed,
    PlanAborted,
    PlanHalted,
    PlanStopped,
    PlanTimedOut,
)
from milonga.engine._play import TIMEOUT, Play
from milonga.engine._tear_down import TearDownStage

__all__ = ["Stage", "TransitionError"]

_logger = logging.getLogger("milonga.engine")

_ENDED = {
    Verb.STOP: (PlanState.STOPPED, PlanStopped),
    Verb.ABORT: (PlanState.ABORTED, PlanAborted),
    Verb.HALT: (PlanState.HALTED, PlanHalted),
}


class _QuietLog(ComposableLogAdapter):
    """bluesky's log, in which a plan that was told to end is no error."""

    def exception(self, msg: object, *args: object, **keywords: Any) -> None:
        engine = (self.extra or {}).get("RE")
        if isinstance(engine, Stage) and engine.is_ending:
            self.info(msg, *args)
        else:
            super().exception(msg, *args, **keywords)


class _PauseSignal:
    """Stands where bluesky's engine tells a blocked caller that the plan is paused."""

    def __init__(self, reached: Callable[[], None]) -> None:
        self.set = reached

    def clear(self) -> None:
        """Nobody waits here."""


class Stage(TearDownStage):
    """Runs one plan at a time in the event loop."""

    def _set_the_stage(self) -> None:
        self._blocking_event = _PauseSignal(lambda: self.loop.call_soon(self._paused))  # type: ignore[assignment]
        self.log = _QuietLog(self.log.logger, {"RE": self})
        self._shield_what_cannot_be_repeated()

    def _play_ended(self, play: Play) -> None:
        """Hear that the stage is free."""
        raise NotImplementedError

    def _begin(self, play: Play) -> None:
        self._play = play
        play.segment_over = self._block_worker()
        play.handle.move(PlanState.STARTING)
        try:
            self._set_up(play)
        except Exception as error:  # noqa: BLE001 - it is the outcome
            self._conclude(play, None, error)
            return
        if play.handle.timeout is not None:
            play.timers.append(self.loop.call_later(play.handle.timeout, self._time_is_over, play))
        self._drive_task = self.loop.create_task(self._drive(play), name=play.handle.name)

    def _set_up(self, play: Play) -> None:
        """Do what `bluesky.RunEngine.__call__` does before it starts."""
        self._clear_call_cache()
        self._clear_run_cache()
        self._broken_off = None
        for name, functions in normalize_subs_input(play.subs).items():
            for function in functions:
                self._temp_callback_ids.add(self.subscribe(function, name))
        self._plan = play.plan
        self._metadata_per_call.update(play.metadata)
        generator = _as_generator(play.plan)
        for wrapper in self.preprocessors:
            generator = wrapper(generator)
        self._plan_stack.append(generator)
        self._response_stack.append(None)
        futures = [future for each in self.suspenders for future in each.get_futures()[0]]
        if futures:
            self._plan_stack.append(single_gen(Msg("wait_for", None, futures)))
            self._response_stack.append(None)
        self._run_permit.set()  # type: ignore[attr-defined]
        self.log.info("Executing plan %r", self._plan)

    async def _drive(self, play: Play) -> None:
        self.loop.call_soon(self._started, play)
        value: Any = None
        error: BaseException | None = None
        try:
            value = await self._run()
        except asyncio.CancelledError as broken:
            _logger.debug("%r was broken off in its last step", play)
            if self._exit_status == "fail":
                error = _failure_behind(broken)
        except BaseException as reason:  # noqa: BLE001 - it is the outcome
            error = reason
        try:
            await self._tidy()
        except asyncio.CancelledError:
            _logger.warning("%r was broken off when its runs were closed", play)
        self._conclude(play, None if value is self.NO_PLAN_RETURN else value, error)

    def _started(self, play: Play) -> None:
        """Do what was asked before the first message; the plan has not run yet."""
        if self._play is not play:
            return
        play.running = True
        play.handle.move(PlanState.RUNNING)
        if play.asked is not None:
            self._apply(play, *play.asked)
        early, play.early_pauses = play.early_pauses, []
        for pause in early:
            pause()

    def _time_is_over(self, play: Play) -> None:
        self._end_on_loop(play.handle, Verb.ABORT, TIMEOUT, self.halt_after)

    def _conclude(self, play: Play, value: object, error: BaseException | None) -> None:
        state, outcome = self._outcome(play, error)
        result = self._result(play, value, state, error)
        if isinstance(outcome, _INTERRUPTIONS):
            outcome.result = result
        for timer in play.timers:
            timer.cancel()
        for token in self._temp_callback_ids:
            self.unsubscribe(token)
        self._temp_callback_ids.clear()
        for call in play.calls.values():
            self.guarded(call.let_go)
        play.calls.clear()
        for latch in play.latches:
            latch.free(play)
        self._play = None
        self._play_ended(play)
        play.handle.end(state, result, outcome)
        if outcome is None:
            returned = result if self._call_returns_result else result.run_start_uids
            play.segment.settle(returned)
        else:
            play.segment.fail(outcome)
        play.segment_over()
        for pause in play.pauses:
            pause.settle(False)
        for late in (*play.early_pauses, *play.resumes):
            late()

    def _outcome(
        self, play: Play, error: BaseException | None
    ) -> tuple[PlanState, BaseException | None]:
        name, reason = play.handle.name, self._reason
        if error is not None and play.verb is not Verb.HALT:
            return PlanState.FAILED, error
        if play.verb is not None:
            state, kind = _ENDED[play.verb]
            if reason == TIMEOUT and play.verb is Verb.ABORT:
                return state, PlanTimedOut(name)
            interruption = kind(name, reason)
            interruption.__cause__ = error
            return state, interruption
        if self._exit_status == "abort":
            text = "it had cleared its checkpoint"
            return PlanState.ABORTED, PauseFailed(name, text) if self._interrupted else None
        return PlanState.DONE, None

    def _result(
        self, play: Play, value: object, state: PlanState, error: BaseException | None
    ) -> RunEngineResult:
        return RunEngineResult(
            run_start_uids=tuple(self._run_start_uids),
            plan_result=value,
            exit_status="fail" if state is PlanState.FAILED else self._exit_status,
            interrupted=play.verb is not None or state is PlanState.ABORTED,
            reason="; ".join(filter(None, (self._reason, str(error or "")))),
            exception=error if isinstance(error, Exception) else None,
        )


_INTERRUPTIONS = (PlanStopped, PlanAborted, PlanHalted, PauseFailed)


def _failure_behind(broken: BaseException) -> BaseException:
    """Return what a plan had failed with before its tear-down was broken off."""
    behind = broken.__context__
    while isinstance(behind, asyncio.CancelledError):
        behind = behind.__context__
    return behind or RuntimeError("the plan has failed, and its tear-down was broken off")


def _as_generator(plan: Any) -> Any:
    try:
        return ensure_generator(plan)
    except TypeError as error:
        hint = "; call it to make the plan" if callable(plan) else ""
        text = f"found {plan!r}, expected a plan, that is an iterable of messages{hint}"
        raise TypeError(text) from error
