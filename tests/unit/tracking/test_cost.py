"""That the cost of an update does not grow, in numbers a loaded machine can keep."""

import statistics
import threading
import time

from milonga.control_model import ResultCode, TaskStatus
from milonga.tracking import TaskTracker

OK = (ResultCode.OK, "")


def fill(tracker, first, step, total, costs=None):
    """End each so-manieth subtask, and note what each update costs."""
    for number in range(first, total, step):
        begun = time.perf_counter()
        tracker.update_task(task_name=f"s{number}", status=TaskStatus.COMPLETED, result=OK)
        if costs is not None:
            costs.append(time.perf_counter() - begun)


def run(threads, total):
    """Fill a tracker from so many threads; return how long that takes."""
    tracker = TaskTracker("t", total)
    workers = [
        threading.Thread(target=fill, args=(tracker, number, threads, total))
        for number in range(threads)
    ]
    begun = time.perf_counter()
    for worker in workers:
        worker.start()
    assert tracker.wait_for_task_completion(timeout=60)
    seconds = time.perf_counter() - begun
    for worker in workers:
        worker.join()
    assert tracker.get_result() is ResultCode.OK
    return seconds


def best_of_three(threads):
    """Return the seconds of the try that others disturbed least."""
    return min(run(threads, total=100_000) for _ in range(3))


def test_a_hundred_thousand_subtasks_from_eight_threads():
    """AG-18, A-7: the seconds of one thread, and not many times as many; see the benchmark."""
    assert best_of_three(8) < 5 * best_of_three(1)


def test_an_update_costs_the_same_for_any_size():
    """AG-18: no trend over 30 000 subtasks."""
    total, costs = 30_000, []
    fill(TaskTracker("t", total), 0, 1, total, costs)
    early, late = (statistics.median(part) for part in (costs[1000:6000], costs[-6000:-1000]))

    assert late < 3 * early
