"""How far a plan is: from its documents, or from steps that it declares."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["PlanProgress"]


class PlanProgress:
    """Counts the points of a plan's runs against the number that they announced.

    A start document's `num_points` says how many events of the stream ``primary`` will come; steps
    that a plan declares count instead, if there are any. Progress never goes back, and is 100 only
    when the plan has ended well, which is not for this class to say. For one thread.

    Parameters
    ----------
    changed : callable, optional
        Gets the new percentage.

    Examples
    --------
    >>> progress = PlanProgress()
    >>> progress.declare(4)
    >>> progress.step()
    >>> progress.percent
    25
    """

    def __init__(self, changed: Callable[[int], None] | None = None) -> None:
        self.percent = 0
        self._changed = changed
        self._expected: dict[str, int] = {}
        self._seen: dict[str, dict[str, int]] = {}
        self._streams: dict[str, tuple[str, str]] = {}
        self._steps = 0
        self._steps_done = 0

    @property
    def is_known(self) -> bool:
        """Whether anything was announced; without that progress stays 0."""
        return bool(self._steps or self._expected)

    def declare(self, total: int) -> None:
        """Announce that the plan has `total` steps."""
        if not total > 0:
            raise ValueError(f"total: found {total!r}, expected a number of steps > 0")
        self._steps = total

    def step(self, count: int = 1) -> None:
        """Count steps that are done."""
        self._steps_done += count
        self._look()

    def on_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Take a document of the plan."""
        if name == "start":
            self._started(document)
        elif name == "descriptor":
            stream = (document["run_start"], document.get("name", "primary"))
            self._streams[document["uid"]] = stream
        elif name in {"event", "event_page"}:
            self._event(document)

    def _started(self, document: Mapping[str, Any]) -> None:
        points = document.get("num_points")
        if isinstance(points, int) and points > 0:
            self._expected[document["uid"]] = points

    def _event(self, document: Mapping[str, Any]) -> None:
        run, stream = self._streams.get(document["descriptor"], ("", ""))
        number = document["seq_num"]
        latest = max(number, default=0) if isinstance(number, list) else number
        seen = self._seen.setdefault(run, {})
        # By number, not by count: what is repeated after a pause is no progress.
        seen[stream] = max(latest, seen.get(stream, 0))
        self._look()

    def _points(self) -> int:
        done = 0
        for run, expected in self._expected.items():
            streams = self._seen.get(run, {})
            points = streams.get("primary", max(streams.values(), default=0))
            done += min(points, expected)
        return done

    def _look(self) -> None:
        total = self._steps or sum(self._expected.values())
        if not total:
            return
        done = self._steps_done if self._steps else self._points()
        percent = min(99, 100 * done // total)
        if percent > self.percent:
            self.percent = percent
            if self._changed is not None:
                self._changed(percent)
