"""The end of everything that engines have started in a process."""

import atexit
import time

from milonga.engine._callbacks import release_idle_threads
from milonga.engine._run_engine import living_engines

__all__ = ["shutdown"]

AT_EXIT = 0.8
"""Seconds that plans have for their cleanup when the interpreter ends."""


def shutdown(timeout: float = 10.0) -> bool:
    """End all engines of the process and every thread that they have started.

    Called by itself when the interpreter ends, with a timeout of less than a second. Afterwards new
    engines can be made.

    Parameters
    ----------
    timeout : float, optional
        Seconds that this may take.

    Returns
    -------
    bool
        Whether everything has ended.
    """
    deadline = time.monotonic() + timeout
    engines = living_engines()
    for engine in engines:
        if (handle := engine.handle) is not None:
            handle.abort("the process ends")
    left = len(engines)
    ended = True
    for engine in engines:
        share = max(0.1, (deadline - time.monotonic()) / left)
        ended = engine.shutdown(share) and ended
        left -= 1
    release_idle_threads()
    return ended


atexit.register(shutdown, AT_EXIT)
