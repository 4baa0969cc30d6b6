"""The attributes of the long-running-command protocol on a device.

Dimensions follow lrc-protocol b.1. In Tango they belong to the class within a process, so all
devices of one class and process get those of the one with the longest queue.
"""

from collections.abc import Callable

from tango.server import Device, attribute

from milonga.lrc import FINISHED_KEPT

__all__ = ["add_table_attributes", "capacity"]


def capacity(max_queued: int, max_executing: int) -> int:
    """Return how many commands the tables of a device can list.

    Examples
    --------
    >>> capacity(32, 2), capacity(0, 2)
    (66, 32)
    """
    return max(2 * max_queued + max(max_executing, 2), 32)


def _dimensions(size: int, executing: int) -> dict[str, int]:
    return {
        "lrcQueue": size,
        "lrcExecuting": executing + 1,
        "lrcFinished": FINISHED_KEPT,
        "longRunningCommandsInQueue": size,
        "longRunningCommandIDsInQueue": size,
        "longRunningCommandStatus": 2 * size,
        "longRunningCommandInProgress": executing,
        "longRunningCommandProgress": 2 * max(executing, 2),
    }


def add_table_attributes(
    device: Device, read: Callable[[str], tuple[str, ...]], size: int, executing: int
) -> None:
    """Add to `device` the attributes that list commands, with change and archive events.

    Parameters
    ----------
    device : tango.server.Device
        Gets the attributes.
    read : callable
        Returns the value of an attribute, by name.
    size, executing : int
        How many commands they list, and how many run at the most.
    """

    def fget(_device: Device, attr: object) -> tuple[str, ...]:
        return read(attr.get_name())  # type: ignore[attr-defined]

    for name, length in _dimensions(size, executing).items():
        device.add_attribute(
            attribute(name=name, dtype=(str,), max_dim_x=length, fget=fget, doc=_DOCS[name])
        )
        device.set_change_event(name, True, False)
        device.set_archive_event(name, True, False)


_DOCS = {
    "lrcQueue": "Commands that wait: JSON objects, the oldest first.",
    "lrcExecuting": "Commands that run: JSON objects, in order of start.",
    "lrcFinished": "Commands that have ended: JSON objects, the newest last.",
    "longRunningCommandsInQueue": "Deprecated: names of commands.",
    "longRunningCommandIDsInQueue": "Deprecated: ids of commands.",
    "longRunningCommandStatus": "Deprecated: ids and status names in turn.",
    "longRunningCommandInProgress": "Deprecated: names of running commands.",
    "longRunningCommandProgress": "Deprecated: ids and progress in turn.",
}
