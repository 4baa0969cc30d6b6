"""Milonga's trackers and task trees inside a device that derives from SKABaseDevice.

For teams that keep their ska-tango-base devices: a component manager submits a task tree as it
submits any task, and its ``task_callback`` is told in the shape that ska-tango-base has,
``task_callback(status=…, progress=…, result=…, exception=…)``.

Give the function that `tree_task` returns to ``submit_task`` of a TaskExecutorComponentManager::

    class MyManager(TaskExecutorComponentManager):
        def on(self, task_callback=None):
            return self.submit_task(
                tree_task(lambda: compose("On", self.map["On"], None, children, {}), self.context),
                task_callback=task_callback,
            )

Nothing here imports ska-tango-base, so there is nothing that could go out of step with it.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

import tango

from milonga.control_model import ResultCode, TaskStatus
from milonga.lrc import Invocation, LrcDevice, Scheduler
from milonga.tasks import BaseTask, ExecutionContext

__all__ = ["ChildCaller", "make_context", "task_callback_of", "tree_task"]

ABORT_LOOK = 0.05
"""Seconds between looks at ska-tango-base's abort event, which cannot call anybody."""

TaskCallback = Callable[..., None]


class ChildCaller:
    """The way from a task tree to devices with long-running commands, by their locators.

    Parameters
    ----------
    trls : iterable of str
        Tango resource locators of the children.
    """

    def __init__(self, trls: Iterable[str]) -> None:
        self._devices = {trl: LrcDevice(trl) for trl in trls}

    def invoke(
        self, target: str, command: str, argument: str | None, on_update: Callable[..., None]
    ) -> Invocation:
        """Start a command at the child `target`."""
        return self._devices[target].start(command, argument, on_update, signs=True)

    def close(self) -> None:
        """Give the links back; to be called in ``delete_device``."""
        for device in self._devices.values():
            device.close()


def make_context(trls: Iterable[str], name: str = "milonga") -> ExecutionContext:
    """Return what task trees over these children work with.

    Parameters
    ----------
    trls : iterable of str
        Tango resource locators of the children.
    name : str
        Name of the thread that starts the steps.
    """
    scheduler = Scheduler(name, tango.EnsureOmniThread)
    return ExecutionContext(runtime=scheduler, caller=ChildCaller(trls))


def task_callback_of(task_callback: TaskCallback | None) -> Callable[..., None]:
    """Return a callback for a tracker that tells a ``task_callback`` of ska-tango-base.

    A tracker's errors become ``exception``, and what ska-tango-base does not know is left out.

    Examples
    --------
    >>> tell = task_callback_of(lambda **news: print(news))
    >>> tell(task_name="On", progress=40, devices=["a/b/c"])
    {'progress': 40}
    """

    def tell(**payload: Any) -> None:
        if task_callback is None:
            return
        news = {
            key: payload[key]
            for key in ("status", "progress", "result")
            if payload.get(key) is not None
        }
        if payload.get("error"):
            news["exception"] = tango.DevFailed(*payload["error"])
        if news:
            task_callback(**news)

    return tell


def tree_task(make_tree: Callable[[], BaseTask], context: ExecutionContext) -> Callable[..., None]:
    """Return a task function for ``submit_task`` that runs a task tree to its end.

    Parameters
    ----------
    make_tree : callable
        Makes the tree anew for each run.
    context : ExecutionContext
        What the tree works with; see `make_context`.

    Returns
    -------
    callable
        Takes ``task_callback`` and ``task_abort_event`` by keyword. It occupies the executor's
        thread until the tree has ended, as tasks of ska-tango-base do.
    """

    def run(
        *,
        task_callback: TaskCallback | None = None,
        task_abort_event: threading.Event | None = None,
        **_: object,
    ) -> None:
        tell = task_callback_of(task_callback)
        tree = make_tree()
        tell(status=TaskStatus.IN_PROGRESS)
        tree.start(context)
        last = 0
        while not tree.wait(timeout=ABORT_LOOK):
            if task_abort_event is not None and task_abort_event.is_set():
                tree.abort()
            if tree.tracker.progress > last:
                last = tree.tracker.progress
                tell(progress=last)
        code, message = tree.tracker.overall_resultcode
        tell(status=tree.tracker.get_status(), result=(ResultCode(code), message))

    return run
