"""What a safety command waits for at a device that is told to end all to end one command.

That must not end the safety command as well.
"""

import time
from typing import TYPE_CHECKING

from milonga.lrc._abort_ladder import ends_all
from milonga.lrc._invocation import Invocation

if TYPE_CHECKING:
    from milonga.lrc._link import Link

__all__ = ["let_aborts_pass"]

PATIENCE = 2.5
"""Seconds that a device has to end what it was asked to end, before the safety command is sent."""

REFUSING = 3.0
"""Seconds after that for which a refusal may be the abort's, and the command is sent again."""


def let_aborts_pass(link: "Link", invocation: Invocation) -> None:
    """Wait until aborts that were sent before a safety command cannot end it; may take seconds.

    Parameters
    ----------
    link : Link
        The connection to the device.
    invocation : Invocation
        The safety command.
    """
    aborted = [
        other
        for other in (*link.lrc.outstanding(), *link.foreign.outstanding())
        if other.wants_abort and not other.is_done and ends_all(link, other)
    ]
    end = time.monotonic() + PATIENCE
    for other in aborted:
        other.wait(max(0.0, end - time.monotonic()))
    if aborted:
        invocation.patient_until = time.monotonic() + REFUSING
