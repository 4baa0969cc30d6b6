"""What a target answered to the wish that its work ends, and whether it then did end it."""

from collections.abc import Callable
from threading import Lock

from milonga.tracking import AbortAnswer

__all__ = ["AbortListener", "Acknowledgement"]

AbortListener = Callable[[AbortAnswer, str], None]
"""Told what a target answered to the wish that its work ends."""


class Acknowledgement:
    """The answer of one target, and those who wait for it. Safe across threads.

    A target that takes an abort may still go on with its work, so a good answer is told only once
    the leaf has ended; a bad one at once, as nothing is to be expected after it.

    Parameters
    ----------
    guarded : callable
        Calls a listener so that one that raises does no harm.
    """

    def __init__(self, guarded: Callable[..., None]) -> None:
        self._guarded = guarded
        self._lock = Lock()
        self._answer: tuple[AbortAnswer, str] | None = None
        self._over = False
        self._listeners: list[AbortListener] = []

    @property
    def answer(self) -> tuple[AbortAnswer, str] | None:
        """The answer, and what was said with it; None if there is none yet."""
        return self._answer

    def take(self, answer: AbortAnswer, text: str) -> bool:
        """Take an answer; tell whether it is the first, which counts."""
        with self._lock:
            if self._answer is not None:
                return False
            self._answer = (answer, text)
            return True

    def doubt(self, text: str) -> None:
        """Take note that nothing followed, although the target may have taken the abort."""
        with self._lock:
            if self._answer is None:
                self._answer = (AbortAnswer.NO_ANSWER, text)
            elif self._answer[0].is_good:
                said = self._answer[1]
                self._answer = (AbortAnswer.NO_ANSWER, f"{said}, but {text}" if said else text)

    def over(self) -> None:
        """Take note that the leaf has ended."""
        with self._lock:
            self._over = True
        self.tell()

    def listen(self, listener: AbortListener) -> None:
        """Call `listener` once with the answer; at once if it is known."""
        with self._lock:
            self._listeners.append(listener)
        self.tell()

    def tell(self) -> None:
        """Tell the answer to those who wait, if it is final."""
        with self._lock:
            answer = self._answer
            if answer is None or (answer[0].is_good and not self._over):
                return
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            self._guarded(listener, *answer)
