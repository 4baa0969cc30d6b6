"""Join policies against an oracle that was written separately, from the rules' description."""

import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.tracking import PolicyRules, SubtaskResult, TaskAggregationPolicy

OK, FAILED, BROKEN, REJECTED, ABORTED = "ok", "failed", "broken", "rejected", "aborted"
PAIRS = {
    OK: (TaskStatus.COMPLETED, ResultCode.OK),
    FAILED: (TaskStatus.COMPLETED, ResultCode.FAILED),
    BROKEN: (TaskStatus.FAILED, ResultCode.FAILED),
    REJECTED: (TaskStatus.REJECTED, ResultCode.REJECTED),
    ABORTED: (TaskStatus.ABORTED, ResultCode.ABORTED),
}
outcomes = st.lists(st.sampled_from(list(PAIRS)), min_size=1, max_size=9)


@dataclass(frozen=True)
class Join:
    """A rule as a person says it."""

    needed: float | None = None  # None: all
    critical: frozenset[int] = frozenset()
    optional: frozenset[int] = frozenset()
    weights: tuple[float, ...] = ()


def rules_of(join: Join) -> PolicyRules:
    """Return the rules for a join."""
    bare = PolicyRules.minimal()
    return PolicyRules(
        kinds=(),
        critical_kinds=(),
        group_patterns=(),
        optional_unless=bare.optional_unless,
        ignored_unless=bare.ignored_unless,
        critical=tuple(f"leaf{n}" for n in sorted(join.critical)),
        optional=tuple(f"leaf{n}" for n in sorted(join.optional)),
        group_policy=join.needed is not None,
        min_success=1 if join.needed is None else join.needed,
        weights=tuple((f"leaf{n}", weight) for n, weight in enumerate(join.weights)),
    )


def oracle(join: Join, ends: list[str]) -> str:  # noqa: PLR0911 - a list of cases
    """Say in a word what should come of it: ok, partial, failed, rejected or aborted."""
    bad = {n for n, end in enumerate(ends) if end != OK}
    if ABORTED in ends:
        return "aborted"
    if not bad:
        return "ok"
    critical = {ends[n] for n in bad & join.critical - join.optional}
    if critical:
        return "rejected" if critical == {REJECTED} else "failed"
    if set(ends) == {REJECTED}:
        return "rejected"
    if join.needed is not None:
        if is_enough(join, ends):
            return "partial"
        tolerable = all(n in join.optional and ends[n] != REJECTED for n in bad)
        return "partial" if tolerable else "failed"
    if any(ends[n] == BROKEN for n in bad - join.optional):
        return "failed"
    spared = any(n in join.optional and ends[n] in {FAILED, BROKEN} for n in bad)
    failures = {FAILED, BROKEN} & set(ends)
    return "failed" if failures and not spared and OK not in ends else "partial"


def is_enough(join: Join, ends: list[str]) -> bool:
    """Tell whether so many succeeded, or so much by weight, as are needed."""
    needed = join.needed or 0
    weights = (
        [*join.weights, *[1.0] * len(ends)][: len(ends)] if join.weights else [1.0] * len(ends)
    )
    good = sum(weight for weight, end in zip(weights, ends, strict=True) if end == OK)
    if not isinstance(needed, float):
        return good >= min(needed, sum(weights)) - 1e-6
    wanted = needed * sum(weights)
    return good >= (wanted if join.weights else math.ceil(wanted - 1e-9)) - 1e-6


def word_of(join: Join, ends: list[str]) -> tuple[str, str]:
    """Return what the policy makes of it, as a word, and its message."""
    subtasks = [
        SubtaskResult(f"leaf{n}", *PAIRS[end], f"leaf{n}: {end}") for n, end in enumerate(ends)
    ]
    made = TaskAggregationPolicy("Go", rules=rules_of(join)).aggregate(subtasks)
    if made.status in {TaskStatus.ABORTED, TaskStatus.REJECTED}:
        return made.status.name.lower(), made.message
    if (made.status, made.result_code) == PAIRS[OK]:
        return "ok", made.message
    assert made.result_code is ResultCode.FAILED
    degraded = made.health_state is HealthState.DEGRADED
    return "partial" if degraded else "failed", made.message


numbers = st.frozensets(st.integers(0, 8), max_size=3)
joins = st.builds(
    Join,
    needed=st.none() | st.integers(0, 10) | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    critical=numbers,
    optional=numbers,
)
weighted = st.builds(
    Join,
    needed=st.integers(0, 12) | st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    optional=numbers,
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5]), min_size=1, max_size=9).map(tuple),
)


@settings(max_examples=1000)
@given(joins | weighted, outcomes)
def test_every_policy_agrees_with_the_oracle(join: Join, ends: list[str]) -> None:
    """Rank 4: all, any, k of n, shares, weights, critical and optional children."""
    word, message = word_of(join, ends)

    assert word == oracle(join, ends)
    if word in {"partial", "failed"}:
        for number, end in enumerate(ends):
            assert (f"leaf{number}: " in message) == (end != OK), "who failed is named, nobody else"


def test_six_of_eight_is_partial_and_names_the_two() -> None:
    """Rank 4: 8 leaves, k=6, 2 failing."""
    ends = [OK] * 6 + [FAILED, BROKEN]
    word, message = word_of(Join(needed=6), ends)
    assert word == "partial"
    assert "success 6/8" in message
    assert "leaf6: failed" in message
    assert "leaf7: broken" in message
    assert word_of(Join(needed=7), ends)[0] == "failed"


def test_weights_say_what_was_weighed() -> None:
    """Numbers that a person can check."""
    join = Join(needed=0.5, weights=(3.0, 1.0, 1.0))
    assert word_of(join, [OK, FAILED, FAILED])[0] == "partial"
    word, message = word_of(join, [FAILED, OK, OK])
    assert word == "failed"
    assert "weight 2 of 5, 2.5 needed" in message
