"""A simulated detector: a plain Tango device that plans can trigger and read."""

import math
import random

import tango
from tango.server import AttrWriteType, Device, attribute, command, device_property

from milonga.lrc import Scheduler

__all__ = ["DetectorSimulator"]


class DetectorSimulator(Device):
    """Counts for an exposure when it is triggered; sees a peak along a motor's way, if it has one.

    State is RUNNING while it counts, ON at rest.
    """

    Motor = device_property(
        dtype=str, default_value="", doc="Device whose position the counts depend on."
    )
    Centre = device_property(dtype=float, default_value=0.0, doc="Position of the peak.")
    Width = device_property(dtype=float, default_value=1.0, doc="Standard deviation of the peak.")
    Height = device_property(dtype=float, default_value=1000.0, doc="Counts a second at most.")
    Noise = device_property(dtype=float, default_value=0.01, doc="Part of the counts that varies.")
    Exposure = device_property(dtype=float, default_value=0.01, doc="Seconds that it counts.")

    def init_device(self) -> None:
        """Start at rest."""
        super().init_device()
        self._exposure = self.Exposure
        self._counts = 0.0
        self._chance = random.Random(self.get_name())  # noqa: S311 - noise of a simulation
        self._motor: tango.DeviceProxy | None = None
        self._scheduler = Scheduler(f"milonga {self.get_name()}", tango.EnsureOmniThread)
        for name in ("counts", "State"):
            self.set_change_event(name, True, False)
        self.set_state(tango.DevState.ON)

    def delete_device(self) -> None:
        """Stop."""
        self._scheduler.close()
        super().delete_device()

    @attribute(dtype=float, unit="counts")
    def counts(self) -> float:
        """What was counted in the last exposure."""
        return self._counts

    @attribute(dtype=float, access=AttrWriteType.READ_WRITE, unit="s")
    def exposure(self) -> float:
        """How long it counts."""
        return self._exposure

    @exposure.write
    def exposure(self, seconds: float) -> None:
        if not 0 < seconds <= 3600:  # noqa: PLR2004 - an hour
            tango.Except.throw_exception(
                "DetectorExposure", f"exposure: found {seconds}; expected 0 to 3600", "exposure"
            )
        self._exposure = seconds

    @command
    def Start(self) -> None:
        """Begin to count; the work is over when State is ON again."""
        self._take_state(tango.DevState.RUNNING)
        self._scheduler.call_later(self._exposure, self._end)

    @command
    def Stop(self) -> None:
        """End the exposure now."""
        self._take_state(tango.DevState.ON)

    def is_Start_allowed(self) -> bool:
        """Tell whether it is at rest."""
        return bool(self.get_state() is tango.DevState.ON)

    def _end(self) -> None:
        counts = self._look()
        with tango.AutoTangoMonitor(self):
            if self.get_state() is tango.DevState.RUNNING:
                self._counts = counts
                self.push_change_event("counts", counts)
                self._take_state(tango.DevState.ON)

    def _look(self) -> float:
        """Count; on the scheduler's thread, because the motor may be slow to answer."""
        offset = 0.0
        if self.Motor:
            try:
                if self._motor is None:
                    self._motor = tango.DeviceProxy(self.Motor)
                offset = (self._motor.read_attribute("position").value - self.Centre) / self.Width
            except tango.DevFailed:
                return 0.0  # nothing to see
        ideal = self.Height * self._exposure * math.exp(-0.5 * offset * offset)
        return max(0.0, ideal * (1.0 + self._chance.gauss(0.0, self.Noise)))

    def _take_state(self, state: tango.DevState) -> None:
        self.set_state(state)
        self.push_change_event("State", state)
