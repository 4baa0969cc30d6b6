"""Until when a node may work."""

import math

__all__ = ["DeadlineClock", "check_timeout"]


def check_timeout(timeout: float | None) -> None:
    """Raise ValueError unless `timeout` is None or a positive, finite number of seconds."""
    if timeout is not None and not (timeout > 0 and math.isfinite(timeout)):
        raise ValueError(f"timeout: found {timeout!r}, expected positive, finite seconds or None")


class DeadlineClock:
    """Until when a node may work. Guarded by the node's lock.

    Parameters
    ----------
    began : float
        Time of the start.
    seconds : float
        Seconds from there.
    longest : float
        Seconds from there that cannot be exceeded.
    """

    __slots__ = ("began", "deadline", "latest")

    def __init__(self, began: float, seconds: float, longest: float) -> None:
        self.began = began
        self.deadline = began + seconds
        self.latest = began + max(seconds, longest)

    @property
    def seconds(self) -> float:
        """How long the node may work in all."""
        return self.deadline - self.began

    def extend(self, now: float, seconds: float) -> float:
        """Allow so many seconds more, or as many as may be, unless the time is up; return them."""
        if not (now < self.deadline and seconds > 0):
            return 0.0
        before, self.deadline = self.deadline, min(self.deadline + seconds, self.latest)
        return self.deadline - before
