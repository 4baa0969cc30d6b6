"""What our engine costs beside bluesky's own, and what a status costs.

Both engines are measured in one run, in short rounds that take turns, because the machine's speed
varies from run to run; a ratio is the median of those of the rounds. All threads are kept on one
core: where the kernel puts the caller and the event loop makes more of a difference than which
engine it is. Printed are the time from the call of a plan of one
null message to its result, the messages per second of a long plan, what it takes to make a status
and report it finished, and how many threads very many pending ones need.

``python -m benchmarks.engine`` prints a table, with ``--json`` one JSON object.
"""

import argparse
import contextlib
import gc
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from bluesky.run_engine import RunEngine as BlueskyEngine
from bluesky.utils import DuringTask, Msg

from milonga.engine import RunEngine, Status

TURNS = 25
PLANS = 100
"""Plans of one message in a round."""

MESSAGES = 4_000
"""Messages of the long plan."""

STATUSES = 10_000

Run = Callable[[Iterator[Msg]], object]


def nulls(count: int) -> Iterator[Msg]:
    """Yield messages that do nothing."""
    for _ in range(count):
        yield Msg("null")


def dispatch_seconds(run: Run) -> float:
    """Return the median time from a plan's call to its result."""
    seconds = []
    for _ in range(PLANS):
        begun = time.perf_counter()
        run(nulls(1))
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def message_seconds(run: Run) -> float:
    """Return the time that a message of a long plan takes."""
    begun = time.perf_counter()
    run(nulls(MESSAGES))
    return (time.perf_counter() - begun) / MESSAGES


def in_turns(
    seconds: Callable[[Run], float], bare: Run, ours: Run, turns: int
) -> tuple[float, float, float]:
    """Return the medians of both in seconds, and of what ours took of bluesky's in a round."""
    pairs = []
    for number in range(turns):
        # who comes first in a round would always meet the same moment of the machine
        first, second = (bare, ours) if number % 2 else (ours, bare)
        found = seconds(first), seconds(second)
        pairs.append(found if number % 2 else found[::-1])
    return (
        statistics.median(theirs for theirs, _ in pairs),
        statistics.median(own for _, own in pairs),
        statistics.median(own / theirs for theirs, own in pairs),
    )


def status_seconds() -> float:
    """Return the time that making a status and reporting it finished takes."""
    begun = time.perf_counter()
    for _ in range(STATUSES):
        Status(timeout=60.0).set_finished()
    return (time.perf_counter() - begun) / STATUSES


def status_threads() -> int:
    """Return how many threads very many pending statuses need, all with a timeout."""
    before = threading.active_count()
    pending = [Status(timeout=60.0) for _ in range(STATUSES)]
    threads = threading.active_count() - before
    for each in pending:
        each.set_finished()
    return threads


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core where that can be said."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@one_core()
def measure(turns: int) -> dict[str, Any]:
    """Return all figures; the garbage collector runs between, not in them."""
    threads = status_threads()  # first: the thread for timeouts stays for a while
    bare = BlueskyEngine(context_managers=[], during_task=DuringTask())
    gc.collect()
    gc.disable()
    try:
        with RunEngine() as engine:

            def ours(plan: Iterator[Msg]) -> object:
                return engine(plan).result(60.0)

            in_turns(dispatch_seconds, bare, ours, 2)  # what is slow once does not count
            dispatch = in_turns(dispatch_seconds, bare, ours, turns)
            message = in_turns(message_seconds, bare, ours, turns)
        status = statistics.median(status_seconds() for _ in range(turns))
    finally:
        gc.enable()
    bare.loop.call_soon_threadsafe(bare.loop.stop)
    return {
        "dispatch_us": {
            "bluesky": round(1e6 * dispatch[0], 1),
            "ours": round(1e6 * dispatch[1], 1),
        },
        "dispatch_ratio": round(dispatch[2], 3),
        "messages_per_s": {"bluesky": round(1 / message[0]), "ours": round(1 / message[1])},
        "message_ratio": round(1 / message[2], 3),
        "status_us": round(1e6 * status, 2),
        "status_threads": threads,
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    lines = [f"{'':24}{'bluesky':>10}{'ours':>10}{'ratio':>8}"]
    for name, key, ratio in (
        ("dispatch of a plan, us", "dispatch_us", "dispatch_ratio"),
        ("messages per s", "messages_per_s", "message_ratio"),
    ):
        pair = figures[key]
        lines.append(f"{name:24}{pair['bluesky']:>10}{pair['ours']:>10}{figures[ratio]:>8.2f}")
    lines.append(f"{'status, us':24}{'':10}{figures['status_us']:>10}")
    lines.append(f"{f'threads, {STATUSES} pending':24}{'':10}{figures['status_threads']:>10}")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--turns", type=int, default=TURNS, help="rounds of each engine")
    options = parser.parse_args()
    figures = measure(options.turns)
    print(json.dumps(figures) if options.json else table(figures))


if __name__ == "__main__":
    main()
