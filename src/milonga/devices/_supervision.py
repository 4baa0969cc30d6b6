"""Watches over the children: from what is seen of them to the parent's state and health.

Sightings come from event threads, many at a time; they are judged together, a moment later, on the
device's own thread, and only what has changed is told.
"""

import threading
import time
from collections.abc import Callable, Mapping

from milonga.control_model import HealthState
from milonga.devices._health import HealthBoard
from milonga.lrc import Scheduler, Sighting, Timer
from milonga.tasks import ChildSpec

__all__ = ["Supervision"]

_ORDER = ("OFF", "STANDBY", "ON")
_NOT_YET = frozenset({"UNKNOWN", "INIT", ""})


class Supervision:
    """Judges what is seen of the children. Safe across threads.

    Parameters
    ----------
    board : HealthBoard
        Keeps the causes of bad health.
    scheduler : Scheduler
        Where verdicts are made.
    on_state : callable
        Called once after each `begin`, with the name of the state that the children are in.
    on_health : callable
        Called with health and causes when either has changed.
    """

    DEBOUNCE = 0.2
    """Seconds for which sightings are gathered before they are judged."""

    PATIENCE = 3.0
    """Seconds to wait for children that do not answer before those that do are enough."""

    def __init__(
        self,
        board: HealthBoard,
        scheduler: Scheduler,
        on_state: Callable[[str], None],
        on_health: Callable[[HealthState, Mapping[str, list[str]]], None],
    ) -> None:
        self.board = board
        self._scheduler = scheduler
        self._on_state = on_state
        self._on_health = on_health
        self._lock = threading.Lock()
        self._timer: Timer | None = None
        self._states: dict[str, str | None] = {}
        self._began: float | None = None
        self._told: tuple[HealthState, Mapping[str, list[str]]] | None = None

    def begin(self, children: tuple[ChildSpec, ...]) -> None:
        """Find out the children's state anew."""
        with self._lock:
            self._states = dict.fromkeys((child.trl for child in children), "")
            self._began = time.monotonic()
        self.judge_soon()

    def end(self) -> None:
        """Judge no more."""
        with self._lock:
            self._began = None
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def saw(self, spec: ChildSpec, sighting: Sighting) -> None:
        """Take a sighting of a child's State or healthState; quick, never raises."""
        if sighting.attribute == "State":
            with self._lock:
                if spec.trl in self._states:
                    self._states[spec.trl] = str(sighting.value) if sighting.connected else None
            self.board.note_connection(
                spec.trl, None if sighting.connected else sighting.reason or "no answer"
            )
            self.board.note_state(spec.trl, str(sighting.value) if sighting.connected else None)
        else:
            health = HealthState.__members__.get(str(sighting.value))
            self.board.note_health(spec.trl, health)
        self.judge_soon()

    def judge_soon(self) -> None:
        """Make a verdict in a moment, unless one is due already."""
        with self._lock:
            if self._timer is None:
                self._timer = self._scheduler.call_later(self.DEBOUNCE, self._judge)

    def _judge(self) -> None:
        with self._lock:
            self._timer = None
            state = self._state_of_children()
            if state is not None:
                self._began = None
            waiting = self._began is not None
            too_early = waiting and not self._is_impatient()
        if state is not None:
            self._on_state(state)
        verdict = self.board.verdict()
        if verdict != self._told and not too_early:  # nobody is missed before all were asked
            self._told = verdict
            self._on_health(*verdict)
        if waiting:
            self.judge_soon()

    def _state_of_children(self) -> str | None:
        """Return the state to start from; None if it is told already, or not known yet."""
        if self._began is None:
            return None
        known = [state for state in self._states.values() if state and state not in _NOT_YET]
        if len(known) < len(self._states) and not (known and self._is_impatient()):
            return None
        powers = [state for state in known if state in _ORDER]
        # The least that all have: so that the command that is lacking is not refused.
        return min(powers, key=_ORDER.index, default="OFF")

    def _is_impatient(self) -> bool:
        return self._began is not None and time.monotonic() - self._began > self.PATIENCE
