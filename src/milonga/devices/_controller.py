"""The device at the top of a tree.

The interface is that of an SKAController (lrc-protocol b.2, c).
"""

import tango
from tango.server import attribute, command, device_property

from milonga.devices._base import POWER_COMMANDS
from milonga.devices._planning import PlanningParent
from milonga.errors import StateModelError

__all__ = ["MilongaController"]

MAX_CAPABILITIES = 20


class MilongaController(PlanningParent):
    """Commands subarrays and other devices: On, Off, Standby, Reset, Abort."""

    submittable = (*POWER_COMMANDS, "RunPlan")

    MaxCapabilities = device_property(
        dtype=(str,), default_value=(), doc="Capabilities of the element, each as TYPE:N."
    )

    def set_up(self) -> None:
        """Read the capabilities."""
        self._capabilities: dict[str, int] = {}
        super().set_up()
        self._capabilities = dict(_capability(text) for text in self.MaxCapabilities if text)

    @attribute(dtype=str)
    def elementLoggerAddress(self) -> str:
        """Empty; kept for compatibility."""
        return ""

    @attribute(dtype=str)
    def elementAlarmAddress(self) -> str:
        """Empty; kept for compatibility."""
        return ""

    @attribute(dtype=str)
    def elementTelStateAddress(self) -> str:
        """Empty; kept for compatibility."""
        return ""

    @attribute(dtype=str)
    def elementDatabaseAddress(self) -> str:
        """Empty; kept for compatibility."""
        return ""

    @attribute(dtype=(str,), max_dim_x=MAX_CAPABILITIES)
    def maxCapabilities(self) -> tuple[str, ...]:
        """How many there are of each capability: ``TYPE:N``."""
        return self._listed()

    @attribute(dtype=(str,), max_dim_x=MAX_CAPABILITIES)
    def availableCapabilities(self) -> tuple[str, ...]:
        """How many of each capability are free: ``TYPE:N``."""
        return self._listed()

    @command(dtype_in="DevVarLongStringArray", dtype_out=bool)
    def IsCapabilityAchievable(self, wanted: tuple[list[int], list[str]]) -> bool:
        """Tell whether so many of these capabilities are free."""
        counts, types = wanted
        unknown = [name for name in types if name not in self._capabilities]
        if len(counts) != len(types) or unknown:
            tango.Except.throw_exception(
                "Command failed!",
                f"found {len(counts)} counts for types {list(types)}; expected as many, of types"
                f" {sorted(self._capabilities)}",
                "IsCapabilityAchievable",
            )
        return all(
            self._capabilities[name] >= count for count, name in zip(counts, types, strict=True)
        )

    def _listed(self) -> tuple[str, ...]:
        return tuple(f"{name}:{count}" for name, count in sorted(self._capabilities.items()))


def _capability(text: str) -> tuple[str, int]:
    name, _, count = text.rpartition(":")
    if not name or not count.isdigit():
        raise StateModelError(f"Property MaxCapabilities: found {text!r}; expected TYPE:N")
    return name, int(count)
