"""What a device that commands others shows of its trees."""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import tango
from tango.server import attribute, command

from milonga.devices._child_trees import ChildTrees
from milonga.devices._children import ChildLinks
from milonga.devices._dry_run import Wanted, dry_run, refused
from milonga.devices._out_of_service import OutOfService
from milonga.devices._recording import RecordingDevice
from milonga.devices._task_tree import TaskTrees
from milonga.devices._tracked import latin1
from milonga.devices._tree_progress import RecentDurations
from milonga.errors import ArgumentError
from milonga.lrc import Sighting, Watch, network
from milonga.records import RecordStore, recent_durations
from milonga.tasks import ChildSpec

__all__ = ["TaskTreeDevice"]

_log = logging.getLogger(__name__)

WHOLE, DELTA = "taskTree", "taskTreeDelta"


class TaskTreeDevice(RecordingDevice):
    """A device that shows the task trees of its commands, live."""

    children: ChildLinks
    specs: tuple[ChildSpec, ...]
    _out: OutOfService

    def set_up(self) -> None:
        """Begin with no trees."""
        super().set_up()
        self.announce(WHOLE, DELTA)
        history = RecentDurations()
        self.task_trees = TaskTrees(
            self.get_name(),
            self.scheduler.call_later,
            self._versions,
            self._is_tree_watched,
            self._table.status_of,
            lambda changed: ChildTrees(self._watch_child, changed, self._start_of_child),
            history,
        )
        service = self._service
        if service is not None:  # a database may take its time, and nobody waits for this
            name = self.get_name()
            network().run(lambda: _seed(history, service.store, name), in_background=True)

    def delete_device(self) -> None:
        """Show no trees any more."""
        if hasattr(self, "task_trees"):  # not if a property was wrong
            self.task_trees.close()
        super().delete_device()

    @attribute(dtype=str)
    def taskTree(self) -> str:
        """The commands under way and the last that have ended, as trees: a JSON document.

        Its schema is milonga/lrc/task_tree.schema.json.
        """
        return self.task_trees.text() if hasattr(self, "task_trees") else ""

    @attribute(dtype=str)
    def taskTreeDelta(self) -> str:
        """What has changed in taskTree since the version before: a JSON document.

        Its schema is milonga/lrc/task_tree_delta.schema.json.
        """
        return self.task_trees.delta_text() if hasattr(self, "task_trees") else ""

    @command(dtype_in=str, dtype_out=str)
    def DryRun(self, request: str) -> str:
        """Tell what a command would do, and do nothing: a JSON object.

        Takes a JSON object: ``command``, and ``argument`` for one that has one. The answer has
        ``accepted``, ``refusals`` with their reasons, ``calls`` in their order, the children that
        are ``left_out``, the seconds that are ``expected``, and what it would be
        ``queued_behind``, if anything runs. The call of a plan has the ``devices`` that it would
        use, and the ``steps`` that it would ask them and children for, as far as can be foreseen.
        """
        try:
            wanted = Wanted.from_json(request)
            told = self._dry_run(wanted)
        except ArgumentError as error:
            told = refused("", "argument", str(error))
        return latin1(json.dumps({"device": self.get_name()} | told))

    def _dry_run(self, wanted: Wanted) -> dict[str, Any]:
        if self._failed_init:  # then there is nothing to compose with
            refusal = self.refusal_before_queue(wanted.command)
            return refused(wanted.command, "state", refusal[1] if refusal else "init_device failed")
        return dry_run(
            self,
            wanted,
            self.task_trees.history,
            lambda name: name in self._out.names,
            self._hindrance_of_call,
            self._runs_before(wanted.command),
            lambda: tango.AutoTangoAllowThreads(self),  # a plan's devices may take their time
        )

    def _runs_before(self, name: str) -> Mapping[str, Any] | None:
        """Say what a command would be queued behind; nothing is before an Abort."""
        running = [json.loads(text) for text in self._table.value("lrcExecuting")]
        if not running or name == "Abort":
            return None
        first = running[0]
        ahead = len(running) + len(self._table.value("lrcQueue"))
        return {"command": first["name"], "since": first["started_time"], "ahead": ahead}

    def _hindrance_of_call(self, target: str, name: str) -> Mapping[str, str]:
        """Say what stands against a call of a child."""
        child = self.children.device(target)
        if child is None:
            return {"problem": "communication with the child is not established"}
        if not child.is_connected:
            return {"problem": f"does not answer: {child.reason}"}
        if self.children.is_reached(target, name):
            return {"not_sent": f"already where {name} leads to"}
        until = self.children.confirmed_by(target, name)
        return {"until": until} if until else {}

    def _versions(self, whole: str, delta: str) -> Callable[[], None]:
        pushes = [self.numbered(WHOLE, whole), self.numbered(DELTA, delta)]
        return lambda: self.put(pushes)

    def _is_tree_watched(self) -> bool:
        return self._is_watched(WHOLE) or self._is_watched(DELTA)

    def _watch_child(
        self, trl: str, attribute_name: str, on_sighting: Callable[[Sighting], None]
    ) -> Watch | None:
        return self.children.watch(trl, attribute_name, on_sighting)

    def _start_of_child(self, trl: str) -> str:
        child = self.children.device(trl)
        return child.server_start if child is not None else ""


def _seed(history: RecentDurations, store: RecordStore, device: str) -> None:
    """Learn from the records how long commands took before this process."""
    try:
        history.seed(recent_durations(store, device))
    except Exception:  # noqa: BLE001 - without it there is no time left to tell, and that is all
        _log.warning("%s: how long its commands took cannot be read", device, exc_info=True)
