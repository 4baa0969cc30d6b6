"""Plan stubs for commands of child devices, and for the progress of the plan itself."""

# bluesky is annotated in parts only.
# mypy: untyped-calls-exclude="bluesky"

import uuid
from collections.abc import Generator, Hashable, Iterable
from typing import Any

from bluesky import plan_stubs as bps
from bluesky.utils import Msg

from milonga.engine._invocation import InvocationStatus

__all__ = ["declare_steps", "invoke", "invoke_all", "step_done"]


def invoke(
    child: str,
    command: str,
    argument: str | None = None,
    *,
    group: Hashable | None = None,
    wait: bool | None = None,
    timeout: float | None = None,
) -> Generator[Msg, Any, InvocationStatus]:
    """Give a command to a child device.

    A child whose command fails ends the plan with `FailedStatus`, unless the plan catches that. A
    command that still runs when the plan is aborted or has ended is aborted. A message that is
    repeated after a pause does not give the command twice.

    Parameters
    ----------
    child : str
        Name of the child, as the engine's `caller` knows it.
    command : str
        The command.
    argument : str, optional
        Its argument, a JSON text as a rule.
    group : hashable, optional
        Group to wait for later. Without one the plan waits here.
    wait : bool, optional
        Whether to wait here.
    timeout : float, optional
        Seconds after which the command counts as failed, and is aborted at the child.

    Returns
    -------
    InvocationStatus
        Its `outcome` has the result code and the message of the child.
    """
    wait = group is None if wait is None else wait
    group = group or f"invoke-{uuid.uuid4().hex[:8]}"
    status = yield Msg("invoke", child, command, argument, group=group, timeout=timeout)
    if wait:
        yield from bps.wait(group=group)
    return status  # type: ignore[no-any-return]


def invoke_all(
    children: Iterable[str],
    command: str,
    argument: str | None = None,
    *,
    group: Hashable | None = None,
    wait: bool | None = None,
    timeout: float | None = None,
) -> Generator[Msg, Any, list[InvocationStatus]]:
    """Give a command to several children at once; parameters as for `invoke`.

    Returns
    -------
    list of InvocationStatus
        In the order of `children`.
    """
    wait = group is None if wait is None else wait
    group = group or f"invoke-{uuid.uuid4().hex[:8]}"
    statuses = []
    for child in children:
        status = yield from invoke(
            child, command, argument, group=group, wait=False, timeout=timeout
        )
        statuses.append(status)
    if wait and statuses:
        yield from bps.wait(group=group)
    return statuses


def declare_steps(total: int) -> Generator[Msg, Any, None]:
    """Announce how many steps the plan has, so that it has a progress."""
    yield Msg("declare_steps", None, total)


def step_done(count: int = 1) -> Generator[Msg, Any, None]:
    """Count steps as done."""
    yield Msg("step_done", None, count)
