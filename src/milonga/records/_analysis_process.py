"""One analysis in a process of its own."""

import contextlib
import functools
import json
import logging
import math
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

from milonga.records._analysis import DescribedAnalysis, is_over
from milonga.records._analysis_loop import AnalysisLoop
from milonga.records._codec import Attachments, decode
from milonga.records._frames import BadFrame, FrameReader, Message, frame
from milonga.records._words import AnalysisStatus, situation_of_analysis

__all__ = ["Order", "RunningAnalysis"]

_logger = logging.getLogger(__name__)
_CHILD = Path(__file__).with_name("_analysis_child.py")

MAX_OUTPUT = 64 * 1024
"""Characters of standard output and error that are kept, the last ones."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process is to do.

    Parameters
    ----------
    target : str
        The callable, as ``module:name``.
    parameters : mapping
        Its keyword arguments, as JSON.
    environment : mapping
        All environment variables that it has.
    python_path : sequence of str
        Folders in which modules are looked for first.
    timeout : float or None
        Seconds that it may take.
    abort_grace, kill_grace : float
        Seconds between the wish to end, or a failure, and SIGTERM, and between that and SIGKILL.
    files : Attachments or None
        Where large results are.
    """

    target: str
    parameters: Mapping[str, Any]
    environment: Mapping[str, str]
    python_path: Sequence[str] = ()
    timeout: float | None = None
    abort_grace: float = 1.0
    kill_grace: float = 1.0
    files: Attachments | None = None


Tell = Callable[[str, Any], None]


