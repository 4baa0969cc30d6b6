"""Finds a command at a device that may have it already, and does not send it again.

An earlier process had begun it, or the device has not answered the call in time.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ProtocolError, Unreachable
from milonga.lrc._invocation import Invocation
from milonga.lrc._reply import describe
from milonga.lrc._traces import Trace, find_traces, tells_all_since

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["Resumption"]

_log = logging.getLogger(__name__)

RECORDS = "recordStore"
"""An attribute of devices that take up their commands after a restart."""


class Resumption:
    """The search for one command at one device.

    Parameters
    ----------
    link : Link
        The connection to the device.
    invocation : Invocation
        Told what becomes of the command: its real outcome; ABORTED if the device certainly never
        got it; and FAILED with `ResultCode.UNKNOWN` if nobody can know.
    command_id : str or None
        The id that the device gave, if that is known.
    trace : Trace
        What to look for if it is not.
    claim : callable
        Called with an id that was found; tells whether nobody else has it.
    unanswered : str, optional
        What was said of the call, if it was this process's own. The device may then take the
        command any moment, so that it is looked for again for as long as `PATIENCE`.
    """

    PATIENCE = 10.0
    """Seconds that a device has to answer: it may be starting as well."""

    RETRY = 0.5
    """Seconds between two tries to reach it."""

    RETURN = 5.0
    """Seconds that a device has to take up its own commands, if it keeps records and started
    anew."""

    def __init__(
        self,
        link: "Link",
        invocation: Invocation,
        command_id: str | None,
        trace: Trace,
        claim: Callable[[str], bool],
        unanswered: str = "",
    ) -> None:
        self._link = link
        self._invocation = invocation
        self._command_id = command_id
        self._trace = trace
        self._claim = claim
        self._unanswered = unanswered
        self._began = time.monotonic()

    def begin(self) -> None:
        """Look for the command on a thread that may wait; returns at once."""
        if self._link.network.run(self._look) is None:
            self._invocation.shut_out()

    def _look(self) -> None:
        if self._invocation.is_closed and not self._invocation.wants_abort:
            return  # else it is still to be found, and ended
        try:
            proxy = self._link.lrc.connect()
            command_id = self._command_id or self._found(proxy)
        except (Unreachable, tango.DevFailed) as error:
            reason = describe(error) if isinstance(error, tango.DevFailed) else str(error)
            self._try_later("no answer", f": {reason}")
        except ProtocolError:
            self._lose("the device gives commands no ids to ask for")
        except Exception as error:  # noqa: BLE001 - who waits for it must not wait for ever
            _log.exception("%s: the search for a command failed", self._link.name)
            self._lose(f"the search for it failed: {type(error).__name__}: {error}")
        else:
            if command_id is not None:
                self._link.lrc.resume_following(self._invocation, command_id)

    def _found(self, proxy: tango.DeviceProxy) -> str | None:
        """Return the id of the command; tell its outcome if there is none."""
        attributes = self._link.attributes()
        seen = find_traces(proxy, attributes, self._trace)
        free = [uid for uid in dict.fromkeys(seen) if self._claim(uid)]
        if len(free) == 1:
            return free[0]
        if free:
            self._lose(f"any of {len(free)} commands at the device may be it: {', '.join(free)}")
        elif self._unanswered:
            self._try_later("the device shows no such command")
        elif tells_all_since(proxy, attributes, self._trace.since):
            text = f"{self._link.name}: {self._trace.command} was not sent before the restart"
            self._invocation.update(TaskStatus.ABORTED, result=(ResultCode.ABORTED, text))
        elif RECORDS in attributes and time.monotonic() - self._began < self.RETURN:
            self._link.network.call_later(self.RETRY, self.begin)
        else:
            self._lose("the device shows no such command, which it may have forgotten")
        return None

    def _try_later(self, what: str, reason: str = "") -> None:
        seconds = time.monotonic() - self._began
        if seconds < self.PATIENCE:
            self._link.network.call_later(self.RETRY, self.begin)
            return
        self._lose(f"{what} for {seconds:.0f} s{reason}")

    def _lose(self, why: str) -> None:
        if self._unanswered:
            why = f"{self._unanswered}; {why}"
        self._invocation.lost(f"{self._link.name}: {self._trace.command} is lost: {why}")
