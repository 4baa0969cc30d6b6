"""The device classes that Milonga's server serves, each loaded once it is needed.

A server of leaves has no use for what a parent needs: records, plans and the libraries for them.
"""

import logging
from collections.abc import Iterable, Sequence
from importlib import import_module

import tango
from tango.server import Device

__all__ = ["CLASS_NAMES", "load_classes", "needed_classes"]

_log = logging.getLogger(__name__)

CLASS_NAMES = (
    "MilongaController",
    "MilongaSubarray",
    "LeafSimulator",
    "MotorSimulator",
    "DetectorSimulator",
)
"""Their names."""

_WITHOUT_DATABASE = ("-nodb", "-file=")


def load_classes(names: Iterable[str] = CLASS_NAMES) -> tuple[type[Device], ...]:
    """Return the classes of these names; others are not ours, and left out."""
    wanted, devices = set(names), import_module("milonga.devices")  # which loads each by its name
    return tuple(getattr(devices, name) for name in CLASS_NAMES if name in wanted)


def needed_classes(server: str, arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the names of those classes of which the server has devices.

    Parameters
    ----------
    server : str
        Name of the server.
    arguments : sequence of str
        Those of the command line: the instance, then Tango's options.

    Returns
    -------
    tuple of str
        Those that the Tango database lists for it; all if that cannot be asked, or lists nothing.
    """
    instance = next(iter(arguments), "-")
    if instance.startswith("-") or any(one.startswith(_WITHOUT_DATABASE) for one in arguments):
        return CLASS_NAMES
    try:
        found = tango.Database().get_server_class_list(f"{server}/{instance}")
    except tango.DevFailed as error:  # Tango itself waits for it, if it is told to, or says so
        _log.debug("%s/%s: all classes are loaded: %s", server, instance, error.args[0].desc)
        return CLASS_NAMES
    listed = {name.lower() for name in found}
    return tuple(name for name in CLASS_NAMES if name.lower() in listed) if listed else CLASS_NAMES
