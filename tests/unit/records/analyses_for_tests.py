"""Analyses that tests run in processes of their own."""

import os
import signal
import sys
import threading
import time
from typing import Any


def add(call: Any, *, left: int, right: int = 1) -> dict[str, Any]:
    """Add two numbers."""
    call.progress(0)
    call.log("adding")
    call.progress(50.5)
    print("printed")  # noqa: T201 - it goes to the log
    return {"sum": left + right, "path": sys.path[0]}


def report(call: Any) -> None:
    """Give a result with a summary."""
    call.result({"first": 1}, "not yet")
    call.result((1, b"x"), {"peaks": 3}, schemas="npz")


def fail(call: Any) -> None:
    """Raise."""
    raise ValueError("no beam")


def leave(call: Any) -> None:
    """End without a word."""
    os._exit(3)


def crash(call: Any) -> None:
    """Be killed."""
    os.kill(os.getpid(), signal.SIGSEGV)


def obey(call: Any) -> None:
    """Run until told to end."""
    call.progress(1)
    call.cancelled.wait()


def ignore(call: Any) -> None:
    """Run for ever, whatever is said."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    call.progress(1)
    while True:
        time.sleep(10)


def linger(call: Any) -> None:
    """Raise, and leave a thread behind that keeps the process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=lambda: time.sleep(600)).start()
    raise ValueError("no beam")


def riddle(call: Any) -> None:
    """Give a result that cannot be read, and go on."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    call.send("TASK_RESULT", {"payload": {"$type": "alien"}, "summary": ""})
    time.sleep(600)


def blurt(call: Any) -> None:
    """Say two things in one breath."""
    messages = [("TASK_PROGRESS", 50), ("TASK_RESULT", {"payload": 42, "summary": ""})]
    parts = [call._frames.frame(call._frames.Message(*each)) for each in messages]
    call._channel.sendall(b"".join(parts))


def refer(call: Any) -> None:
    """Give a result that is a file."""
    call.send("TASK_RESULT", {"payload": {"$type": "array", "file": "7"}, "summary": ""})


def lost(call: Any) -> dict[str, int]:
    """Say that nobody knows how far it is."""
    call.progress(float("nan"))
    call.progress(float("inf"))
    return {"answer": 42}


def babble(call: Any) -> None:
    """Send what is no message."""
    call._channel.sendall(b"\xff\xff\xff\xffnonsense")
    time.sleep(60)


def chatter(call: Any) -> None:
    """Say a lot."""
    for number in range(100):
        call.log(f"line {number}")


def environment(call: Any) -> dict[str, str]:
    """Return what is in the environment."""
    return dict(os.environ)


def loaded(call: Any) -> list[str]:
    """Return the large modules that the process has loaded."""
    return [name for name in ("sqlalchemy", "pydantic", "milonga", "numpy") if name in sys.modules]


def array(call: Any) -> Any:
    """Return an array."""
    import numpy as np  # noqa: PLC0415 - only this analysis needs it

    return np.arange(3)
