"""Running servers of devices that are not Milonga's, without a database."""

import signal
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import tango

from milonga.deploy import Process

from ..free_ports import free_port

SERVER = Path(__file__).with_name("foreign_server.py")


class ForeignServer:
    """One server process with one device of each class, on a port of its own."""

    def __init__(self, folder: Path, name: str, classes: tuple[str, ...]) -> None:
        self._folder = folder
        self.name = name
        self.classes = classes
        self.port = free_port()
        self.process = self._process()

    def trl(self, class_name: str) -> str:
        """Return the resource locator of the device of a class."""
        return f"tango://127.0.0.1:{self.port}/{self.name}/{class_name.lower()}/1#dbase=no"

    def start(self) -> None:
        """Start, or start again after the process has ended, and wait until all answer."""
        if self.process.pid is not None:
            self.process = self._process()
        self.process.start()
        end = time.monotonic() + 30.0
        for name in self.classes:
            while not self._answers(name):
                assert self.process.running, self.process.ended()
                assert time.monotonic() < end, self.process.tail()
                time.sleep(0.05)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.signal(signal.SIGKILL)  # nothing of it is to be kept
        assert self.process.wait(5.0)

    def _process(self) -> Process:
        devices = [f"{self.name}/{name.lower()}/1" for name in self.classes]
        listed = ",".join(
            f"{name}::{device}" for name, device in zip(self.classes, devices, strict=True)
        )
        command = [
            *(sys.executable, str(SERVER), self.name, "-nodb", "-dlist", listed),
            *("-ORBendPoint", f"giop:tcp:127.0.0.1:{self.port}"),
        ]
        return Process(self.name, command, self._folder / f"{self.name}.log")

    def _answers(self, class_name: str) -> bool:
        try:
            tango.DeviceProxy(self.trl(class_name)).ping()
        except tango.DevFailed:
            return False
        return True
