"""What a device shows of steps that wait for people, and how these are answered."""

import tango
from tango.server import attribute, command

from milonga.control_model import ResultCode
from milonga.devices._steps import ClearWish, StepDesk
from milonga.devices._task_tree_device import TaskTreeDevice
from milonga.devices._tracked import LRC_REPLY, LrcReply, reply
from milonga.errors import MilongaError

__all__ = ["AskingDevice"]

STEPS = "pendingSteps"


class AskingDevice(TaskTreeDevice):
    """A device whose commands may wait for people."""

    def set_up(self) -> None:
        """Begin with no steps."""
        super().set_up()
        self.announce(STEPS)
        self.steps = StepDesk(
            self.get_name(),
            lambda text: self.publish(STEPS, text),
            self._records.recorder if self._records is not None else None,
        )

    @attribute(dtype=str)
    def pendingSteps(self) -> str:
        """The steps that wait for a person: a JSON array of objects.

        Each has task, node, step, prompt, input (a JSON schema or null), since and until.
        """
        return self.steps.text() if hasattr(self, "steps") else "[]"

    @command(dtype_in=str, dtype_out=LRC_REPLY)
    def ClearStep(self, wish: str) -> LrcReply:
        """Answer a step that waits; takes a JSON object.

        ``task`` is the command's id; any of ``step``, its name; ``answer``, the input that it
        asks for; ``ok``, false to refuse it; ``text``, the reason.
        """
        if self._failed_init:
            return reply(self.not_set_up("ClearStep"))
        by = self.issuer()
        try:
            with tango.AutoTangoAllowThreads(self):
                return reply(self.steps.clear(ClearWish.from_json(wish), by or ""))
        except MilongaError as error:
            return reply((ResultCode.REJECTED, str(error)))
