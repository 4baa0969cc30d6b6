"""What an update of a tracker costs, and that it costs the same for any number of subtasks.

``python -m benchmarks.tracker`` prints tables, with ``--json`` one JSON object.
"""

import argparse
import gc
import json
import statistics
import threading
import time
from typing import Any

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking import TaskTracker

SIZES = (10, 1_000, 100_000)
THREADED_SIZES = (10_000, 100_000)
THREADS = 8
SUBTASKS_PER_TURN = 20_000  # a small task is repeated until it has had so many subtasks
TURNS = 7


def one_round(size: int) -> float:
    """Return the seconds per update when so many subtasks begin and end in one thread."""
    tracker = TaskTracker("task", size)
    names = [f"subtask-{number}" for number in range(size)]
    begun = time.perf_counter()
    for name in names:
        tracker.update_task(task_name=name, status=TaskStatus.IN_PROGRESS)
    for name in names:
        tracker.update_task(
            task_name=name, status=TaskStatus.COMPLETED, result=(ResultCode.OK, "done")
        )
    seconds = time.perf_counter() - begun
    assert tracker.get_status() is TaskStatus.COMPLETED
    return seconds / (2 * size)


def us_per_update() -> dict[int, float]:
    """Return for each size the median cost of an update in microseconds, completion included.

    The sizes take turns, so that a busy moment of the machine meets all of them.
    """
    costs: dict[int, list[float]] = {size: [] for size in SIZES}
    for _ in range(TURNS):
        for size in SIZES:
            rounds = max(1, SUBTASKS_PER_TURN // size)
            costs[size].append(statistics.median(one_round(size) for _ in range(rounds)))
    return {size: 1e6 * statistics.median(found) for size, found in costs.items()}


def threaded_seconds(size: int, threads: int = THREADS) -> float:
    """Return the seconds until a task of so many subtasks, ended by several threads, is over."""
    tracker = TaskTracker("task", size)
    start = threading.Barrier(threads + 1)

    def work(first: int) -> None:
        start.wait()
        for number in range(first, size, threads):
            tracker.update_task(
                task_name=f"subtask-{number}",
                status=TaskStatus.COMPLETED,
                result=(ResultCode.OK, "done"),
            )

    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    begun = time.perf_counter()
    assert tracker.wait_for_task_completion(timeout=120)
    seconds = time.perf_counter() - begun
    for worker in workers:
        worker.join()
    return seconds


def measure() -> dict[str, Any]:
    """Return all figures; the garbage collector runs between, not in them."""
    gc.collect()
    gc.disable()
    try:
        single = us_per_update()
        threaded = {
            # The best: other programs on the machine can only make threads slower.
            size: min(threaded_seconds(size) for _ in range(TURNS))
            for size in THREADED_SIZES
        }
    finally:
        gc.enable()
    per_subtask = {size: 1e6 * seconds / size for size, seconds in threaded.items()}
    return {
        "us_per_update": {str(size): round(cost, 3) for size, cost in single.items()},
        "ratio": round(max(single.values()) / min(single.values()), 3),
        "threads": {
            "threads": THREADS,
            "seconds": {str(size): round(seconds, 4) for size, seconds in threaded.items()},
            "us_per_subtask": {str(size): round(cost, 3) for size, cost in per_subtask.items()},
            "ratio": round(max(per_subtask.values()) / min(per_subtask.values()), 3),
        },
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    threads = figures["threads"]
    lines = ["one thread", f"{'subtasks':>10}  {'us per update':>13}"]
    lines += [f"{size:>10}  {cost:>13.2f}" for size, cost in figures["us_per_update"].items()]
    lines += [f"{'ratio':>10}  {figures['ratio']:>13.2f}", "", f"{threads['threads']} threads"]
    lines += [f"{'subtasks':>10}  {'seconds':>13}  {'us per subtask':>14}"]
    lines += [
        f"{size:>10}  {seconds:>13.3f}  {threads['us_per_subtask'][size]:>14.2f}"
        for size, seconds in threads["seconds"].items()
    ]
    return "\n".join([*lines, f"{'ratio':>10}  {'':>13}  {threads['ratio']:>14.2f}"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    as_json = parser.parse_args().json
    figures = measure()
    print(json.dumps(figures) if as_json else table(figures))


if __name__ == "__main__":
    main()
