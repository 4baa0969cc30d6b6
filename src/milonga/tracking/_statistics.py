"""What a tracker can be asked about itself."""

from dataclasses import dataclass

__all__ = ["TrackerStatistics"]


@dataclass(frozen=True, slots=True)
class TrackerStatistics:
    """Counters of a tracker, for people who look inside a running program.

    Parameters
    ----------
    updates : int
        Updates that were taken.
    late : int
        Updates after the task was over.
    duplicate : int
        Updates for a subtask that was over, while the task was not.
    ignored : int
        Updates in which nothing could be used.
    unknown : int
        Updates that name no subtask, or one too many, or a new one after the task was over.
    subtasks, final, results_missing : int
        Subtasks heard of, those that are over, and those of them whose result may still come.
    callbacks, callback_errors, coalesced : int
        Calls of the callback, those that raised, and notifications replaced by newer ones.
    """

    updates: int = 0
    late: int = 0
    duplicate: int = 0
    ignored: int = 0
    unknown: int = 0
    subtasks: int = 0
    final: int = 0
    results_missing: int = 0
    callbacks: int = 0
    callback_errors: int = 0
    coalesced: int = 0
