"""A process that stands still for a while, so that what others do meanwhile is certain."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from milonga.deploy import Process

__all__ = ["standing_still"]


@contextmanager
def standing_still(process: Process) -> Iterator[None]:
    """Stop a process of ours, and let it go on at the end; the signal alone takes effect later."""
    assert process.pid is not None
    process.signal(signal.SIGSTOP)
    try:
        # the kernel tells it when the last thread has stopped; the exit is left for its owner
        found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        assert found.si_code == os.CLD_STOPPED, process.ended()
        yield
    finally:
        process.signal(signal.SIGCONT)
