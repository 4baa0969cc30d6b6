"""How soon plans of a device can be ended, paused and told something, from another process.

A system of real device servers is started. Printed are: for verbs and kinds of plan, how long the
verb kept its caller, how long it took until the plan's command had ended (or until the engine was
in the state that is asked for), and what became of it; how many of many plans that were aborted as
soon as they were submitted got lost; the threads of the server, and the tasks of its event loop,
over many pauses; the time from the call of an action to the plan that waits for it; and what a plan
that waits uses of a core.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import tango

from milonga.deploy import System, Topology
from milonga.lrc import Invocation, LrcDevice

VERBS = ("Pause", "Resume", "StopPlan", "AbortPlan", "HaltPlan", "Abort")
KINDS = ("ordinary", "paused", "blocking", "unclean", "unchecked")
BLOCKED = 8.0
"""Seconds for which the blocking plan blocks."""

PATIENCE = 20.0
"""Seconds to wait for an end; what has not come by then is lost."""

LOOK = 0.001

TOPOLOGY = """
name: plans
subarrays:
  - device: bench/subarray/1
    id: 1
    server: planner
    children: [leaf]
    data_folder: FOLDER
    plans: ["benchmarks.plan_kinds:ordinary", "benchmarks.plan_kinds:blocking",
            "benchmarks.plan_kinds:unclean", "benchmarks.plan_kinds:unchecked",
            "benchmarks.plan_kinds:listening", "benchmarks.plan_kinds:counted"]
leaves:
  - {name: leaf, device: bench/leaf/1, server: leaf}
servers:
  planner: {environment: {PYTHONPATH: SITE}}
