"""Devices that were written without Milonga, as others write them. No Milonga code here."""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable

import tango
from tango import DevState
from tango.server import Device, attribute, command, run

LRC_REPLY = "DevVarLongStringArray"


class Lamp(Device):
    """Commands return at once; State follows later."""

    delay = 0.3
    events = True
    start = DevState.OFF
    end: DevState | None = None

    def init_device(self) -> None:
        """Start in the wanted state."""
        super().init_device()
        self.calls = 0
        self.stop = threading.Event()
        self.set_state(self.start)
        self.set_change_event("State", self.events, False)

    def show(self, state: DevState) -> None:
        """Change State and tell."""
        self.set_state(state)
        if self.events:
            self.push_change_event("State")

    def move(self, state: DevState, via: DevState | None = None) -> None:
        """Change State later."""
        self.calls += 1

        def work() -> None:
            with tango.EnsureOmniThread():
                if via is not None:
                    self.show(via)
                if not self.stop.wait(self.delay):
                    self.show(self.end or state)

        threading.Thread(target=work, daemon=True).start()

    @command
    def On(self) -> None:  # noqa: N802
        """Switch on."""
        self.move(DevState.ON)

    @command
    def Off(self) -> None:  # noqa: N802
        """Switch off."""
        self.move(DevState.OFF)

    @command
    def Reset(self) -> None:  # noqa: N802
        """Leave FAULT, with FAULT shown once more on the way."""
        self.move(DevState.ON, via=DevState.FAULT)

    @command
    def Stop(self) -> None:  # noqa: N802
        """Stay where it is."""
        self.stop.set()

    @attribute(dtype=int)
    def calls_made(self) -> int:
        """How many commands have been called."""
        return self.calls


class SilentLamp(Lamp):
    """Sends no events."""

    events = False


class BrokenLamp(Lamp):
    """Goes to FAULT whatever it is told."""

    end = DevState.FAULT


class FaultyLamp(Lamp):
    """Is in FAULT, and can be reset."""

    start = DevState.FAULT


class SlowLamp(Lamp):
    """Never gets there while a test runs."""

    delay = 600.0


class Meter(Device):
    """Synchronous commands; no way to stop them, no events."""

    @command(dtype_in=float, dtype_out=str)
    def Measure(self, seconds: float) -> str:  # noqa: N802
        """Take so long."""
        time.sleep(seconds)
        return f"measured for {seconds:g} s"

    @command(dtype_in=(int,), dtype_out=int)
    def Sum(self, values: list[int]) -> int:  # noqa: N802
        """Add up."""
        return int(sum(values))

    @command(dtype_in=str, dtype_out=str)
    def Echo(self, text: str) -> str:  # noqa: N802
        """Give back."""
        return text

    @command
    def Fail(self) -> None:  # noqa: N802
        """Not work."""
        raise RuntimeError("the probe is wet")

    def is_Forbidden_allowed(self) -> bool:  # noqa: N802
        """Say no."""
        return False

    @command
    def Forbidden(self) -> None:  # noqa: N802
        """Never be called."""

    @command
    def Die(self) -> None:  # noqa: N802
        """End the process in mid-command."""
        os._exit(1)


class LegacyLrc(Device):
    """Long-running commands, protocol version 1 only, as people wrote them by hand."""

    def init_device(self) -> None:
        """Start with nothing."""
        super().init_device()
        self.pairs: dict[str, str] = {}
        self.progress: dict[str, str] = {}
        self.result = ("", "")
        self.aborting = threading.Event()
        self.set_state(DevState.ON)
        for name in ("Status", "Progress", "Result"):
            self.set_change_event(f"longRunningCommand{name}", True, False)

    @attribute(dtype=(str,), max_dim_x=64)
    def longRunningCommandStatus(self) -> list[str]:  # noqa: N802
        """Ids and statuses."""
        return [text for pair in self.pairs.items() for text in pair]

    @attribute(dtype=(str,), max_dim_x=64)
    def longRunningCommandProgress(self) -> list[str]:  # noqa: N802
        """Ids and progresses."""
        return [text for pair in self.progress.items() for text in pair]

    @attribute(dtype=(str,), max_dim_x=2)
    def longRunningCommandResult(self) -> tuple[str, str]:  # noqa: N802
        """Id and JSON of the last result."""
        return self.result

    def set_status(self, uid: str, status: str) -> None:
        """Change a status."""
        self.pairs[uid] = status
        self.push_change_event(
            "longRunningCommandStatus", [text for pair in self.pairs.items() for text in pair]
        )

    def work(self, uid: str, text: str) -> None:
        """Do what a command does; with the text "hold", until it is aborted."""
        with tango.EnsureOmniThread():
            self.set_status(uid, "IN_PROGRESS")
            for step in (33, 66):
                self.progress = {uid: str(step)}
                self.push_change_event("longRunningCommandProgress", [uid, str(step)])
                aborted = self.aborting.wait(30.0 if text == "hold" else 0.1)
            if aborted:
                time.sleep(0.3)  # its hardware stops in its own time
            code = 7 if aborted else 0
            self.result = (uid, json.dumps([code, text]))
            self.push_change_event("longRunningCommandResult", list(self.result))
            self.set_status(uid, "ABORTED" if aborted else "COMPLETED")
            self.aborting.clear()

    def accept(self, name: str, work: Callable[[str, str], None], text: str) -> tuple:
        """Begin a command, unless one is being aborted."""
        if self.aborting.is_set():
            return [5], ["Queue is being aborted"]
        uid = f"{time.time()}_1234_{name}"
        self.set_status(uid, "QUEUED")
        threading.Thread(target=work, args=(uid, text), daemon=True).start()
        return [2], [uid]

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def Configure(self, text: str) -> tuple:  # noqa: N802
        """Take a configuration."""
        return self.accept("Configure", self.work, text)

    @command(dtype_out=LRC_REPLY)
    def Refuse(self) -> tuple:  # noqa: N802
        """Take nothing."""
        return [5], ["not today"]

    @command(dtype_out=LRC_REPLY)
    def AbortCommands(self) -> tuple:  # noqa: N802
        """End what runs, if anything does: what comes later is not to be refused for it."""
        if {"QUEUED", "IN_PROGRESS"} & set(self.pairs.values()):
            self.aborting.set()
        return [2], ["Aborting commands"]

    @command(dtype_out=(str,))
    def Texts(self) -> list[str]:  # noqa: N802
        """Answer with two texts, as some do."""
        (code,), (uid,) = self.accept("Texts", self.work, "two texts")
        return [str(code), uid]

    @command(dtype_out=LRC_REPLY)
    def Odd(self) -> tuple:  # noqa: N802
        """Answer with what nobody understands."""
        return [2, 2, 2], ["?"]

    @command(dtype_out=str)
    def Version(self) -> str:  # noqa: N802
        """Be no long-running command at all."""
        return "1.2.3"


CLASSES = (Lamp, SilentLamp, BrokenLamp, FaultyLamp, SlowLamp, Meter, LegacyLrc)

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        run([device for device in CLASSES if f"{device.__name__}::" in " ".join(sys.argv)])
