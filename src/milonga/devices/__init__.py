"""The Tango devices: controller, subarray and simulated leaf, and the server that runs them.

What is imported from here is loaded then, with what it needs and not more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tango.server import Device

    from milonga.devices._arguments import parse_argument
    from milonga.devices._base import MilongaDevice
    from milonga.devices._classes import load_classes, needed_classes
    from milonga.devices._controller import MilongaController
    from milonga.devices._detector import DetectorSimulator
    from milonga.devices._health import HealthBoard
    from milonga.devices._leaf import LeafSimulator
    from milonga.devices._motor import MotorSimulator
    from milonga.devices._parent import MilongaParent
    from milonga.devices._script import parse_script
    from milonga.devices._server import SERVER_NAME, main
    from milonga.devices._subarray import MilongaSubarray

    DEVICE_CLASSES: tuple[type[Device], ...]
    """The classes that the server ``milonga-server`` serves."""

__all__ = [
    "DEVICE_CLASSES",
    "SERVER_NAME",
    "DetectorSimulator",
    "HealthBoard",
    "LeafSimulator",
    "MilongaController",
    "MilongaDevice",
    "MilongaParent",
    "MilongaSubarray",
    "MotorSimulator",
    "load_classes",
    "main",
    "needed_classes",
    "parse_argument",
    "parse_script",
]

_MODULES = {
    "SERVER_NAME": "_server",
    "DetectorSimulator": "_detector",
    "HealthBoard": "_health",
    "LeafSimulator": "_leaf",
    "MilongaController": "_controller",
    "MilongaDevice": "_base",
    "MilongaParent": "_parent",
    "MilongaSubarray": "_subarray",
    "MotorSimulator": "_motor",
    "load_classes": "_classes",
    "main": "_server",
    "needed_classes": "_classes",
    "parse_argument": "_arguments",
    "parse_script": "_script",
}


def __getattr__(name: str) -> Any:
    if name == "DEVICE_CLASSES":
        from milonga.devices._classes import load_classes as load  # noqa: PLC0415 - loads Tango

        return load()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
