"""A device server that is small enough to be certain of: it stands in for Milonga's own."""

import os
import signal
import sys

from tango.server import Device, command, device_property, run


class Tiny(Device):
    """Starts, answers, or fails to do so as its property `Behaviour` says."""

    Behaviour = device_property(dtype=str, default_value="good")

    def init_device(self) -> None:
        """Start in the way that was asked for."""
        super().init_device()
        if self.Behaviour == "exits":
            sys.stderr.write("tiny server: I will not start\n")
            sys.stderr.flush()
            os._exit(3)
        if self.Behaviour == "hangs":
            while True:
                signal.pause()
        if self.Behaviour == "deaf":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @command(dtype_out=int)
    def Pid(self) -> int:  # noqa: N802 - Tango's style
        """Tell the process id."""
        return os.getpid()


if __name__ == "__main__":
    run([Tiny])
