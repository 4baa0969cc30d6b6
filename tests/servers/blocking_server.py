"""A device server whose leaf can be made to do what no device may: block its own thread.

And whose subarray has a method that takes its time as a step of a command, which it may.
"""

import logging
import sys
import threading
from collections.abc import Mapping

from tango.server import command, run

from milonga.control_model import ResultCode
from milonga.devices import LeafSimulator, MilongaSubarray
from milonga.monitoring import serve_if_wanted
from milonga.tasks import InternalCall, InternalMethod


class BlockingLeaf(LeafSimulator):
    """Does as its script says, unless it is blocked."""

    def init_device(self) -> None:
        """Start unblocked."""
        self._free = threading.Event()
        super().init_device()

    @command
    def Block(self) -> None:  # noqa: N802 - Tango's style
        """Block the thread that starts and ends commands."""
        self._free.clear()
        self.scheduler.call_soon(lambda: self._free.wait(60.0) and None)

    @command
    def Free(self) -> None:  # noqa: N802 - Tango's style
        """Let it go on."""
        self._free.set()


class ThinkingSubarray(MilongaSubarray):
    """Has a method that returns when it is told to, and not when it is aborted."""

    def set_up(self) -> None:
        """Begin with nothing to think about."""
        self._thought = threading.Event()
        super().set_up()

    def internal_methods(self) -> Mapping[str, InternalMethod]:
        """Return the methods."""
        return {"think": self._think, "hide": lambda _call: (ResultCode.OK, "hidden")}

    @command
    def Answer(self) -> None:  # noqa: N802 - Tango's style
        """Let the method return, now and from now on."""
        self._thought.set()

    def _think(self, _call: InternalCall) -> tuple[ResultCode, str]:
        self._thought.wait(60.0)
        return ResultCode.OK, "42"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    serve_if_wanted()
    run((BlockingLeaf, ThinkingSubarray), args=["blocking-server", *sys.argv[1:]])
