"""Whether probes tell of an event loop that a plan blocks."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("tango")

from milonga.devices._monitoring import LOOP_DEAD_AFTER, STUCK_AFTER, watch_event_loop
from milonga.monitoring import Check, Monitor


@dataclass
class Lags:
    """Figures of a watchdog, and the watchdog."""

    worst: float = 0.0
    blocked: int = 0

    def statistics(self) -> "Lags":
        """Return them."""
        return self


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10.0)
    loop.close()


def test_a_loop_that_is_blocked_for_ever_is_not_ready_and_in_the_end_not_alive(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Readiness first; a restart only if nothing else is left to hope for."""
    now, free, monitor = [0.0], threading.Event(), Monitor()
    watch_event_loop(loop, Lags(), monitor, lambda: now[0])
    assert monitor.problems(Check.LIVE | Check.READY) == []

    loop.call_soon_threadsafe(free.wait, 30.0)
    told = []
    for seconds in (0.0, STUCK_AFTER, LOOP_DEAD_AFTER - 1.0, LOOP_DEAD_AFTER):
        now[0] = seconds
        told.append([bool(monitor.problems(check)) for check in (Check.READY, Check.LIVE)])
    free.set()

    assert told == [[False, False], [True, False], [True, False], [True, True]]
