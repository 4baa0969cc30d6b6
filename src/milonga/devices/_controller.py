"""The device at the top of a tree."""

from milonga.devices._parent import MilongaParent

__all__ = ["MilongaController"]


class MilongaController(MilongaParent):
    """Commands subarrays and other devices: On, Off, Standby, Reset, Abort."""
