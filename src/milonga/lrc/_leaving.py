"""Ending the process although a device still works on a call of ours."""

import ctypes

__all__ = ["leave_without_waiting"]


def leave_without_waiting() -> None:
    """Let the process end at once, with its own exit code, when Python has been taken down.

    Tango takes its ORB down in an exit handler, which waits for the answer to every call that is
    under way: a command of ten minutes would keep the process for so long. An exit handler that
    is registered later runs earlier; this one is libc's ``_exit`` itself, as Python is gone by
    then. Where the C library has no ``on_exit``, the process waits.
    """
    libc = ctypes.CDLL(None)
    register = getattr(libc, "on_exit", None)
    if register is not None:
        register(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # noqa: SLF001 - POSIX's name
