"""What an operator may do to a plan while it runs, and the mark of plans that go on until told.

A plan that has actions waits for their latches by `plan_stubs.wait_for_actions`; a command or a
button sets them. The misspelt names of the original are kept as aliases.
"""

import functools
import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, overload, runtime_checkable

from milonga.engine._latch import SRLatch

__all__ = [
    "Action",
    "ContinousPlan",
    "ContinuousPlan",
    "SRLatch",
    "continous",
    "continuous",
    "is_continuous",
]

_making = threading.Lock()


@dataclass(kw_only=True, eq=False)
class Action:
    """Something that an operator can do while a plan runs.

    Actions are themselves: two of the same name are different ones.

    Parameters
    ----------
    name : str
        What a client calls it.
    description : str, optional
        A sentence for the operator.
    togglable : bool, optional
        Whether it has two lasting states; otherwise it is momentary.
    toggle_states : tuple of str, optional
        Labels of the states: set, reset.

    Examples
    --------
    >>> snap = Action(name="snap")
    >>> snap.trigger()
    >>> snap.event_map["snap"].is_set()
    True
    """

    name: str
    description: str = ""
    togglable: bool = False
    toggle_states: tuple[str, str] = ("On", "Off")
    _latch: SRLatch | None = field(default=None, init=False, repr=False)

    @property
    def latch(self) -> SRLatch:
        """The action's latch, made when it is first asked for."""
        if self._latch is None:
            with _making:
                if self._latch is None:
                    self._latch = SRLatch()
        return self._latch

    @property
    def event_map(self) -> dict[str, SRLatch]:
        """What `wait_for_actions` takes: the latch by the action's name."""
        return {self.name: self.latch}

    @property
    def state_label(self) -> str:
        """The label of the state in which a togglable action is."""
        return self.toggle_states[0 if self.latch.is_set() else 1]

    def trigger(self) -> None:
        """Do a momentary action: the plan sees it once, now or at its next wait."""
        self.latch.trigger()

    def toggle(self, on: bool | None = None) -> bool:
        """Put a togglable action into a state, or into the other one; return whether it is on.

        Raises
        ------
        ValueError
            If the action is momentary.
        """
        if not self.togglable:
            raise ValueError(f"action {self.name!r}: found a momentary one, expected a togglable")
        wanted = not self.latch.is_set() if on is None else on
        if wanted:
            self.latch.set()
        else:
            self.latch.reset()
        return wanted


@runtime_checkable
class ContinuousPlan(Protocol):
    """A plan that goes on until it is told to end, marked so by `continuous`."""

    __togglable__: bool
    __pausable__: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Make the plan."""
        ...


_Plan = TypeVar("_Plan", bound=Callable[..., Any])


@overload
def continuous(plan: _Plan, /) -> _Plan: ...


@overload
def continuous(*, togglable: bool = True, pausable: bool = False) -> Callable[[_Plan], _Plan]: ...


def continuous(plan: Any = None, /, *, togglable: bool = True, pausable: bool = False) -> Any:
    """Mark a plan as one that goes on until it is told to end.

    The function itself is returned, with two attributes; of several marks the last one counts.

    Parameters
    ----------
    plan : callable
        The plan.
    togglable : bool, optional
        Whether a client starts and stops it by one switch.
    pausable : bool, optional
        Whether it may be paused.

    Raises
    ------
    TypeError
        If it is not a callable, or one that takes no attributes, such as a bound method.

    Examples
    --------
    >>> @continuous(pausable=True)
    ... def live():
    ...     yield from ()
    >>> isinstance(live, ContinuousPlan), live.__pausable__
    (True, True)
    """

    def mark(function: _Plan) -> _Plan:
        if not callable(function):
            raise TypeError(f"continuous: found {function!r}, expected a plan function")
        if inspect.ismethod(function):
            text = "decorate the function in its class, since a bound method takes no attributes"
            raise TypeError(f"continuous: found the bound method {function!r}; {text}")
        function.__togglable__ = togglable  # type: ignore[attr-defined]
        function.__pausable__ = pausable  # type: ignore[attr-defined]
        return function

    return mark if plan is None else mark(plan)


def is_continuous(plan: object) -> bool:
    """Return whether a plan is marked, also inside `functools.partial` and wrappers.

    Examples
    --------
    >>> @continuous
    ... def live(step):
    ...     yield from ()
    >>> is_continuous(functools.partial(live, 3))
    True
    """
    while True:
        if isinstance(plan, ContinuousPlan):
            return True
        if isinstance(plan, functools.partial):
            plan = plan.func
        elif hasattr(plan, "__wrapped__"):
            plan = plan.__wrapped__
        else:
            return False


continous = continuous
ContinousPlan = ContinuousPlan
