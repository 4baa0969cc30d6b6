"""The messages that a plan repeats when it is resumed, and no more of them than a limit."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from bluesky.utils import Msg

__all__ = ["KeptAnswers", "ReplayCache", "ReplaySlot"]


class ReplayCache(deque[Msg]):
    """Messages since the last checkpoint.

    A plan that makes no checkpoint would fill the memory, and take as long to resume as it has
    run. When there are too many, the owner is asked to make a checkpoint.

    Parameters
    ----------
    messages : iterable
        The first messages.
    limit : int
        How many to keep.
    full : callable
        Makes a checkpoint; returns whether that was possible.
    """

    def __init__(
        self, messages: Iterable[Msg] = (), limit: int = 10_000, full: Callable[[], bool] = bool
    ) -> None:
        super().__init__(messages)
        self._limit = limit
        self._full = full

    def append(self, message: Msg) -> None:
        """Add a message, which is about to be worked on."""
        if len(self) >= self._limit and self._full():
            self.clear()
        deque.append(self, message)


class _Keeper(Protocol):
    def _new_replay_cache(self, messages: Iterable[Msg]) -> ReplayCache: ...


class ReplaySlot:
    """The attribute in which an engine keeps its messages; what is put there becomes a cache.

    bluesky's engine puts a deque there at each checkpoint. It reads the attribute twice for each
    message, so there is no `__get__`: a read finds the cache among the engine's plain attributes.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, engine: _Keeper, messages: Iterable[Msg] | None) -> None:
        kept = None if messages is None else engine._new_replay_cache(messages)  # noqa: SLF001
        vars(engine)[self._name] = kept


class KeptAnswers:
    """The answers of messages that are done once, for when they are repeated after a pause.

    A plan may yield one message object again and again, so it is the repetition that gets the
    answer that was kept, each in its turn, and never a message of the plan. For one thread.

    Examples
    --------
    >>> kept, message = KeptAnswers(), Msg("stash")
    >>> [kept.answer(message, lambda answer=answer: answer) for answer in "ab"]
    ['a', 'b']
    >>> kept.rewind()
    >>> [kept.repeated(message, lambda: "done again") for _ in range(3)]
    ['a', 'b', 'done again']
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Msg, Any]] = []
        self._due: list[tuple[Msg, Any]] = []

    def answer(self, message: Msg, do: Callable[[], Any]) -> Any:
        """Do what a message says, and keep the answer."""
        return self._keep(message, do())

    def _keep(self, message: Msg, answer: Any) -> Any:
        self._kept.append((message, answer))
        return answer

    def repeated(self, message: Msg, do: Callable[[], Any]) -> Any:
        """Return the answer that was kept of a message, for the next repetition as well."""
        for place, (kept, answer) in enumerate(self._due):
            if kept is message:
                del self._due[place]
                return self._keep(message, answer)
        return self._keep(message, do())

    def rewind(self) -> None:
        """Have messages repeated: those since the checkpoint, before what is still to repeat."""
        self._due = self._kept + self._due
        self._kept = []

    def checkpoint(self) -> None:
        """Forget what will not be repeated."""
        self._kept.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._due.clear()
