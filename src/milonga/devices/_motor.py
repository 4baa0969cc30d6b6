"""A simulated motor: a plain Tango device that plans can move."""

import math
import time

import tango
from tango.server import AttrWriteType, Device, attribute, command, device_property

from milonga.lrc import Scheduler, Timer

__all__ = ["MotorSimulator"]


class MotorSimulator(Device):
    """Moves to a position at its velocity; State is MOVING meanwhile, ON at rest."""

    Velocity = device_property(dtype=float, default_value=10.0, doc="Units per second.")
    LowerLimit = device_property(dtype=float, default_value=-1000.0, doc="Lowest position.")
    UpperLimit = device_property(dtype=float, default_value=1000.0, doc="Highest position.")

    TICK = 0.05
    """Seconds between position events while it moves."""

    def init_device(self) -> None:
        """Start at rest, at zero."""
        super().init_device()
        self._velocity = self.Velocity
        self._from = self._to = 0.0
        self._started = time.monotonic()
        self._timer: Timer | None = None
        self._scheduler = Scheduler(f"milonga {self.get_name()}", tango.EnsureOmniThread)
        for name in ("position", "State"):
            self.set_change_event(name, True, False)
        self.set_state(tango.DevState.ON)
        self.set_status("The motor is at rest.")

    def delete_device(self) -> None:
        """Stop."""
        self._scheduler.close()
        super().delete_device()

    @attribute(dtype=float, access=AttrWriteType.READ_WRITE, unit="mm")
    def position(self) -> float:
        """Where the motor is; writing moves it there."""
        return self._now()

    @position.write
    def position(self, target: float) -> None:
        if not self.LowerLimit <= target <= self.UpperLimit:
            tango.Except.throw_exception(
                "MotorLimit",
                f"position: found {target}; expected {self.LowerLimit} to {self.UpperLimit}",
                "write_position",
            )
        self._from, self._to, self._started = self._now(), target, time.monotonic()
        self._take_state(tango.DevState.MOVING)
        self._schedule()

    @attribute(dtype=float, access=AttrWriteType.READ_WRITE, unit="mm/s")
    def velocity(self) -> float:
        """How fast the motor moves."""
        return self._velocity

    @velocity.write
    def velocity(self, velocity: float) -> None:
        if not (velocity > 0 and math.isfinite(velocity)):
            tango.Except.throw_exception(
                "MotorVelocity", f"velocity: found {velocity}; expected > 0", "write_velocity"
            )
        self._velocity = velocity

    @command
    def Stop(self) -> None:
        """Stop where it is."""
        self._from = self._to = self._now()
        self._arrive()

    def _now(self) -> float:
        distance = self._to - self._from
        done = self._velocity * (time.monotonic() - self._started)
        if done >= abs(distance):
            return self._to
        return self._from + math.copysign(done, distance)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = abs(self._to - self._now()) / self._velocity
        self._timer = self._scheduler.call_later(min(self.TICK, left), self._tick)

    def _tick(self) -> None:
        # On the scheduler's thread, while a client may write: the device's monitor keeps them apart
        with tango.AutoTangoMonitor(self):
            if self._now() == self._to:
                self._arrive()
            else:
                self.push_change_event("position", self._now())
                self._schedule()

    def _arrive(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.push_change_event("position", self._now())
        self._take_state(tango.DevState.ON)

    def _take_state(self, state: tango.DevState) -> None:
        self.set_state(state)
        moving = state is tango.DevState.MOVING
        self.set_status("The motor moves." if moving else "The motor is at rest.")
        self.push_change_event("State", state)
