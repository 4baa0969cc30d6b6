"""What was wrong with the events of one command: late, doubled, out of order, or never there.

Judged by the events alone, so that a look at the device that was quicker does not count as one.
"""

from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime

from milonga.control_model import TaskStatus
from milonga.lrc._reading import CommandNews

__all__ = ["KINDS", "EventJudge"]

KINDS = ("late", "doubled", "reordered", "missing")

KEPT = 16
"""How many irregular events of a command are kept with their times."""

HEARD_KEPT = 512
"""Of how many events of a command is remembered that they came, to know those that come again."""


def _now() -> datetime:
    return datetime.now(UTC)


class EventJudge:
    """Tells regular events from others. To be called by one thread at a time.

    Examples
    --------
    >>> judge = EventJudge()
    >>> news = CommandNews("1_2_On", TaskStatus.IN_PROGRESS)
    >>> judge.heard(news, over=False), judge.heard(news, over=False)
    ('', 'doubled')
    """

    __slots__ = ("_heard", "_last", "_now", "_progress", "_status", "counts", "notes")

    def __init__(self, now: Callable[[], datetime] = _now) -> None:
        self.counts: Counter[str] = Counter()
        self.notes: deque[dict[str, str]] = deque(maxlen=KEPT)
        self._heard: dict[str, None] = {}
        self._last = ""
        self._status = TaskStatus.STAGING
        self._progress = 0.0
        self._now = now

    def heard(self, news: CommandNews, *, over: bool) -> str:
        """Judge an event; return what is wrong with it, an empty text if nothing is."""
        kind = self._kind(news, over=over)
        if kind:
            self._note(kind, _words(news))
        return kind

    def missed(self, status: TaskStatus) -> None:
        """Take note that the end of the command was found by a look, with no event."""
        self._note("missing", status.name)

    def _kind(self, news: CommandNews, *, over: bool) -> str:
        if self._comes_again(news):
            return "doubled"
        status, progress = news.status, news.progress
        if status is not None:
            before, self._status = self._status, max(self._status, status)
            if status < before:
                return "reordered"
        elif isinstance(progress, int | float):
            earlier, self._progress = self._progress, max(self._progress, progress)
            if progress < earlier or self._status > TaskStatus.IN_PROGRESS:
                return "reordered"
        return "late" if over else ""

    def _comes_again(self, news: CommandNews) -> bool:
        words = _words(news)
        last, self._last = self._last, words
        if news.status is None and isinstance(news.progress, str):
            return words == last  # what is done may be done again, so that only echoes are doubled
        if words in self._heard:
            return True
        self._heard[words] = None
        if len(self._heard) > HEARD_KEPT:
            del self._heard[next(iter(self._heard))]
        return False

    def _note(self, kind: str, words: str) -> None:
        self.counts[kind] += 1
        time = self._now().isoformat(timespec="milliseconds")
        self.notes.append({"time": time, "kind": kind, "news": words})


def _words(news: CommandNews) -> str:
    parts = [] if news.status is None else [news.status.name]
    parts += [] if news.progress is None else [f"progress {news.progress}"]
    parts += [] if news.result is None else [f"result {str(news.result)[:60]}"]
    parts += [f"extended by {news.extend:g} s"] if news.extend else []
    return ", ".join(parts)
