"""A simulated leaf: a device that does as its script says."""

from collections.abc import Callable

from tango.server import attribute, command, device_property

from milonga.control_model import OBS_COMMANDS, CommunicationStatus, ResultCode, TaskStatus
from milonga.devices._base import POWER_COMMANDS, MilongaDevice
from milonga.devices._own_commands import can_be_own
from milonga.devices._script import CommandScript, ScriptedOutcome, parse_script
from milonga.devices._tracked import LRC_REPLY, LrcReply, reply
from milonga.errors import CommandRejected
from milonga.lrc import Job, Reporter, Scheduler, Timer

__all__ = ["LeafSimulator"]


class ScriptedRun:
    """One run of a scripted command, in steps on the device's scheduler."""

    def __init__(self, name: str, script: CommandScript, scheduler: Scheduler) -> None:
        self._name = name
        self._script = script
        self._scheduler = scheduler
        self._report: Reporter | None = None
        self._timer: Timer | None = None
        self._step = 0
        self._aborted = False

    def start(self, report: Reporter) -> None:
        """Begin; on the scheduler's thread."""
        self._report = report
        if self._script.extend:
            report(extend=self._script.extend)
        if self._aborted:
            self._end_aborted()
        elif self._script.duration > 0 or self._script.outcome is ScriptedOutcome.NEVER:
            self._wait()
        else:
            self._end()

    def abort(self) -> None:
        """End as aborted, soon; from any thread."""
        self._aborted = True
        self._scheduler.call_soon(self._end_aborted)

    def _wait(self) -> None:
        if self._script.outcome is ScriptedOutcome.NEVER:
            return
        part = self._script.duration / (self._script.steps + 1)
        self._timer = self._scheduler.call_later(part, self._advance)

    def _advance(self) -> None:
        self._step += 1
        if self._step > self._script.steps:
            self._end()
        elif self._report is not None:
            self._report(progress=100 * self._step // (self._script.steps + 1))
            self._wait()

    def _end(self) -> None:
        if self._report is not None:
            status, result = self._script.result(self._name)
            self._report(status=status, result=result)

    def _end_aborted(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._report is not None:
            self._report(
                status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, "Command has been aborted")
            )


class LeafSimulator(MilongaDevice):
    """Does as its script says; stands in for a subsystem in demonstrations and tests."""

    Script = device_property(
        dtype=str, default_value="{}", doc="What is done with each command: JSON."
    )

    submittable = (*POWER_COMMANDS, *OBS_COMMANDS)

    def set_up(self) -> None:
        """Take the script of the property."""
        self._script_text: str = self.Script or "{}"
        self._script = parse_script(self._script_text)
        own = can_be_own(type(self), self._script)
        self.offer(own, [name for name, script in self._script.items() if script.safety])

    def make_job(self, name: str, argument: str | None) -> Job:  # noqa: ARG002 - simulated
        """Return what the script says of the command."""
        script = self._script.get(name) or self._script.get("*") or CommandScript()
        if script.outcome is ScriptedOutcome.REFUSED:
            raise CommandRejected(script.message or f"{name} was refused")
        run = ScriptedRun(name, script, self.scheduler)
        job = Job(name, run.start, run.abort)
        if name in POWER_COMMANDS:
            self._take_power(job)
        elif script.state is not None:
            self._take_state(job, script.state)
        job.safety = script.safety
        return job

    @attribute(dtype=str, max_dim_x=1)
    def script(self) -> str:
        """What is done with each command: a JSON object."""
        return self._script_text

    @script.write
    def script(self, text: str) -> None:
        self._script = parse_script(text)
        self._script_text = text

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def AssignResources(self, argument: str) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("AssignResources", argument))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def ReleaseResources(self, argument: str) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("ReleaseResources", argument))

    @command(dtype_out=LRC_REPLY)
    def ReleaseAllResources(self) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("ReleaseAllResources"))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def Configure(self, argument: str) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("Configure", argument))

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def Scan(self, argument: str) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("Scan", argument))

    @command(dtype_out=LRC_REPLY)
    def EndScan(self) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("EndScan"))

    @command(dtype_out=LRC_REPLY)
    def End(self) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("End"))

    @command(dtype_out=LRC_REPLY)
    def ObsReset(self) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("ObsReset"))

    @command(dtype_out=LRC_REPLY)
    def Restart(self) -> LrcReply:
        """Do as scripted."""
        return reply(self.submit("Restart"))

    def _take_power(self, job: Job) -> None:
        """Make a command change the operational state when it has worked."""
        job.on_started = lambda: self.power_started(job.name)
        job.on_ended = _if_it_worked(lambda: self.power_reached(job.name))

    def _take_state(self, job: Job, state: str) -> None:
        """Make a command change the State when it has worked."""
        job.on_ended = _if_it_worked(
            lambda: self.connected(CommunicationStatus.ESTABLISHED, state=state)
        )


def _if_it_worked(act: Callable[[], None]) -> Callable[[TaskStatus, object], None]:
    def ended(status: TaskStatus, result: object) -> None:
        worked = isinstance(result, tuple) and result[0] is ResultCode.OK
        if status is TaskStatus.COMPLETED and worked:
            act()

    return ended
