"""The kit finds the planted defects of a naive tracker, and none of them in ours.

What events suffer on their way is done to them by the kit. Defects that show only where a device
is looked at, such as an end that is lost, are found in `tests/servers/test_kit.py`.
"""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from milonga.control_model import ResultCode, TaskStatus
from milonga.testing import EventFaults, UnreliableEvents, assert_outcome
from milonga.tracking import TaskTracker

from .naive_tracker import NaiveTracker

DONE = {"status": "COMPLETED", "result": (ResultCode.OK, "command completed OK")}
FAILED = {"status": "COMPLETED", "result": (ResultCode.FAILED, "no beam")}


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._now = 0.0
        self._order = itertools.count()

    def call_later(self, delay: float, function: Callable[[], None]) -> "Clock":
        """Call later."""
        heapq.heappush(self._later, (self._now + delay, next(self._order), function))
        return self

    def cancel(self) -> None:
        """Forget nothing: what is called too late does no harm."""

    def pass_on(self, seconds: float = 10.0) -> None:
        """Let time pass."""
        end = self._now + seconds
        while self._later and self._later[0][0] <= end:
            self._now, _, function = heapq.heappop(self._later)
            function()
        self._now = end


class Rig:
    """A tracker of two subtasks behind unreliable events; for "calm", the naive without faults."""

    def __init__(self, kind: str, **faults: Any) -> None:
        self.clock = Clock()
        self.told: list[dict[str, Any]] = []
        self.is_calm = kind == "calm"
        self.events = UnreliableEvents(self.clock.call_later)
        self.suffer(**faults)
        self.is_ours = kind == "ours"
        self.tracker: Any
        if self.is_ours:
            self.tracker = TaskTracker(
                "On", 2, self.note, call_later=self.clock.call_later, notify_progress=True
            )
        else:
            self.tracker = NaiveTracker("On", 2, self.note)

    def note(self, **payload: Any) -> None:
        """Note what the tracker tells."""
        self.told.append(payload)

    def suffer(self, **faults: Any) -> None:
        """Have the next events suffer this."""
        if not self.is_calm:
            self.events.change(EventFaults(**faults))

    def hear(self, name: str, **news: Any) -> None:
        """Send an event on its way to the tracker."""
        self.events.send(lambda: self.tracker.update_task(task_name=name, **news))

    @property
    def ends(self) -> list[dict[str, Any]]:
        """What was told of the end."""
        return [payload for payload in self.told if "result" in payload]

    @property
    def outcome(self) -> dict[str, str]:
        """What has become of the task, by what was told last."""
        assert self.ends, "nothing was told: the command hangs"
        status, result = self.ends[-1]["status"], self.ends[-1]["result"]
        return {
            "status": TaskStatus(status).name,
            "result_code": ResultCode(result[0]).name,
            "message": result[1],
        }


def doubled_ends_count_once(kind: str) -> None:
    """Defect 1: the end of one subtask, told twice, ends the task before the other."""
    rig = Rig(kind, double=1.0)
    rig.hear("a", **DONE)
    assert not rig.ends


def a_failure_is_not_forgotten(kind: str) -> None:
    """Defect 2: the outcome of the subtask that ended last is that of the task."""
    rig = Rig(kind)
    rig.hear("a", **FAILED)
    rig.hear("b", **DONE)
    assert_outcome(rig.outcome, "FAILED")


def the_end_is_told_once(kind: str) -> None:
    """Defect 3: a late update tells the end again."""
    rig = Rig(kind)
    rig.hear("a", **DONE)
    rig.hear("b", **DONE)
    rig.hear("b", status="COMPLETED")
    assert len(rig.ends) == 1


def a_late_update_changes_nothing(kind: str) -> None:
    """Defect 4: a second final status overwrites the first."""
    rig = Rig(kind)
    rig.hear("a", **DONE)
    rig.hear("b", **DONE)
    rig.hear("b", status="FAILED", result=(ResultCode.FAILED, "too late"))
    assert_outcome(rig.outcome, "OK")


def a_rejection_is_an_end(kind: str) -> None:
    """Defect 5: a subtask that was rejected is waited for without end."""
    rig = Rig(kind)
    rig.hear("a", **DONE)
    rig.hear("b", status="REJECTED", result=(ResultCode.REJECTED, "not now"))
    rig.clock.pass_on()
    assert rig.ends, "the command hangs"


