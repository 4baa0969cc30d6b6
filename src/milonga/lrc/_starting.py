"""Waiting for a server that is starting before anything is subscribed.

Tango makes a server's devices known first, then the server's own device, and only then is that one
able to take subscriptions. One that comes in between is not only refused: in cppTango up to 10.3
it leaves the server without a socket for events, for as long as it runs.
"""

import time

import tango

__all__ = ["wait_until_started"]

PATIENCE = 3.0
"""Seconds that a server which is starting has to become ready."""

PERIOD = 0.05
"""Seconds between two looks at it."""

_STARTING = frozenset({"API_DeviceNotExported", "API_DServerClassNotInitialised"})


def wait_until_started(proxy: tango.DeviceProxy) -> None:
    """Return as soon as a device's server can take subscriptions; may wait for the network.

    Raises
    ------
    tango.DevFailed
        If the server is still starting after `PATIENCE` seconds.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            _look(proxy)
        except tango.DevFailed as error:
            if not any(entry.reason in _STARTING for entry in error.args):
                return  # whatever it is, a subscription will tell, and do no harm
            if time.monotonic() >= end:
                raise
        else:
            return
        time.sleep(PERIOD)


def _look(proxy: tango.DeviceProxy) -> None:
    """Ask the server's device about itself, which it cannot answer while it is being made."""
    address = proxy.adm_name()
    admin = tango.DeviceProxy(address)
    name = address.partition("#")[0].rpartition("dserver/")[2]
    admin.command_inout("DevPollStatus", f"dserver/{name}")