"""


class Bench:
    """A device with plans, and what is done to it."""

    def __init__(self, system: System, folder: Path) -> None:
        self._folder = folder
        self.pid = next(each.pid for each in system.processes if each.name == "planner") or 0
        self.proxy = tango.DeviceProxy(system.trl("subarray-01"))
        self.device = LrcDevice(system.trl("subarray-01"))
        self.wait(lambda: self.proxy.state() is tango.DevState.OFF)

    def submit(self, plan: str, **arguments: Any) -> Invocation:
        """Give a plan to the device."""
        return self.device.invoke("RunPlan", json.dumps({"plan": plan, "arguments": arguments}))

    def wait(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
        """Wait for a condition; return whether it came true."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(LOOK)
        return True

    def running(self, kind: str) -> Invocation:
        """Bring a plan of a kind to where it is hard to end."""
        mark = self._folder / "blocked"
        mark.unlink(missing_ok=True)
        if kind == "blocking":
            invocation = self.submit("blocking", mark=str(mark), seconds=BLOCKED)
            assert self.wait(mark.exists)
            return invocation
        invocation = self.submit("ordinary" if kind == "paused" else kind)
        assert self.wait(lambda: self.proxy.engineState == "running")
        if kind == "paused":
            self.proxy.Pause()
            assert self.wait(lambda: self.proxy.engineState == "paused")
        return invocation

    def verb(self, verb: str, kind: str) -> tuple[float, float, str]:
        """Return the seconds in the verb and until it had its effect, and what that was."""
        invocation = self.running(kind)
        start = time.perf_counter()
        (code,), _ = self.proxy.command_inout(verb)
        returned = time.perf_counter() - start
        if verb in {"Pause", "Resume"}:
            wanted = "paused" if verb == "Pause" else "running"
            self.wait(lambda: self.proxy.engineState == wanted, 3.0)
            effect, state = time.perf_counter() - start, self.proxy.engineState
            state += "" if code == 0 or state == wanted else " (refused)"
            self.proxy.HaltPlan()
            invocation.wait(PATIENCE)
        else:
            outcome = invocation.wait(PATIENCE)
            effect = time.perf_counter() - start
            state = outcome.status.name if outcome is not None else "LOST"
        assert self.wait(lambda: self.proxy.engineState == "idle" and not self.proxy.lrcExecuting)
        return returned, effect, state

    def aborted_at_once(self, rounds: int) -> Counter[str]:
        """Submit plans, abort each at once; return what became of them."""
        ends: Counter[str] = Counter()
        for _ in range(rounds):
            invocation = self.submit("ordinary")
            invocation.abort()
            outcome = invocation.wait(PATIENCE)
            ends[outcome.status.name if outcome is not None else "LOST"] += 1
        idle = self.wait(lambda: self.proxy.engineState == "idle" and not self.proxy.lrcExecuting)
        ends["left running"] = int(not idle)
        return ends

    def paused_and_resumed(self, cycles: int) -> dict[str, float]:
        """Pause and resume a plan; return threads, tasks of the event loop, and ms a cycle."""
        notes = self._folder / "tasks"
        invocation = self.submit("counted", notes=str(notes))
        assert self.wait(lambda: self.proxy.engineState == "running")
        threads = []
        start = time.perf_counter()
        for _ in range(cycles):
            self.proxy.Pause()
            assert self.wait(lambda: self.proxy.engineState == "paused")
            self.proxy.Resume()
            assert self.wait(lambda: self.proxy.engineState == "running")
            threads.append(self.threads())
        seconds = time.perf_counter() - start
        self.proxy.AbortPlan()
        invocation.wait(PATIENCE)
        tasks = [int(line) for line in notes.read_text().split()]
        return {
            **_over_time("threads", threads),
            **_over_time("tasks", tasks),
            "cycle_ms": round(1e3 * seconds / cycles, 2),
        }

    def threads(self) -> int:
        """Return how many threads the server has."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    def action(self, times: int) -> dict[str, float]:
        """Trigger an action; return when the plan saw it, and its use of a core while it waits."""
        notes = self._folder / "notes"
        notes.touch()
        idle = self._core()
        invocation = self.submit("listening", notes=str(notes))
        assert self.wait(lambda: self.proxy.engineState == "running")
        waiting = self._core()
        waits = []
        for number in range(1, times + 1):
            before = time.time()
            self.proxy.TriggerAction("snap")
            assert self.wait(lambda n=number: len(notes.read_text().splitlines()) >= n)
            waits.append(float(notes.read_text().split()[-1]) - before)
        self.proxy.StopPlan()
        invocation.wait(PATIENCE)
        return {
            "action_ms": round(1e3 * statistics.median(waits), 2),
            "action_most_ms": round(1e3 * max(waits), 2),
            "idle_percent_of_core": round(idle, 2),
            "waiting_percent_of_core": round(waiting, 2),
        }

    def _core(self, seconds: float = 10.0) -> float:
        """Return what the server uses of a core, in per cent; threads that end are counted too."""
        process = psutil.Process(self.pid)
        before = process.cpu_times()
        time.sleep(seconds)
        after = process.cpu_times()
        return 100.0 * (after.user + after.system - before.user - before.system) / seconds


def _over_time(name: str, counts: list[int]) -> dict[str, float]:
    """Return the medians of the first and the last tenth, and the most."""
    tenth = max(1, len(counts) // 10)
    return {
        f"{name}_first": statistics.median(counts[:tenth]),
        f"{name}_last": statistics.median(counts[-tenth:]),
        f"{name}_most": max(counts),
    }


def measure(rounds: int, cycles: int, times: int) -> dict[str, Any]:
    """Measure everything on one system."""
    with tempfile.TemporaryDirectory() as place:
        site = str(Path(__file__).resolve().parents[1])
        text = TOPOLOGY.replace("FOLDER", place).replace("SITE", site)
        with System(Topology.from_text(text)) as system:
            bench = Bench(system, Path(place))
            table = {}
            for kind in KINDS:
                for verb in VERBS:
                    table[f"{kind} {verb}"] = bench.verb(verb, kind)
            result: dict[str, Any] = {"verbs": table}
            start = time.perf_counter()
            result["aborted_at_once"] = dict(bench.aborted_at_once(rounds))
            result["abort_round_ms"] = round(1e3 * (time.perf_counter() - start) / rounds, 2)
            result |= bench.paused_and_resumed(cycles)
            result |= bench.action(times)
            bench.device.close()
    return result


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    print("ms in the verb / s to its effect, and what that is")
    print(f"{'':11}" + "".join(f"{verb:>25}" for verb in VERBS))
    for kind in KINDS:
        cells = [result["verbs"][f"{kind} {verb}"] for verb in VERBS]
        texts = [f"{1e3 * took:.1f} / {effect:.3f} {state}" for took, effect, state in cells]
        print(f"{kind:11}" + "".join(f"{text:>25}" for text in texts))
    print()
    for name, value in result.items():
        if name != "verbs":
            print(f"{name:24}{value}")


def main() -> None:
    """Print the tables, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=10_000, help="plans aborted at once")
    parser.add_argument("--cycles", type=int, default=1_000, help="pauses of one plan")
    parser.add_argument("--times", type=int, default=50, help="actions")
    options = parser.parse_args()
    result = measure(options.rounds, options.cycles, options.times)
    if options.json:
        json.dump(result, sys.stdout)
    else:
        show(result)


if __name__ == "__main__":
    main()
