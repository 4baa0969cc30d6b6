"""What is wrong with the events of one command is told from the events alone."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc._invocation import Invocation
from milonga.lrc._irregular import HEARD_KEPT, KEPT, EventJudge
from milonga.lrc._reading import CommandNews
from milonga.tracking import AbortAnswer

UID = "1_2_On"
LIFE = [
    CommandNews(UID, TaskStatus.STAGING),
    CommandNews(UID, TaskStatus.QUEUED),
    CommandNews(UID, TaskStatus.IN_PROGRESS),
    CommandNews(UID, progress=33),
    CommandNews(UID, progress=66),
    CommandNews(UID, TaskStatus.COMPLETED, result=[0, "done"]),
]


class Nowhere:
    """A carrier that carries nothing."""

    name = "a/b/c"

    def __init__(self) -> None:
        self.aborts = 0

    def abort(self, invocation: Invocation) -> None:
        """Count."""
        self.aborts += 1

    def abort_grace(self) -> float:
        """Return nothing."""
        return 0.0

    def look(self, invocation: Invocation) -> None:
        """See nothing."""
        invocation.looked()

    def forget(self, invocation: Invocation) -> None:
        """Forget nothing."""


def test_a_regular_life_has_nothing_irregular() -> None:
    """Every event once, in order."""
    judge = EventJudge()
    assert [judge.heard(news, over=False) for news in LIFE] == [""] * len(LIFE)


@given(st.lists(st.integers(1, 3), min_size=len(LIFE), max_size=len(LIFE)), st.randoms())
def test_each_repetition_counts_as_one_whatever_the_order(repeats: list[int], rng: object) -> None:
    """Doubled events are counted exactly."""
    events = [news for news, n in zip(LIFE, repeats, strict=True) for _ in range(n)]
    rng.shuffle(events)  # type: ignore[attr-defined]
    judge = EventJudge()
    for news in events:
        judge.heard(news, over=False)
    assert judge.counts["doubled"] == len(events) - len(LIFE)
    assert len(judge.notes) <= KEPT


def test_what_comes_behind_its_successor_is_out_of_order() -> None:
    """By status, or by progress."""
    judge = EventJudge()
    staging, queued, working, third, twothirds, _ = LIFE
    kinds = [judge.heard(news, over=False) for news in (queued, staging, working, twothirds, third)]
    assert kinds == ["", "reordered", "", "", "reordered"]
    assert [note["kind"] for note in judge.notes] == ["reordered", "reordered"]


def test_a_text_of_progress_may_come_again_but_not_twice_running() -> None:
    """A telescope slews, tracks and slews again: that is news, and was taken for a repetition."""
    seen: list[object] = []
    invocation = Invocation(Nowhere(), "Scan", None, lambda **more: seen.append(more["progress"]))
    texts = ["slewing", "slewing", "tracking", "slewing"]
    kinds = [invocation.heard(CommandNews(UID, progress=text)) for text in texts]
    assert kinds == ["", "doubled", "", ""]
    assert seen == ["slewing", "tracking", "slewing"]


@pytest.mark.parametrize("form", [str, "frame {}".format])
def test_only_so_many_events_are_remembered(form: Callable[[int], object]) -> None:
    """Of a command that tells each of its million frames, too."""
    judge = EventJudge()
    for number in range(2 * HEARD_KEPT):
        judge.heard(CommandNews(UID, progress=number), over=False)
        judge.heard(CommandNews(UID, progress=form(number)), over=False)
    assert len(judge._heard) <= HEARD_KEPT


def test_an_end_that_a_look_found_makes_its_event_late() -> None:
    """The outcome was known before; it was also missing until then."""
    news: list[dict[str, object]] = []
    invocation = Invocation(Nowhere(), "On", None, lambda **more: news.append(more))
    end = LIFE[-1]
    assert invocation.found(end)
    assert invocation.heard(end) == "late"
    assert invocation.heard(end) == "doubled"
    assert [more["status"] for more in news if "status" in more] == [TaskStatus.COMPLETED]
    irregular = invocation.irregular()
    assert {key: irregular[key] for key in ("missing", "late", "doubled")} == {
        "missing": 1, "late": 1, "doubled": 1,
    }  # fmt: skip


def test_progress_that_is_overtaken_is_not_passed_on() -> None:
    """It never goes back."""
    seen: list[object] = []
    invocation = Invocation(Nowhere(), "On", None, lambda **more: seen.append(more["progress"]))
    for progress in (66, 33, 70):
        invocation.heard(CommandNews(UID, progress=progress))
    assert seen == [66, 70]


def test_only_the_first_answer_to_an_abort_counts_and_it_comes_after_close_too() -> None:
    """Whoever wants signs is told; whoever does not is not."""
    for signs in (True, False):
        told: list[dict[str, object]] = []
        carrier = Nowhere()
        invocation = Invocation(carrier, "On", None, lambda told=told, **more: told.append(more))
        invocation.signs = signs
        invocation.abort()
        invocation.close()
        invocation.abort_answered(AbortAnswer.REFUSED, "no")
        invocation.abort_answered(AbortAnswer.ACK)
        assert carrier.aborts == 1
        assert invocation.abort_answer is AbortAnswer.REFUSED
        assert told == ([{"abort_ack": "REFUSED", "abort_text": "no"}] if signs else [])


def test_a_command_that_is_aborted_before_it_is_sent_is_not_sent() -> None:
    """Its answer is that there is nothing to abort any more."""
    invocation = Invocation(Nowhere(), "On", None, None)
    assert not invocation.withdrawn()
    invocation.abort()
    assert invocation.withdrawn()
    outcome = invocation.outcome()
    assert outcome is not None
    assert (outcome.status, outcome.result_code) == (TaskStatus.ABORTED, ResultCode.ABORTED)
    assert invocation.abort_answer is AbortAnswer.ACK
