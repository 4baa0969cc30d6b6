"""The Tango devices: controller, subarray and simulated leaf, and the server that runs them."""

import logging
import sys
from collections.abc import Sequence

from tango.server import run

from milonga.devices._arguments import parse_argument
from milonga.devices._base import MilongaDevice
from milonga.devices._controller import MilongaController
from milonga.devices._detector import DetectorSimulator
from milonga.devices._health import HealthBoard
from milonga.devices._leaf import LeafSimulator
from milonga.devices._logging import SkaFormatter
from milonga.devices._motor import MotorSimulator
from milonga.devices._parent import MilongaParent
from milonga.devices._script import parse_script
from milonga.devices._subarray import MilongaSubarray

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
    "main",
    "parse_argument",
    "parse_script",
]

DEVICE_CLASSES = (
    MilongaController,
    MilongaSubarray,
    LeafSimulator,
    MotorSimulator,
    DetectorSimulator,
)
"""The classes that the server ``milonga-server`` serves."""

SERVER_NAME = "milonga-server"
"""Name of the Tango server; an instance name follows it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the device server; the arguments are Tango's, the first is the instance name."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(SkaFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    run(DEVICE_CLASSES, args=[SERVER_NAME, *(sys.argv[1:] if arguments is None else arguments)])
