"""A plan that an engine runs now, and what was asked of it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from milonga.engine._handle import PlanFuture, PlanHandle, Verb
from milonga.engine._invocation import ChildCall, InvocationStatus
from milonga.engine._latch import Mark, SRLatch

__all__ = ["TIMEOUT", "Play"]

TIMEOUT = "timeout"
"""The reason of an abort because a plan's time is over."""


@dataclass(eq=False)
class Play:
    """A plan on the stage, and what was asked of it; for the event loop's thread."""

    handle: PlanHandle
    plan: Any
    subs: Any
    metadata: dict[str, Any]
    segment: PlanFuture[Any]
    segment_over: Callable[[], None] = lambda: None
    running: bool = False
    resuming: bool = False
    verb: Verb | None = None
    asked: tuple[Verb, str] | None = None
    pauses: list[PlanFuture[bool]] = field(default_factory=list)
    early_pauses: list[Callable[[], None]] = field(default_factory=list)
    held: list[Callable[[], None]] = field(default_factory=list)
    resumes: list[Callable[[], None]] = field(default_factory=list)
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    begun: float = 0.0
    """When it got the engine, on the monotonic clock; changes of latches from then on are news."""
    latches: dict[SRLatch, Mark] = field(default_factory=dict)
    calls: dict[InvocationStatus, ChildCall] = field(default_factory=dict)
    """The commands at children that are not over, also those for which nobody waits any more."""

    def __repr__(self) -> str:
        return f"the run of plan {self.handle.name!r}"
