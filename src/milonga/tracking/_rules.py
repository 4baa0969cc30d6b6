"""The rules of aggregation as data: which devices matter, and how many of a group must succeed."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from milonga.tracking._coercion import ObsModes

__all__ = ["OTHER", "PolicyRules", "needed_successes"]

OTHER = "OTHER"  # the kind of a device that no rule knows

Pairs = tuple[tuple[str, str], ...]
Relevance = tuple[tuple[str, tuple[str, ...]], ...]
Quorums = tuple[tuple[str, int | float], ...]


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """What `TaskAggregationPolicy` goes by; the defaults are those of a pulsar telescope.

    All texts are compared without regard to case. Tables may be given as mappings; they are kept as
    tuples of pairs, so that rules can be compared, hashed and shared between threads.

    Parameters
    ----------
    kinds : mapping or pairs of str
        Part of a device's name, and the kind that such a device is of. The first match wins.
    critical_kinds : collection of str
        Kinds whose failure or rejection is that of the whole task.
    critical : collection of str
        Parts of names of devices or subtasks that are critical whatever their kind.
    optional : collection of str
        Parts of names of devices or subtasks that are never critical; wins over `critical`.
    group_patterns : mapping or pairs of str
        Shell pattern of a task's name, and the kind of group that such a task commands.
    group_policy : bool or None
        Whether a quorum decides, whatever the task's name. None asks `group_patterns`.
    min_success : int or float
        How many of a group must succeed: an int counts, a float in 0 to 1 is a share, rounded up.
        More than there are means all.
    weights : mapping or pairs of str to float
        Name of a device or subtask, and how much its success counts; 1 for the others. With any
        weight, `min_success` is a sum of weights, or a share of their total.
    quorums : mapping or pairs
        Kind, and its own `min_success`, for kinds within a task of many kinds: fewer successes than
        that fail the task, fewer failures than that are tolerated.
    optional_unless, ignored_unless : mapping or pairs
        Kind, and the observing modes that it is there for. In an observation that has modes, and
        none of these, failures of the kind are not critical, or do not count at all.
    max_causes : int
        Most causes in a message.
    max_message_bytes : int
        Most bytes of UTF-8 in a message, at least 256.

    Raises
    ------
    ValueError
        If a quorum or a limit is out of its range.

    Examples
    --------
    >>> PolicyRules(kinds={"camera": "CAMERA"}).kind_of("lab/Camera/1")
    'CAMERA'
    """

    kinds: Mapping[str, str] | Pairs = (("cbf", "CBF"), ("pst", "PST"), ("pss", "PSS"))
    critical_kinds: Iterable[str] = ("CBF",)
    critical: Iterable[str] = ()
    optional: Iterable[str] = ()
    group_patterns: Mapping[str, str] | Pairs = (("*_pst", "PST"),)
    group_policy: bool | None = None
    min_success: int | float = 1
    weights: Mapping[str, float] | Quorums = ()
    quorums: Mapping[str, int | float] | Quorums = ()
    optional_unless: Mapping[str, Iterable[str]] | Relevance = (("PST", ("PULSAR_TIMING",)),)
    ignored_unless: Mapping[str, Iterable[str]] | Relevance = (
        ("PSS", ("PULSAR_SEARCH", "TRANSIENT_SEARCH")),
    )
    max_causes: int = 64
    max_message_bytes: int = 8192

    def __post_init__(self) -> None:
        for name in ("critical_kinds", "critical", "optional"):
            self._keep(name, _texts(getattr(self, name)))
        for name in ("kinds", "group_patterns", "weights", "quorums"):
            self._keep(name, _pairs(getattr(self, name)))
        for name in ("optional_unless", "ignored_unless"):
            pairs = _pairs(getattr(self, name))
            self._keep(name, tuple((kind, _texts(modes)) for kind, modes in pairs))
        _check_quorum("min_success", self.min_success)
        for kind, quorum in _pairs(self.quorums):
            _check_quorum(f"quorums[{kind!r}]", quorum)
        for name, weight in _pairs(self.weights):
            if not (weight >= 0 and math.isfinite(weight)):
                raise ValueError(f"weights[{name!r}]: found {weight!r}, expected a number >= 0")
        if self.max_causes < 1 or self.max_message_bytes < 256:  # noqa: PLR2004 - documented
            raise ValueError(
                f"max_causes {self.max_causes!r}, max_message_bytes {self.max_message_bytes!r}: "
                "expected at least 1 and at least 256"
            )

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    @classmethod
    def minimal(cls) -> "PolicyRules":
        """Return rules that know no kinds, groups or modes."""
        return cls(
            kinds=(), critical_kinds=(), group_patterns=(), optional_unless=(), ignored_unless=()
        )

    def kind_of(self, name: str) -> str:
        """Return the kind of the device or subtask of this name, OTHER if no rule knows it."""
        lowered = name.lower()
        kinds: Pairs = _pairs(self.kinds)
        for part, kind in kinds:
            if part.lower() in lowered:
                return kind
        return OTHER

    def group_of(self, task_name: str) -> str | None:
        """Return the kind of the group that the task commands; None if no quorum decides it."""
        if self.group_policy is False:
            return None
        lowered = task_name.lower()
        patterns: Pairs = _pairs(self.group_patterns)
        for pattern, kind in patterns:
            if fnmatchcase(lowered, pattern.lower()):
                return kind
        return "group" if self.group_policy else None

    def weight_of(self, *names: str) -> float:
        """Return how much the success of the device or subtask of these names counts."""
        weights = {name.lower(): weight for name, weight in _pairs(self.weights)}
        return next((weights[name.lower()] for name in names if name.lower() in weights), 1.0)

    def quorum_of(self, kind: str) -> int | float | None:
        """Return the quorum of a kind within a task of many kinds."""
        return dict(_pairs(self.quorums)).get(kind)

    def is_critical(
        self, name: str, obs_mode: ObsModes | None, *, within_quorum: tuple[str, ...] = ()
    ) -> bool:
        """Tell whether the failure of the device or subtask of this name is the task's.

        A kind that has enough successes for its quorum is not critical; a name may still be.
        """
        lowered = name.lower()
        if self.is_optional(name, obs_mode):
            return False
        if any(part.lower() in lowered for part in self.critical):
            return True
        kind = self.kind_of(name)
        return kind in tuple(self.critical_kinds) and kind not in within_quorum

    def is_optional(self, name: str, obs_mode: ObsModes | None) -> bool:
        """Tell whether the failure of the device or subtask of this name can only degrade."""
        lowered = name.lower()
        if any(part.lower() in lowered for part in self.optional):
            return True
        return _out_of_mode(self.optional_unless, self.kind_of(name), obs_mode)

    def is_ignored(self, name: str, obs_mode: ObsModes | None) -> bool:
        """Tell whether the failure of the device or subtask of this name does not count."""
        return _out_of_mode(self.ignored_unless, self.kind_of(name), obs_mode)


def needed_successes(quorum: int | float, members: int) -> int:
    """Return how many of so many members must succeed.

    Examples
    --------
    >>> needed_successes(0.5, 5), needed_successes(9, 5), needed_successes(1, 5)
    (3, 5, 1)
    """
    if isinstance(quorum, float):
        # The margin keeps 0.07 * 100, a little more than 7 in floats, from becoming eight.
        return min(members, math.ceil(quorum * members - 1e-9))
    return min(members, quorum)


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(dict.fromkeys(values))


def _pairs(table: Any) -> tuple[tuple[str, Any], ...]:
    if isinstance(table, tuple):
        return table
    return tuple(table.items() if isinstance(table, Mapping) else map(tuple, table))


def _check_quorum(name: str, quorum: object) -> None:
    is_count = isinstance(quorum, int) and not isinstance(quorum, bool) and quorum >= 0
    is_share = isinstance(quorum, float) and 0.0 <= quorum <= 1.0
    if not (is_count or is_share):
        raise ValueError(
            f"{name}: found {quorum!r}, expected a count of 0 or more, or a share from 0.0 to 1.0"
        )


def _out_of_mode(table: Any, kind: str, obs_mode: ObsModes | None) -> bool:
    """Tell whether the kind has modes it is there for, and the observation is in none of them."""
    if obs_mode is None:
        return False
    wanted = dict(_pairs(table)).get(kind)
    return wanted is not None and _modes(obs_mode).isdisjoint(mode.upper() for mode in wanted)


def _modes(obs_mode: ObsModes) -> set[str]:
    text = obs_mode if isinstance(obs_mode, str) else " ".join(obs_mode)
    return set(re.findall(r"\w+", text.upper()))