def a_code_counts_more_than_a_text(kind: str) -> None:
    """Defect 6: a failure whose text has OK in it is a success."""
    rig = Rig(kind)
    rig.hear("a", **DONE)
    rig.hear("b", status="COMPLETED", result=(ResultCode.FAILED, "pump OK, valve stuck"))
    assert_outcome(rig.outcome, "FAILED")


def a_result_may_come_after_its_status(kind: str) -> None:
    """Defect 7: the result that is delayed when the status comes is not waited for."""
    rig = Rig(kind)
    rig.hear("a", **DONE)
    rig.hear("b", status="COMPLETED")
    rig.suffer(delay=1.0, delay_seconds=0.1)
    rig.hear("b", result=(ResultCode.FAILED, "no beam"))
    rig.clock.pass_on()
    assert len(rig.ends) == 1
    assert_outcome(rig.outcome, "FAILED", text="no beam")


def progress_never_goes_back(kind: str) -> None:
    """Defect 8: an update that was overtaken by a newer one is believed."""
    rig = Rig(kind)
    rig.hear("a", progress=40)
    rig.suffer(reorder=1.0)
    rig.hear("a", progress=60)
    rig.suffer()
    rig.hear("a", progress=80)
    rig.clock.pass_on()
    told = [payload["progress"] for payload in rig.told]
    assert told
    assert told == sorted(told)


def nonsense_does_no_harm(kind: str) -> None:
    """Defect 9: a status that does not exist breaks the event thread."""
    rig = Rig(kind)
    try:
        rig.hear("a", status="NO SUCH STATUS", progress="much")
    except Exception as error:
        raise AssertionError("the event thread was hit") from error
    rig.hear("a", **DONE)
    rig.hear("b", **DONE)
    assert_outcome(rig.outcome, "OK")


def a_callback_that_raises_does_no_harm(kind: str) -> None:
    """Defect 10: a fault of who is told reaches who tells."""
    rig = Rig(kind)

    def note(**_: Any) -> None:
        raise ValueError("somebody's bug")

    if rig.is_ours:
        rig.tracker.set_completed_callback(note)
    else:
        rig.tracker.callback = note
    rig.hear("a", **DONE)
    try:
        rig.hear("b", **DONE)
    except ValueError as error:
        raise AssertionError("the event thread was hit") from error


def a_final_status_that_overtakes_another_is_final(kind: str) -> None:
    """Defect 11: a status that was overtaken by the final one is believed after it."""
    rig = Rig(kind)
    rig.hear("a", **DONE)
    rig.suffer(reorder=1.0)
    rig.hear("b", status="IN_PROGRESS")
    rig.suffer()
    rig.hear("b", **FAILED)
    rig.clock.pass_on()
    assert_outcome(rig.outcome, "FAILED", text="no beam")


def an_end_that_comes_late_is_the_end(kind: str) -> None:
    """Defect 12: the end of a subtask that comes twice, and late, is counted for another."""
    rig = Rig(kind)
    rig.suffer(double=1.0)
    rig.hear("a", **DONE)
    rig.suffer(delay=1.0)
    rig.hear("b", **FAILED)
    rig.clock.pass_on()
    assert len(rig.ends) == 1
    assert_outcome(rig.outcome, "FAILED", text="no beam")


SCENARIOS = [
    doubled_ends_count_once,
    a_failure_is_not_forgotten,
    the_end_is_told_once,
    a_late_update_changes_nothing,
    a_rejection_is_an_end,
    a_code_counts_more_than_a_text,
    a_result_may_come_after_its_status,
    progress_never_goes_back,
    nonsense_does_no_harm,
    a_callback_that_raises_does_no_harm,
    a_final_status_that_overtakes_another_is_final,
    an_end_that_comes_late_is_the_end,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_kit_finds_a_planted_defect_and_ours_does_not_have_it(
    scenario: Callable[[str], None],
) -> None:
    """Rank 23: each by a scenario that passes on ours."""
    with pytest.raises(AssertionError):
        scenario("naive")
    scenario("ours")


@pytest.mark.parametrize(
    "scenario",
    [
        doubled_ends_count_once,
        progress_never_goes_back,
        a_final_status_that_overtakes_another_is_final,
        an_end_that_comes_late_is_the_end,
    ],
)
def test_it_is_the_faults_of_the_kit_that_find_a_defect(scenario: Callable[[str], None]) -> None:
    """As long as events come once, in time and in order, the naive tracker is as good as any."""
    scenario("calm")
