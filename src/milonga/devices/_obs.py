"""A device that takes part in observations: its observing state and mode.

The interface is that of an SKAObsDevice (lrc-protocol b.3).
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from tango.server import attribute

from milonga.control_model import ObsMode, ObsState, ObsStateMachine
from milonga.devices._planning import PlanningParent
from milonga.errors import StateModelError

__all__ = ["MilongaObsDevice"]

_PUSHED = (
    "obsState",
    "commandedObsState",
    "obsMode",
    "configurationProgress",
    "configurationDelayExpected",
)


KEPT = "obsState"
"""The name under which the observing state is kept."""


class MilongaObsDevice(PlanningParent):
    """A device with an observing state."""

    def init_device(self) -> None:
        """Start anew, EMPTY."""
        self._obs_lock = threading.Lock()
        self._obs_news: list[ObsState] = []
        self.obs = ObsStateMachine(self._obs_news.append)
        self._commanded_obs_state = ObsState.EMPTY
        self._obs_mode = ObsMode.IDLE
        self._configuration_progress = 0
        self._configuration_delay = 0
        super().init_device()
        self.announce(*_PUSHED)

    def move_obs(self, move: Callable[[], object]) -> None:
        """Make moves of `obs`, alone, then push what they changed, in order."""
        with self._obs_lock:
            try:
                move()
            finally:
                pushes = [self.numbered("obsState", state) for state in self._obs_news]
                if self._obs_news:
                    self.keep(**_kept(self.obs))
                self._obs_news.clear()
        self.put(pushes)

    def keep_end(self, move: Callable[[ObsStateMachine], object]) -> None:
        """Keep the observing state to which a command's end leads, before that end is kept.

        Otherwise a crash between the two would leave the outcome without its effect.
        """
        with self._obs_lock:
            ahead = ObsStateMachine(lambda _: None)
            ahead.restore(self.obs.internal, self.obs.origin)
            with suppress(StateModelError):  # the end itself will tell
                move(ahead)
            self.keep(**_kept(ahead))

    def take_back(self, kept: Mapping[str, Any], *, goes_on: bool) -> None:
        """Go to the observing state of before a crash; to FAULT if nobody leads on from there."""
        super().take_back(kept, goes_on=goes_on)
        before = kept.get(KEPT)
        if not isinstance(before, dict):
            return

        def move() -> None:
            self.obs.restore(str(before.get("state")), str(before.get("origin")))
            if self.obs.is_moving and not goes_on:
                self.obs.perform("component_obsfault")

        self.move_obs(move)

    def try_obs(self, action: str) -> None:
        """Make the move that `action` means, where there is one."""
        self.move_obs(lambda: self.obs.perform_if_possible(action))

    def command_obs_state(self, state: ObsState) -> None:
        """Tell where the started command leads to."""
        self._commanded_obs_state = state
        self.publish("commandedObsState", state)

    def show_configuration(self, progress: int) -> None:
        """Tell how far the configuration is, in percent."""
        self._configuration_progress = max(0, min(100, progress))
        self.publish("configurationProgress", self._configuration_progress)

    @attribute(dtype=ObsState)
    def obsState(self) -> ObsState:
        """How far the observation is."""
        return self.obs.state

    @attribute(dtype=ObsState)
    def commandedObsState(self) -> ObsState:
        """The obsState that the last started command leads to."""
        return self._commanded_obs_state

    @attribute(dtype=ObsMode)
    def obsMode(self) -> ObsMode:
        """What kind of observation this is."""
        return self._obs_mode

    @attribute(dtype="DevUShort", unit="%", min_value=0, max_value=100)
    def configurationProgress(self) -> int:
        """How far the configuration is."""
        return self._configuration_progress

    @attribute(dtype="DevUShort", unit="seconds")
    def configurationDelayExpected(self) -> int:
        """How long the configuration is going to take."""
        return self._configuration_delay


def _kept(obs: ObsStateMachine) -> dict[str, dict[str, str]]:
    return {KEPT: {"state": obs.internal, "origin": obs.origin}}
