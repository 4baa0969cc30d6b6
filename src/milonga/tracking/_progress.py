"""Progress of a task, kept as a running sum so that an update costs the same for any size."""

import math
from collections.abc import Hashable, Mapping

__all__ = ["ProgressMeter"]

_UNIT = 1_000_000  # weights are whole numbers inside: sums stay exact, however many there are
RUNNING_LIMIT = 99  # 100 is said once, by the completion


class ProgressMeter:
    """Mean progress over all subtasks that are expected, also those not heard of yet.

    Not safe across threads: the tracker's lock guards it.

    Parameters
    ----------
    expected : int
        How many subtasks were declared.
    weights : mapping of str to float, optional
        Seconds that each subtask is expected to take. Those not listed count as their mean.
    step : int
        Notifications are multiples of this, in per cent, from 1 to 100.

    Raises
    ------
    ValueError
        If the step or a weight is out of its range.
    """

    __slots__ = (
        "_default",
        "_expected",
        "_last",
        "_listed",
        "_listed_sum",
        "_step",
        "_sum",
        "_unlisted",
        "_values",
    )

    def __init__(self, expected: int, weights: Mapping[str, float] | None, step: int) -> None:
        if not 1 <= step <= 100:  # noqa: PLR2004 - per cent
            raise ValueError(f"progress_step: found {step!r}, expected 1 to 100")
        self._listed: dict[Hashable, int] = {
            name: _whole(name, weight) for name, weight in (weights or {}).items()
        }
        self._listed_sum = sum(self._listed.values())
        self._default = max(1, self._listed_sum // len(self._listed)) if self._listed else 1
        self._expected = expected
        self._step = step
        self._last = 0
        self._sum = 0
        self._unlisted = 0
        self._values: dict[Hashable, int] = {}

    def record(self, key: Hashable, value: int) -> None:
        """Set the progress of one subtask."""
        before = self._values.get(key)
        if before is None:
            before = 0
            self._unlisted += key not in self._listed
        self._values[key] = value
        self._sum += (value - before) * self._listed.get(key, self._default)

    @property
    def values(self) -> dict[Hashable, int]:
        """A copy of the progress of each subtask."""
        return dict(self._values)

    @property
    def value(self) -> int:
        """Progress of the task while it runs, in per cent, at most 99."""
        others = max(self._expected - len(self._listed), self._unlisted)
        whole = self._listed_sum + others * self._default
        return min(RUNNING_LIMIT, self._sum // whole) if whole > 0 else 0

    def next_notification(self) -> int | None:
        """Return the value to announce, if it is more than all that were announced."""
        stepped = self.value // self._step * self._step
        if stepped <= self._last:
            return None
        self._last = stepped
        return stepped

    def compact(self) -> None:
        """Forget the single values."""
        self._values = {}


def _whole(name: str, weight: float) -> int:
    if isinstance(weight, bool) or not (weight > 0 and math.isfinite(weight)):
        raise ValueError(f"weights[{name!r}]: found {weight!r}, expected seconds, more than 0")
    return max(1, round(weight * _UNIT))
