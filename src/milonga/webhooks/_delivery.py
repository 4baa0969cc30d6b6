"""How hard delivery tries, and how it may fail; known without the library that delivers."""

from dataclasses import dataclass

__all__ = ["DeliverySettings", "HookFailed", "HookGone"]


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """How hard delivery tries.

    Parameters
    ----------
    timeout : float
        Seconds for each of connecting, sending and the answer, and between two pieces of one; a
        whole try has three times as many.
    tries : int
        Tries in a row, for what a moment can heal; then the message waits in the outbox.
    retry_first, retry_longest : float
        Seconds of that wait: at first, doubled each time, and at most.
    give_up_after : float
        Seconds after the change when nobody needs to hear of it any more.
    at_once : int
        Requests at the same time, to different hooks or about different tasks.
    look_every : float
        Seconds after which the outbox is looked at if nobody says that something is in it.
    """

    timeout: float = 1.0
    tries: int = 3
    retry_first: float = 1.0
    retry_longest: float = 300.0
    give_up_after: float = 24 * 3600.0
    at_once: int = 16
    look_every: float = 5.0

    @property
    def whole_try(self) -> float:
        """Seconds for one try from its beginning to the end of the answer's head."""
        return 3 * self.timeout

    def wait_after(self, attempts: int) -> float:
        """Return the seconds to wait after so many rounds of tries."""
        return float(min(self.retry_first * 2 ** min(attempts, 32), self.retry_longest))


class HookFailed(Exception):
    """The receiver has not taken a message; it may be tried again."""


class HookGone(Exception):
    """The receiver says that the hook is no more."""
