"""The safety commands of a device, which overtake all others.

One of each name runs; a call of one that runs joins it, and ends with it. They have no place in
the queue and wait for nobody, so there are never more of them than the device has safety commands.
"""

from dataclasses import dataclass, field

from milonga.control_model import TaskStatus
from milonga.lrc._ending import End, Entry, UnderWay
from milonga.lrc._job import Job

__all__ = ["MAX_JOINED", "Overtakers", "remarked"]

MAX_JOINED = 16
"""How many calls can join a command under ids of their own; more are told the id of the first."""

IDS_TOLD = 32
"""Of how many commands that were overtaken the ids are kept."""


@dataclass(slots=True, eq=False)
class _Running(UnderWay):
    """A safety command that runs.

    Parameters
    ----------
    job : Job
        The one that does the work.
    """

    job: Job = field(kw_only=True)


class Overtakers:
    """The safety commands that run. Guarded by the lock of the command server."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def __bool__(self) -> bool:
        return bool(self._running)

    @property
    def members(self) -> list[Entry]:
        """Ids and jobs, of those that have joined as well."""
        return [entry for running in self._running.values() for entry in running.members]

    def job(self, uid: str) -> Job | None:
        """Return the command of this id, if it runs."""
        running = self._running.get(uid)
        return None if running is None else running.job

    def running(self, name: str) -> UnderWay | None:
        """Return the command of this name, if one runs that is not about to end."""
        running = (entry for entry in self._running.values() if entry.job.name == name)
        return next((entry for entry in running if not entry.job.is_ending), None)

    def crowded(self, name: str) -> str:
        """Return the id of the command that no further call can join; empty if there is none."""
        running = self.running(name)
        return running.uid if running is not None and len(running.members) > MAX_JOINED else ""

    def begin(
        self, uid: str, job: Job, current: Entry | None, waiting: list[str], *, aborting: bool
    ) -> tuple[UnderWay, list[Job]]:
        """Take up a command, note what it passes by, and return it with what it interrupts.

        Parameters
        ----------
        uid, job
            The safety command.
        current : tuple, optional
            The command of the queue that runs.
        waiting : list of str
            Ids of those that wait.
        aborting : bool
            Whether an abort is under way.
        """
        running = [(known, entry.job) for known, entry in self._running.items()]
        beside = [*running, *([current] if current is not None else [])]
        beside = [entry for entry in beside if not entry[1].is_ending]
        ids = [known for known, _ in beside]
        facts = {
            "interrupted": ids if job.interrupts else [],
            "beside": [] if job.interrupts else ids,
            "overtook": waiting[:IDS_TOLD],
        }
        job.bypass = {key: value for key, value in facts.items() if value}
        job.remark = _words(job, ids, len(waiting), aborting=aborting)
        under_way = self._running[uid] = _Running(uid, job=job)
        if not job.interrupts:
            return under_way, []
        for _, other in beside:
            other.remark = f"interrupted by {job.name} ({uid})"
        return under_way, [other for _, other in beside]

    def remove(self, uid: str, end: End) -> list[Entry]:
        """Take note of how a command has ended; return those that end with it."""
        running = self._running.pop(uid, None)
        if running is None:
            return []
        running.end = end
        return [entry for entry in running.members if entry[1] is not running.job]


def _words(job: Job, ids: list[str], waiting: int, *, aborting: bool) -> str:
    parts = [f"{'interrupted' if job.interrupts else 'ran beside'} {', '.join(ids)}"] if ids else []
    parts += [f"overtook {waiting} waiting"] if waiting else []
    parts += ["did not wait for an abort"] if aborting else []
    return "; ".join(parts)


def remarked(job: Job, status: TaskStatus, result: object) -> object:
    r"""Return the result of a command with what is to be said of it besides, in its first line.

    Examples
    --------
    >>> job = Job("Stow", print, safety=True)
    >>> job.remark = "overtook 2 waiting"
    >>> remarked(job, TaskStatus.COMPLETED, (0, "failed\nCauses: wind"))
    (0, 'failed; overtook 2 waiting\nCauses: wind')
    """
    told = job.safety or status is TaskStatus.ABORTED
    if not (job.remark and told and isinstance(result, tuple | list) and result):
        return result
    *code, text = result
    head, line_end, rest = str(text).partition("\n")
    return (*code, f"{head}; {job.remark}{line_end}{rest}")
