"""How a device is asked to end one command: by its id, or else by Abort if that is allowed."""

import logging
import threading
from typing import TYPE_CHECKING

import tango

from milonga.lrc._invocation import Invocation
from milonga.lrc._reply import answer_of
from milonga.lrc._requests import answer_in, ask_to_abort
from milonga.tracking import AbortAnswer

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["AbortLadder", "ends_all"]

_log = logging.getLogger(__name__)

ALL = "Abort"
ONE = "AbortCommand"


def ends_all(link: "Link", invocation: Invocation) -> bool:
    """Tell whether the wish that a command ends may end all that the device does."""
    known = link.commands()
    return ONE not in known or (invocation.abort_all and ALL in known)


class AbortLadder:
    """The wish that one command ends, from the gentle way to the rough one. Safe across threads.

    The second rung ends everything at the device, also what others have started there, so it is
    only climbed where the invocation says so.

    Parameters
    ----------
    link : Link
        The connection to the device.
    invocation : Invocation
        Told the answer.
    """

    PATIENCE = 2.5
    """Seconds after which there is no answer."""

    RUNG = 1.2
    """Seconds that the first rung has before the second is tried as well."""

    def __init__(self, link: "Link", invocation: Invocation) -> None:
        self._link = link
        self._invocation = invocation
        self._lock = threading.Lock()
        self._said: list[str] = []
        self._goes_on = ONE in link.commands() and ends_all(link, invocation)

    def climb(self) -> None:
        """Ask, once the command's id is known. Returns at once."""
        invocation = self._invocation
        asked = f" to {ONE} and {ALL}" if self._goes_on else ""
        self._link.answer_due(invocation, self.PATIENCE, asked)
        if invocation.command_id is None:
            return
        self._link.network.run_abort(self._ask_for_one)
        if self._goes_on:
            self._link.network.call_later(self.RUNG, self._go_on)

    def _ask_for_one(self) -> None:
        if self._invocation.is_done:
            self._invocation.abort_answered(AbortAnswer.ACK, "it had ended")
            return
        answer, text = ask_to_abort(self._link, self._invocation)
        again = answer in {AbortAnswer.REFUSED, AbortAnswer.NO_ANSWER}
        if again and self._goes_on:
            self._said.append(f"{ONE}: {text}")
            self._go_on()
        else:
            self._answered(answer, text)

    def _go_on(self) -> None:
        """Climb the second rung, unless that was done or is not needed."""
        with self._lock:
            first, self._goes_on = self._goes_on, False
        invocation = self._invocation
        if first and not invocation.is_done and invocation.abort_answer is None:
            _log.warning("%s: told to %s for %s", self._link.name, ALL, invocation.command_id)
            self._link.network.run_abort(self._ask_for_all)

    def _ask_for_all(self) -> None:
        try:
            # a connection of its own, as the other one may be waiting for the first answer
            answer, text = answer_in(tango.DeviceProxy(self._link.trl).command_inout(ALL), ALL)
        except tango.DevFailed as error:
            answer, text = answer_of(error)
        said = text if answer.is_good else f"{ALL}: {text}"
        self._answered(answer, "; ".join((*self._said, said)))

    def _answered(self, answer: AbortAnswer, text: str) -> None:
        if not answer.is_good:
            command_id = self._invocation.command_id
            _log.warning("%s: abort of %s: %s: %s", self._link.name, command_id, answer, text)
        self._invocation.abort_answered(answer, text)
