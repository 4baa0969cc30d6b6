"""What is done when a plan is over: devices come to rest, and runs are closed."""

# bluesky is annotated in parts only.
# mypy: disallow-untyped-calls=False

import asyncio
import logging

from bluesky.protocols import Stoppable
from bluesky.utils import Msg, maybe_await

from milonga.engine._control import ControlStage

__all__ = ["TearDownStage"]

_logger = logging.getLogger("milonga.engine")


class TearDownStage(ControlStage):
    """A stage on which a device that hangs keeps no other from being brought to rest."""

    async def _stop_movable_objects(self, *, success: bool = True) -> None:
        """Stop what was moved, in the tear-down and for a pause.

        One after the other, as bluesky does it, a device that does not answer would keep those
        behind it moving.
        """
        play = self._play
        told_to_end = play is not None and play.verb is not None
        if play is not None and told_to_end and self._is_over():
            self._halt_later(play, self.halt_after, self._reason)
        moved = [obj for obj in self._movable_objs_touched if isinstance(obj, Stoppable)]
        if moved:
            await asyncio.gather(*(self._stop_one(obj, success) for obj in moved))

    async def _stop_one(self, obj: Stoppable, success: bool) -> None:
        try:
            await maybe_await(obj.stop(success=success))
        except Exception:
            self.log.exception("Failed to stop %r.", obj)

    async def _tidy(self) -> None:
        """Do what bluesky's engine leaves undone when its own tear-down is broken off."""
        if self._state == "idle":
            return
        try:
            await self._close_runs()
        finally:
            self._unstage_all()
            self._run_bundlers.clear()
            if self._state == "suspending":
                self._move_to("running")
            self._move_to("idle")

    async def _close_runs(self) -> None:
        for key, run in tuple(self._run_bundlers.items()):
            if run.run_is_open:
                words = {"exit_status": self._exit_status, "reason": self._reason, "run_id": key}
                try:
                    await run.close_run(Msg("close_run", **words))
                except Exception:
                    _logger.exception("run %r could not be closed", key)

    def _unstage_all(self) -> None:
        for obj in tuple(self._staged):
            self.guarded(obj.unstage)
        self._staged.clear()
