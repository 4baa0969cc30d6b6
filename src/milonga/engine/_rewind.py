"""What is repeated when a plan goes on after a pause, and what must not be."""

# bluesky is annotated in parts only.
# mypy: disallow-untyped-calls=False

from collections.abc import Awaitable, Callable, Generator, Iterable
from functools import wraps
from typing import Any

from bluesky import run_engine as bluesky_engine
from bluesky.utils import Msg

from milonga.engine._play import Play
from milonga.engine._replay import KeptAnswers, ReplayCache, ReplaySlot

__all__ = ["RewindStage"]


class RewindStage(bluesky_engine.RunEngine):
    """A stage that keeps the messages since the last checkpoint, and repeats them."""

    rewind_limit: int = 10_000
    """Messages that are kept for a replay; after so many without one, a checkpoint is made."""

    _play: Play | None = None
    _broken_off: tuple[Msg, int] | None = None
    """The message that was broken off, and where in the stack the plan is that waits for it."""
    _answers: KeptAnswers
    _repeating: Msg | None = None
    """The message in work, if it comes for another time."""
    _unrepeatable = False
    """Whether a message is in work that is not repeated after a pause."""

    _msg_cache: Any = ReplaySlot()

    def _new_replay_cache(self, messages: Iterable[Msg]) -> ReplayCache:
        return ReplayCache(messages, self.rewind_limit, self._full)

    def _full(self) -> bool:
        """Make a checkpoint, unless an event is being put together."""
        if any(run.bundling for run in self._run_bundlers.values()):
            return False
        for run in self._run_bundlers.values():
            run.reset_checkpoint_state()
        return True

    def _rewind(self) -> Generator[Msg, Any, None]:
        messages = list(self._msg_cache or ())
        broken_off, place = self._broken_off or (None, 0)
        if broken_off is not None and not self._rewindable_flag:
            messages.append(broken_off)
        self._broken_off = None
        super()._rewind()
        self._answers.rewind()
        return self._repeat(messages, broken_off, place)

    def _repeat(
        self, messages: list[Msg], broken_off: Msg | None, place: int
    ) -> Generator[Msg, Any, None]:
        """Repeat messages; the answer to the one that was broken off is what its plan gets."""
        for message in messages:
            self._repeating = message
            try:
                answer = yield message
            finally:
                self._repeating = None
            if message is broken_off:
                self._response_stack[place] = answer

    async def _checkpoint(self, msg: Msg) -> None:
        """Make a checkpoint, and pause there if that was asked for; see the original.

        bluesky's engine waits for half a second before such a pause, as somebody may press Ctrl-C
        again, which nobody does here.
        """
        asked = self._deferred_pause_requested
        self._deferred_pause_requested = False
        try:
            await super()._checkpoint(msg)
        finally:
            self._deferred_pause_requested = asked
        if asked:
            await self._request_pause_coro()

    # Messages that are not repeated

    def _shield_what_cannot_be_repeated(self) -> None:
        """Have messages that bluesky does not repeat, such as ``open_run``, end before a pause.

        The plan would get no answer to them, or that of another message.
        """
        for name in self._UNCACHEABLE_COMMANDS:
            if name != "pause":
                self.register_command(name, self._unbroken(self._command_registry[name]))

    def _unbroken(self, command: Callable[[Msg], Awaitable[Any]]) -> Callable[[Msg], Any]:
        @wraps(command)
        async def work(msg: Msg) -> Any:
            self._unrepeatable = True
            try:
                return await command(msg)
            finally:
                self._unrepeatable = False
                self._let_pauses_go()

        return work

    def _let_pauses_go(self) -> None:
        if self._play is not None:
            held, self._play.held = self._play.held, []
            for pause in held:
                self.loop.call_soon(pause)  # when the answer has been put where the plan gets it
