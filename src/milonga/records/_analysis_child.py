"""The process of an analysis: run as a script, with the number of its socket as argument.

It loads only the standard library and, after it knows what to run, the module of the analysis; so
it is there within the time that Python takes to start. The analysis is a callable::

    def find_peaks(call, *, threshold: float) -> dict: ...

whose first argument has ``progress(percent)``, ``log(text)``, ``result(value)``, ``attach(…)``,
``link(…)``, the event ``cancelled`` and the name ``uid``. What it returns is the payload of the
result.
"""

import base64
import importlib
import importlib.util
import json
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any


def _load_frames() -> ModuleType:
    """Load the neighbour without its package, which would load SQLAlchemy."""
    path = Path(__file__).with_name("_frames.py")
    spec = importlib.util.spec_from_file_location("milonga_frames", path)
    assert spec is not None  # noqa: S101 - the file is there
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class Call:
    """What an analysis is told, and what it can say.

    Parameters
    ----------
    channel : socket
        To whoever has started the process.
    uid : str
        Name of the task.
    frames : module
        How messages are framed.
    """

    def __init__(self, channel: socket.socket, uid: str, frames: ModuleType) -> None:
        self.uid = uid
        self.cancelled = threading.Event()
        self._channel = channel
        self._frames = frames
        self._lock = threading.Lock()
        self._last_progress: float | None = None

    def progress(self, percent: float) -> None:
        """Say how far the analysis is, from 0 to 100."""
        if percent != self._last_progress:
            self._last_progress = percent
            self.send("TASK_PROGRESS", float(percent))

    def log(self, text: str) -> None:
        """Say something for the log."""
        self.send("TASK_LOG", str(text))

    def result(self, payload: Any = None, summary: Any = "", *, schemas: str | None = None) -> None:
        """Give a result, in place of the one before; the last one counts."""
        contents = {"payload": _words(payload), "summary": _words(summary), "schemas": schemas}
        self.send("TASK_RESULT", contents)

    def attach(
        self,
        name: str,
        data: bytes | str | Path,
        mimetype: str = "application/octet-stream",
        kind: str = "analysis",
    ) -> None:
        """Attach a file: bytes, a text, or the path of a file that stays until the end."""
        contents: dict[str, Any] = {"name": name, "mimetype": mimetype, "kind": kind}
        if isinstance(data, Path):
            contents["path"] = str(data.absolute())
        else:
            plain = data.encode() if isinstance(data, str) else bytes(data)
            contents["base64"] = base64.b64encode(plain).decode()
        self.send("TASK_FILE", contents)

    def link(self, kind: str, href: str) -> None:
        """Link to something that belongs to the result."""
        self.send("TASK_LINK", {"kind": kind, "href": href})

    def send(self, name: str, contents: Any = None) -> None:
        """Send a message."""
        data = self._frames.frame(self._frames.Message(name, contents))
        with self._lock:
            self._channel.sendall(data)


def _words(value: Any) -> Any:
    """Return a value in words of JSON; only strange ones need the package for that."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        text = ""
    if text and json.loads(text) == value and "$type" not in text:
        return value
    return importlib.import_module("milonga.records").encode(value)


def _listen(channel: socket.socket, reader: Any, call: Call) -> None:
    """Hear of a wish to cancel; when nobody is there to hear of the end, there need be none."""
    while data := channel.recv(65536):
        for message in reader.feed(data):
            if message.signal == "CANCEL":
                call.cancelled.set()
    call.cancelled.set()
    signal.raise_signal(signal.SIGTERM)


def _first(channel: socket.socket, reader: Any) -> Any:
    while True:
        data = channel.recv(65536)
        if not data:
            raise SystemExit(2)
        for message in reader.feed(data):
            return message


def main(number: int) -> int:
    """Run one analysis, and return the exit code of the process."""
    frames = _load_frames()
    channel = socket.socket(fileno=number)
    reader = frames.FrameReader()
    order = _first(channel, reader).contents
    call = Call(channel, order["uid"], frames)
    threading.Thread(target=_listen, args=(channel, reader, call), daemon=True).start()
    try:
        sys.path[:0] = order["path"]
        module, _, name = order["target"].partition(":")
        function = getattr(importlib.import_module(module), name)
        call.send("TASK_STARTED")
        payload = function(call, **order["parameters"])
        if payload is not None:
            call.result(payload)
        call.send("TASK_CANCELLED" if call.cancelled.is_set() else "TASK_DONE")
    except BaseException as error:  # noqa: BLE001 - all that ends an analysis is told
        texts = {"message": f"{type(error).__name__}: {error}", "error": traceback.format_exc()}
        call.send("TASK_CANCELLED" if call.cancelled.is_set() else "TASK_FAILED", texts)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
