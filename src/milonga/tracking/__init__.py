"""Follow the subtasks of a task from many threads, and tell once what became of it.

Pure Python: this room knows nothing of Tango.
"""

from milonga.tracking._abort import AbortAnswer, summary_of_answers
from milonga.tracking._coercion import parse_result
from milonga.tracking._ledger import DETAILS_KEPT, MAX_ERRORS, MAX_UNDECLARED
from milonga.tracking._outcome import (
    AggregationOutcome,
    AggregationPolicy,
    PolicyFactory,
    join_result_codes,
)
from milonga.tracking._payload import lrc_callback
from milonga.tracking._policy import TaskAggregationPolicy
from milonga.tracking._rules import PolicyRules
from milonga.tracking._statistics import TrackerStatistics
from milonga.tracking._subtask import SubtaskResult, Verdict, verdict_of
from milonga.tracking._timer import CallLater, Cancellable
from milonga.tracking._tracker import TaskTracker

__all__ = [
    "DETAILS_KEPT",
    "MAX_ERRORS",
    "MAX_UNDECLARED",
    "AbortAnswer",
    "AggregationOutcome",
    "AggregationPolicy",
    "CallLater",
    "Cancellable",
    "PolicyFactory",
    "PolicyRules",
    "SubtaskResult",
    "TaskAggregationPolicy",
    "TaskTracker",
    "TrackerStatistics",
    "Verdict",
    "join_result_codes",
    "lrc_callback",
    "parse_result",
    "summary_of_answers",
    "verdict_of",
]
