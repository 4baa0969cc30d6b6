"""What the demonstration does to a plan while it runs, and when."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tango

from milonga.control_model import ResultCode

__all__ = ["Nudge", "Nudger"]


@dataclass(frozen=True)
class Nudge:
    """One command to a device whose plan runs, and what must be true first.

    Parameters
    ----------
    command : str
        The command: a verb such as Pause.
    argument : str, optional
        Its argument.
    progress : int
        How far the plan must be, in percent.
    state : str
        What the engine must do.
    events : int
        How many events the plan must have recorded.
    """

    command: str
    argument: str | None = None
    progress: int = 0
    state: str = "running"
    events: int = 0


class Nudger:
    """Sends nudges in their order, each as soon as its time has come.

    Parameters
    ----------
    trl : str
        The device.
    nudges : sequence of Nudge
        What to do.
    plan : str
        The plan that they are for.
    """

    def __init__(self, trl: str, nudges: Sequence[Nudge], plan: str) -> None:
        self._proxy = tango.DeviceProxy(trl)
        self._waiting = list(nudges)
        self._plan = plan
        self._before = self._proxy.lastRunUid if nudges else ""

    def look(self) -> str:
        """Send the next nudge if it is time for it; return what came of it, or an empty text."""
        if not self._waiting or not self._is_time(self._waiting[0]):
            return ""
        nudge = self._waiting.pop(0)
        arguments = () if nudge.argument is None else (nudge.argument,)
        (code,), (text,) = self._proxy.command_inout(nudge.command, *arguments)
        word = "" if code == ResultCode.OK else f"{ResultCode(code).name}: "
        return f"{nudge.command} from another process: {word}{text}"

    @property
    def missed(self) -> str:
        """What was never done, as a deviation from the story; an empty text if all was."""
        commands = ", ".join(nudge.command for nudge in self._waiting)
        return f"never sent, since their time did not come: {commands}" if commands else ""

    def _is_time(self, nudge: Nudge) -> bool:
        proxy = self._proxy
        if proxy.runningPlan != self._plan or proxy.engineState != nudge.state:
            return False
        if nudge.argument is not None and nudge.argument not in proxy.actions:
            return False
        return proxy.planProgress >= nudge.progress and self._events() >= nudge.events

    def _events(self) -> int:
        uid = self._proxy.lastRunUid
        if uid == self._before:
            return 0
        try:
            text = (Path(self._proxy.dataFolder) / f"{uid}.jsonl").read_text(encoding="utf-8")
        except OSError:
            return 0
        # the last line may be in the making
        return sum(json.loads(line)[0] == "event" for line in text.split("\n")[:-1])
