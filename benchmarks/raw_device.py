"""The floor: the least that Tango itself needs for a command and the event that answers it.

``python -m benchmarks.raw_device INSTANCE …`` serves `RawLeaf`, which pushes an event from its
command, and `RawParent`, which first sends its command to children and waits for their events.
"""

import os
import threading

import tango
from tango.server import Device, attribute, command, run

CHILDREN = os.environ.get("RAW_CHILDREN", "").split()


def text_argument(text: str) -> tango.DeviceData:
    """Put a text into Tango's form, which saves a query at each call."""
    data = tango.DeviceData()
    data.insert(tango.CmdArgType.DevString, text)
    return data


class RawLeaf(Device):
    """Answers a command with an event at once."""

    def init_device(self) -> None:
        """Arm the event."""
        super().init_device()
        self.set_change_event("answer", True, False)

    @attribute(dtype=(str,), max_dim_x=2)
    def answer(self) -> tuple[str, ...]:
        """The event."""
        return ()

    @command(dtype_in=str, dtype_out="DevVarLongStringArray")
    def Go(self, text: str) -> tuple[list[int], list[str]]:
        """Push the event."""
        self.push_change_event("answer", (text, "done"))
        return [2], [text]


class RawParent(Device):
    """Sends its command to its children and pushes an event when all of theirs have come."""

    def init_device(self) -> None:
        """Subscribe to the children."""
        super().init_device()
        self.set_change_event("answer", True, False)
        self._left = 0
        self._text = ""
        self._lock = threading.Lock()
        self._children = [tango.DeviceProxy(trl) for trl in CHILDREN]
        self._subscribed = False

    @attribute(dtype=(str,), max_dim_x=2)
    def answer(self) -> tuple[str, ...]:
        """The event."""
        return ()

    @command
    def Connect(self) -> None:
        """Subscribe to the children's events."""
        for child in self._children:
            child.subscribe_event("answer", tango.EventType.CHANGE_EVENT, self._heard)

    @command(dtype_in=str, dtype_out="DevVarLongStringArray")
    def Go(self, text: str) -> tuple[list[int], list[str]]:
        """Send the command to the children."""
        self._text, self._left = text, len(self._children)
        data = text_argument(text)
        for child in self._children:
            child.command_inout("Go", data)
        return [2], [text]

    def _heard(self, event: tango.EventData) -> None:
        if event.err or not event.attr_value.value or event.attr_value.value[0] != self._text:
            return
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self.push_change_event("answer", (self._text, "done"))


if __name__ == "__main__":
    run((RawLeaf, RawParent))