class RunningAnalysis:
    """An analysis that runs; the work of a leaf.

    It ends when its process has ended, and not before: what is reported as over is over.

    Parameters
    ----------
    description : DescribedAnalysis
        The analysis, PENDING.
    order : Order
        What the process is to do.
    uid : str
        Name of the task.
    tell : callable
        Called with the name of an event and its contents, in the loop's thread.
    loop : AnalysisLoop
        Watches the process.
    """

    def __init__(
        self,
        description: DescribedAnalysis,
        order: Order,
        uid: str,
        tell: Tell,
        loop: AnalysisLoop,
    ) -> None:
        self.description = description
        self.message = ""
        self.error = ""
        self._order = order
        self._uid = uid
        self._tell = tell
        self._loop = loop
        self._reader = FrameReader()
        self._output = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._watch: int | None = None
        self._selector: selectors.BaseSelector | None = None
        self._wanted: AnalysisStatus | None = None
        self._dues: list[tuple[float, Callable[[], None]]] = []
        self._ends_at = math.inf
        self._ended = threading.Event()

    # From any thread

    @property
    def command_id(self) -> str | None:
        """The name under which the analysis is recorded."""
        return self._uid or None

    def abort(self) -> None:
        """Ask for the end of the analysis; return at once."""
        self._loop.call(self._cancel)

    def close(self) -> None:
        """Do nothing: it watches its process until that has ended, whoever listens."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, `timeout` seconds at most; return whether it has come."""
        return self._ended.wait(timeout)

    # From the loop

    @property
    def is_over(self) -> bool:
        """Whether the process has ended, and all that it said was heard."""
        return self._ended.is_set()

    def begin(self, selector: selectors.BaseSelector) -> None:
        """Start the process."""
        self._selector = selector
        try:
            self._spawn()
        except (OSError, ValueError, TypeError) as error:
            self._fail(f"cannot be started: {error}")
            self._conclude()
            return
        if self._order.timeout is not None:
            self._later(self._order.timeout, self._expire)

    def due(self) -> float | None:
        """Return when something is to be done."""
        return min((when for when, _ in self._dues), default=None)

    def look(self, now: float) -> None:
        """Do what time has made due."""
        ready = [action for when, action in self._dues if when <= now]
        self._dues = [one for one in self._dues if one[0] > now]
        for action in ready:
            if not self.is_over:
                action()

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._dues.append((time.monotonic() + seconds, action))

    # The process

    def _spawn(self) -> None:
        order = {
            "uid": self._uid,
            "target": self._order.target,
            "parameters": dict(self._order.parameters),
            "path": list(self._order.python_path),
        }
        request = frame(Message("RUN", order))
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    # -P: the folder of the script is no place to look for modules
                    [sys.executable, "-P", str(_CHILD), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=dict(self._order.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that what it starts ends with it
                )
            except BaseException:
                ours.close()
                raise
        self._channel = ours
        self._follow(self._process, ours)
        ours.sendall(request)
        ours.setblocking(False)

    def _follow(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        assert self._selector is not None  # noqa: S101 - set by begin
        self._watch = os.pidfd_open(process.pid)
        output = cast("IO[bytes]", process.stdout)
        os.set_blocking(output.fileno(), False)
        register = functools.partial(self._selector.register, events=selectors.EVENT_READ)
        register(channel, data=self._read_channel)
        register(output, data=self._read_output)
        register(self._watch, data=self._reap)

    def _read_channel(self) -> bool:
        """Take what has come; return False when nothing more will."""
        if self._channel is None:
            return False
        try:
            data = self._channel.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._unregister(self._channel)
            return False
        try:
            messages = self._reader.feed(data)
        except BadFrame as error:
            self._fail(f"broke its channel: {error}")
            self._unregister(self._channel)
            self._signal(signal.SIGKILL)
            return False
        for message in messages:
            self._hear(message)
        return True

    def _read_output(self) -> bool:
        """Take what was printed; return False when nothing more will come."""
        output = self._process.stdout if self._process else None
        if output is None:
            return False
        try:
            data = os.read(output.fileno(), 65536)
        except BlockingIOError:
            return False
        if not data:
            self._unregister(output)
            return False
        text = data.decode(errors="replace")
        self._output = (self._output + text)[-MAX_OUTPUT:]
        self._tell("TASK_LOG", text.rstrip("\n"))
        return True

    def _unregister(self, file: Any) -> None:
        if self._selector is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(file)

    def _reap(self) -> None:
        """Hear the last words of a process that has ended, and conclude."""
        assert self._process is not None  # noqa: S101 - it has been watched
        while self._read_channel():
            pass
        while self._read_output():
            pass
        self._signal(signal.SIGKILL)  # to what it started and left behind
        code = self._process.wait()
        if code != 0 and self._wanted is None:
            ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self._fail(f"ended with {ended}")
        self._conclude()

    def _conclude(self) -> None:
        self._release()
        self._move(self._wanted or AnalysisStatus.COMPLETED)
        try:
            self._tell(f"TASK_{_END_EVENTS[self.description.task_result.task_status]}", None)
        finally:
            self._ended.set()

    def _release(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._unregister(self._process.stdout)
            self._process.stdout.close()
        if self._channel is not None:
            self._unregister(self._channel)
            self._channel.close()
            self._channel = None
        if self._watch is not None:
            self._unregister(self._watch)
            os.close(self._watch)
            self._watch = None

    # What it says

    def _hear(self, message: Message) -> None:
        """Take a message by itself: what is wrong with one loses none that come after it."""
        try:
            self._heard(message)
        except Exception as error:
            _logger.exception("analysis %s: %s was not taken", self._uid, message.signal)
            if message.signal == "TASK_RESULT":  # without its result it cannot be OK
                self._fail(f"gave a result that cannot be read: {error}")

    def _heard(self, message: Message) -> None:
        contents = message.contents
        match message.signal:
            case "TASK_STARTED":
                self._move(AnalysisStatus.RUNNING)
                self._tell("TASK_STARTED", self.description.parameters())
            case "TASK_PROGRESS" | "TASK_LOG" | "TASK_FILE" | "TASK_LINK":
                self._tell(message.signal, contents)
            case "TASK_RESULT":
                self._take_result(contents)
            case "TASK_FAILED" if isinstance(contents, dict):
                self._fail(str(contents.get("message")), str(contents.get("error", "")))
            case "TASK_DONE" | "TASK_CANCELLED":
                pass  # the end of the process says so too, and cannot be sent too early
            case _:
                _logger.warning("analysis %s said %s", self._uid, message.signal)

    def _take_result(self, contents: Any) -> None:
        payload = decode(contents["payload"], self._order.files)
        summary = decode(contents["summary"], self._order.files)
        schemas = contents.get("schemas")
        result = self.description.task_result
        result = replace(
            result,
            payload=payload,
            summary=summary,
            impl_schemas=schemas if schemas is not None else result.impl_schemas,
        )
        self.description = replace(self.description, task_result=result)
        self._tell("TASK_RESULT", contents)

    # How it ends

    def _fail(self, message: str, error: str = "") -> None:
        """Note why it has failed; a process that would go on all the same is ended."""
        if self._wanted is None:
            self._wanted = AnalysisStatus.FAILED
            self.message, self.error = message, error or self._output
            self._end_process(self._order.abort_grace)

    def _cancel(self) -> None:
        if self.is_over:
            return
        if self._wanted is None:
            self._wanted, self.message = AnalysisStatus.CANCELLED, "aborted"
        self._end_process(self._order.abort_grace)

    def _expire(self) -> None:
        if self._wanted is None:
            self._wanted = AnalysisStatus.TIMEDOUT
            self.message = f"timed out after {self._order.timeout:.4g} s"
        self._end_process(0.0)

    def _end_process(self, grace: float) -> None:
        """Ask the process to end; later tell it, and at last make it. The first end counts."""
        ends_at = time.monotonic() + grace
        if ends_at >= self._ends_at:
            return
        self._ends_at = ends_at
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.send(frame(Message("CANCEL")))
        self._later(grace, functools.partial(self._signal, signal.SIGTERM))
        self._later(grace + self._order.kill_grace, functools.partial(self._signal, signal.SIGKILL))

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _move(self, status: AnalysisStatus) -> None:
        result = self.description.task_result
        if is_over(result.task_status):
            return
        if result.task_status is AnalysisStatus.PENDING and status in _AFTER_RUNNING:
            result = result.moved(AnalysisStatus.RUNNING)
        if result.task_status is not status:
            result = result.moved(status)
        self.description = replace(self.description, task_result=result)

    def outcome(self) -> dict[str, Any]:
        """Return the keywords of the last update of a leaf."""
        words = situation_of_analysis(self.description.task_result.task_status).words
        text = self.message or _short(self.description.task_result.summary) or "done"
        update: dict[str, Any] = {
            "status": words.task_status,
            "result": (words.result_code, text),
        }
        return update | ({"error": self.error} if self.error else {})


_AFTER_RUNNING = {AnalysisStatus.COMPLETED, AnalysisStatus.TIMEDOUT, AnalysisStatus.STOPPED}
_END_EVENTS = {
    AnalysisStatus.COMPLETED: "DONE",
    AnalysisStatus.FAILED: "FAILED",
    AnalysisStatus.CANCELLED: "CANCELLED",
    AnalysisStatus.TIMEDOUT: "TIMEDOUT",
}


def _short(summary: Any) -> str:
    if isinstance(summary, str):
        return summary
    return json.dumps(summary, default=str)[:1000] if summary else ""
