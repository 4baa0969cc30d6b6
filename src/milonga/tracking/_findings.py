"""One pass over a task's subtasks, which sorts them by what the rules of precedence ask."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from milonga.control_model import HealthState
from milonga.tracking._coercion import ObsModes
from milonga.tracking._rules import PolicyRules, needed_successes
from milonga.tracking._subtask import SubtaskResult, Verdict, joined_health

__all__ = ["Findings", "find", "weight_of"]


@dataclass(slots=True)
class Findings:
    """The subtasks of a task, sorted by what the rules of precedence ask."""

    task_name: str
    rules: PolicyRules
    total: int
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    culprits: list[SubtaskResult] = field(default_factory=list)  # all whose message is a cause
    critical: list[SubtaskResult] = field(default_factory=list)
    tolerable: list[SubtaskResult] = field(default_factory=list)  # optional, or judged partial
    serious: list[SubtaskResult] = field(default_factory=list)  # all other failures
    rejected: list[SubtaskResult] = field(default_factory=list)
    ignored: int = 0
    ignored_weight: float = 0.0
    total_weight: float = 0.0  # only where there are weights
    health: HealthState | None = None  # as the subtasks reported it
    short: list[str] = field(default_factory=list)  # kinds below their quorum, as "PST success 1/4"
    within: dict[str, str] = field(default_factory=dict)  # kinds with losses within their quorum

    @property
    def failures(self) -> list[SubtaskResult]:
        """All that failed, were it only in part; not what was rejected."""
        return [*self.critical, *self.serious, *self.tolerable]


def find(
    task_name: str, subtasks: Sequence[SubtaskResult], rules: PolicyRules, obs_mode: ObsModes | None
) -> Findings:
    """Sort a task's subtasks, by rules and for an observing mode."""
    return _Sorter(rules, obs_mode).find(task_name, subtasks)


def weight_of(rules: PolicyRules, subtask: SubtaskResult) -> float:
    """Return how much the success of a subtask counts, by its name or its device's."""
    return rules.weight_of(subtask.name, *subtask.involved_devices)


class _Sorter:
    """Applies rules, for one observing mode, to the subtasks that are not fine."""

    def __init__(self, rules: PolicyRules, obs_mode: ObsModes | None) -> None:
        self.rules = rules
        self.obs_mode = obs_mode

    def find(self, task_name: str, subtasks: Sequence[SubtaskResult]) -> Findings:
        found = Findings(task_name, self.rules, len(subtasks))
        verdicts = [subtask.verdict for subtask in subtasks]
        found.verdicts.update(verdicts)
        self._find_quorums(subtasks, found)
        if self.rules.weights:
            found.total_weight = sum(weight_of(self.rules, subtask) for subtask in subtasks)
        everyone_ignored = len(subtasks) == found.verdicts[Verdict.OK] or self._all_ignored(
            subtasks
        )
        for subtask, verdict in zip(subtasks, verdicts, strict=True):
            counts = verdict <= Verdict.OK or self._sort_in(
                subtask, verdict, found, everyone_ignored
            )
            if counts and subtask.health is not None:
                found.health = joined_health(found.health, subtask.health)
        return found

    def _all_ignored(self, subtasks: Sequence[SubtaskResult]) -> bool:
        """Tell whether no subtask counts; then the failures count after all."""
        return all(self._is_all(self.rules.is_ignored, subtask) for subtask in subtasks)

    def _sort_in(
        self, subtask: SubtaskResult, verdict: Verdict, found: Findings, everyone_ignored: bool
    ) -> bool:
        """Put a subtask that is not fine where it belongs; return whether it counts."""
        if verdict is Verdict.ABORTED:
            found.culprits.append(subtask)
            return True
        ignored = self._is_all(self.rules.is_ignored, subtask)
        if ignored and not everyone_ignored:
            found.ignored += 1
            found.ignored_weight += weight_of(self.rules, subtask)
            return False
        found.culprits.append(subtask)
        if self._is_critical(subtask, found):
            found.critical.append(subtask)
        elif verdict is Verdict.REJECTED:
            found.rejected.append(subtask)
        elif ignored or subtask.is_partial or self._is_tolerable(subtask, found):
            found.tolerable.append(subtask)
        else:
            found.serious.append(subtask)
        return True

    def _suspects(self, subtask: SubtaskResult) -> tuple[str, ...]:
        """Return the names by which a failure is judged: devices, else the subtask's own."""
        return subtask.blamed_devices or (subtask.name,)

    def _is_all(self, test: Callable[[str, ObsModes | None], bool], subtask: SubtaskResult) -> bool:
        return all(test(name, self.obs_mode) for name in self._suspects(subtask))

    def _is_critical(self, subtask: SubtaskResult, found: Findings) -> bool:
        """Tell whether the subtask's failure is the task's.

        A subtask whose own tracker called it merely degraded has been judged with rules nearer to
        its devices, and is not judged more harshly here.
        """
        if subtask.is_partial:
            return False
        return any(
            self.rules.is_critical(name, self.obs_mode, within_quorum=tuple(found.within))
            for name in self._suspects(subtask)
        )

    def _is_tolerable(self, subtask: SubtaskResult, found: Findings) -> bool:
        if self._is_all(self.rules.is_optional, subtask):
            return True
        return self.rules.kind_of(self._suspects(subtask)[0]) in found.within

    def _find_quorums(self, subtasks: Sequence[SubtaskResult], found: Findings) -> None:
        """Compare each kind that has a quorum of its own with it."""
        if not self.rules.quorums or found.verdicts[Verdict.OK] == found.total:
            return
        members: Counter[str] = Counter()
        ok: Counter[str] = Counter()
        for subtask in subtasks:
            names = subtask.involved_devices or (subtask.name,)
            kind = self.rules.kind_of(names[0])
            members[kind] += 1
            ok[kind] += subtask.verdict is Verdict.OK
        for kind, count in members.items():
            quorum = self.rules.quorum_of(kind)
            if quorum is None or ok[kind] == count:
                continue
            text = f"{kind} success {ok[kind]}/{count}"
            needed = needed_successes(quorum, count)
            if ok[kind] >= needed:
                found.within[kind] = text
            else:
                found.short.append(f"{text}, {needed} needed")
