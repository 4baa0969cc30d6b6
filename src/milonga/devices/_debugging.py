"""Attaching a debugger to a running server: on loopback only, and only where it was allowed."""

import importlib

from milonga.errors import StateModelError

__all__ = ["debug_port"]

HOST = "127.0.0.1"
PORT = 5678

_listening = False


def debug_port(allowed: bool) -> int:
    """Begin to listen for a debugger, or stop at a breakpoint if it is done already.

    Raises
    ------
    StateModelError
        If it is not allowed, or debugpy is not installed.
    """
    global _listening  # noqa: PLW0603 - a debugger belongs to the process
    if not allowed:
        raise StateModelError(
            "DebugDevice: debugging is off; set the property DebugEnabled to true"
        )
    try:
        debugpy = importlib.import_module("debugpy")
    except ImportError as error:
        raise StateModelError("DebugDevice: debugpy is not installed in the server") from error
    if _listening:
        debugpy.breakpoint()
    else:
        debugpy.listen((HOST, PORT))
        _listening = True
    return PORT
