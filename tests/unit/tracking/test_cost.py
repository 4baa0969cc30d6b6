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


def test_a_hundred_thousand_subtasks_from_eight_threads():
    """AG-18, A-7: over within five seconds."""
    total = 100_000
    tracker = TaskTracker("t", total)
    threads = [threading.Thread(target=fill, args=(tracker, n, 8, total)) for n in range(8)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    assert tracker.wait_for_task_completion(timeout=60)
    seconds = time.perf_counter() - begun
    for thread in threads:
        thread.join()

    assert seconds < 5
    assert tracker.get_result() is ResultCode.OK


def test_an_update_costs_the_same_for_any_size():
    """AG-18: median below 20 us, and no trend over 30 000 subtasks."""
    total, costs = 30_000, []
    fill(TaskTracker("t", total), 0, 1, total, costs)
    early, late = (statistics.median(part) for part in (costs[1000:6000], costs[-6000:-1000]))

    assert statistics.median(costs) < 20e-6
    assert late < 3 * early
