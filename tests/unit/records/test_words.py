"""One table joins the vocabularies of the wire, of records and of analyses."""

import pytest

from milonga.control_model import HealthState, ResultCode, TaskStatus
from milonga.records import (
    SITUATIONS,
    AnalysisStatus,
    Phase,
    RecordStatus,
    Situation,
    situation_of,
    situation_of_analysis,
    situation_of_record,
)


@pytest.mark.parametrize("situation", list(Situation))
def test_the_wire_carries_every_situation(situation: Situation) -> None:
    """5.1: there and back; stopped looks like done, paused like running."""
    words = situation.words
    message = "timed out after 5 s" if situation is Situation.TIMED_OUT else "text"
    seen = situation_of(words.task_status, words.result_code, words.health, message)

    same = {Situation.STOPPED: Situation.DONE, Situation.PAUSED: Situation.RUNNING}
    assert seen is same.get(situation, situation)


@pytest.mark.parametrize("situation", list(Situation))
def test_a_record_carries_every_situation(situation: Situation) -> None:
    """5.1, QL-04: status and cause say all."""
    words = situation.words

    assert situation_of_record(words.phase, words.status, words.cause) is situation


@pytest.mark.parametrize("status", list(AnalysisStatus))
def test_every_status_of_an_analysis_is_a_situation(status: AnalysisStatus) -> None:
    """5.1, LU-01: LUTE's words and values."""
    assert situation_of_analysis(status).words.analysis is status


def test_the_values_are_those_of_lute() -> None:
    """LU-01: names and numbers."""
    names = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "STOPPED", "CANCELLED", "TIMEDOUT")
    assert {one.name: one.value for one in AnalysisStatus} == {
        name: number for number, name in enumerate(names)
    }


@pytest.mark.parametrize("status", list(TaskStatus))
@pytest.mark.parametrize("code", list(ResultCode))
def test_a_pair_that_makes_no_sense_is_never_success(status: TaskStatus, code: ResultCode) -> None:
    """QL-02: only COMPLETED with OK is."""
    seen = situation_of(status, code)

    assert (seen.words.status is RecordStatus.SUCCESS) == (
        status is TaskStatus.COMPLETED and code is ResultCode.OK
    )


def test_partial_success_needs_the_word_for_it() -> None:
    """Decision 2: COMPLETED, FAILED and DEGRADED; the payload has the name, not the value."""
    pair = (TaskStatus.COMPLETED, ResultCode.FAILED)

    assert situation_of(*pair, HealthState.DEGRADED) is Situation.PARTIAL
    assert situation_of(*pair, "DEGRADED") is Situation.PARTIAL
    assert situation_of(*pair, "FAILED") is Situation.FAILED


def test_a_record_is_open_or_over() -> None:
    """QL-03: PENDING is the word of all that is open, and of nothing else."""
    for words in SITUATIONS.values():
        assert (words.status is RecordStatus.PENDING) == (words.phase is not Phase.FINISHED)
