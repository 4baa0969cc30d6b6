"""INTERNAL leaves: methods of the device itself as steps of a command."""

import logging
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tasks._context import Cancellable, ExecutionContext, LeafAction

__all__ = ["InternalCall", "InternalMethod", "internal_action"]

_logger = logging.getLogger(__name__)


class InternalCall:
    """What a method that is a step of a command works with.

    Where the context has a thread for methods, as on a device, the method may take its time: the
    methods of a device run there one after the other, those of safety commands on a thread of their
    own. It watches `abort_event`, and is given up when it does not end at its deadline or when it
    is aborted. It may also return None, and have its work go on elsewhere or by `call_later`, and
    report by `update`.

    Attributes
    ----------
    argument : str or None
        Argument of the step, a JSON text as a rule.
    abort_event : threading.Event
        Set when the step is to end.
    """

    command_id: str | None = None

    def __init__(
        self, argument: str | None, context: ExecutionContext, on_update: Callable[..., None]
    ) -> None:
        self.argument = argument
        self.abort_event = Event()
        self._context = context
        self._on_update = on_update

    def update(self, **keywords: Any) -> None:
        """Report `status`, `progress`, `result` or `error`; from any thread, never raises."""
        self._on_update(**keywords)

    def extend(self, seconds: float) -> None:
        """Ask for more time; it is granted up to the `max_timeout` of the nodes above."""
        self._on_update(extend=seconds)

    def call_later(self, delay: float, function: Callable[[], None]) -> Cancellable:
        """Call `function` on the runtime's thread after `delay` seconds."""
        return self._context.runtime.call_later(delay, function)

    def abort(self) -> None:
        """Ask the method to end, by `abort_event`."""
        self.abort_event.set()

    def close(self) -> None:
        """Nobody listens any more; work that goes on is told to end."""
        self.abort_event.set()

    def run(self, method: "InternalMethod") -> None:
        """Call the method, unless the step ended before its turn, and report what it returns."""
        if self.abort_event.is_set():
            self.update(status=TaskStatus.ABORTED, result=(ResultCode.ABORTED, "aborted"))
            return
        self.update(status=TaskStatus.IN_PROGRESS)
        try:
            result = method(self)
        except Exception as error:
            _logger.exception("method %r failed", method)
            text = f"{type(error).__name__}: {error}"
            self.update(status=TaskStatus.FAILED, result=(ResultCode.FAILED, text))
        else:
            if result is not None:
                self.update(status=TaskStatus.COMPLETED, result=result)


InternalMethod = Callable[[InternalCall], object]
"""A step of a command: returns ``(ResultCode, message)``, or None if it reports later."""


def internal_action(method: InternalMethod, argument: str | None = None) -> LeafAction:
    """Return the action of a leaf that calls `method`.

    Parameters
    ----------
    method : callable
        Takes an `InternalCall`.
    argument : str, optional
        Argument of the step.

    Returns
    -------
    LeafAction
        To be given to `LeafTask`.
    """

    def action(context: ExecutionContext, on_update: Callable[..., None]) -> InternalCall:
        call = InternalCall(argument, context, on_update)
        run = partial(call.run, method)
        if context.run_method is None:
            # In a later turn, so that the leaf can already be aborted while the method runs.
            context.runtime.call_soon(run)
        elif not context.run_method(run):
            text = "was not called: too many methods wait for one that does not end"
            on_update(status=TaskStatus.FAILED, result=(ResultCode.FAILED, text))
        return call

    return action
