"""Becomes another program, and sees to it that this dies together with the process that wanted it.

Run as a file, isolated and without `site`, so that it costs milliseconds::

    python -I -S _child.py PARENT_PID PROGRAM [ARGUMENT ...]

Linux only: the kernel is asked (PR_SET_PDEATHSIG) to kill this process when its parent ends, even
by SIGKILL; that survives the exec. The kernel means the *thread* that started the process, so
deployment is done from a thread that stays.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Bind this process to its parent, then become the program."""
    parent, *program = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot ask the kernel for the parent-death signal")
    if os.getppid() != int(parent):
        sys.exit("the parent ended before its child could be bound to it")
    os.execv(program[0], program)  # noqa: S606 - a program of our own, no shell wanted


if __name__ == "__main__":
    main(sys.argv[1:])
