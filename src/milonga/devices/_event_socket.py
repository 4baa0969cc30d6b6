"""A server that can send no events, and how it starts anew.

cppTango (up to 10.3) makes the socket for events when the first client subscribes. A client that
does so in the moment in which the server's own device is known, but not ready, leaves a socket
that is bound to nothing, and every later subscription fails with "Invalid argument" until the
process ends. Milonga's clients wait (`milonga.lrc`), others do not.
"""

import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

import tango

__all__ = ["start_anew_if_deaf"]

MOST_STARTS = 5
"""How often a server starts anew before it goes on as it is."""

STDERR = 2

_STARTS = "MILONGA_STARTS"

_log = logging.getLogger(__name__)


def start_anew_if_deaf() -> None:
    """Replace this process by a new one of the same server if nobody could hear its events.

    To be called when the devices have been made, before anybody relies on them.
    """
    if _sends_events():
        os.environ.pop(_STARTS, None)
        return
    starts = int(os.environ.get(_STARTS, "1"))
    if starts >= MOST_STARTS:
        _log.error("nobody can subscribe to events of this server, after %s starts", starts)
        return
    _log.warning("a client subscribed too early, so this server could send no events: starts anew")
    os.environ[_STARTS] = str(starts + 1)
    logging.shutdown()
    _keep_no_files()
    # omniORB names its socket after the process and the second. If the new program had the name of
    # the old one, the address in the Tango database would be its own, and Tango, which calls there
    # to see whether the server runs already, would wait for itself.
    time.sleep(1.0)
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the same program as before


def _keep_no_files() -> None:
    """Let the new program have none of the open sockets, or Tango would think the old one runs."""
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > STDERR:
            with suppress(OSError):  # it is that of the folder
                os.set_inheritable(int(entry.name), False)


def _sends_events() -> bool:
    admin = tango.DeviceProxy(f"dserver/{tango.Util.instance(False).get_ds_name()}")
    try:
        _, (_, events, *_) = admin.command_inout("ZmqEventSubscriptionChange", ["info"])
    except tango.DevFailed:
        return True  # not a reason to end
    return not str(events).removeprefix("Event:").strip().endswith(":")
