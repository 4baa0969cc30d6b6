"""How long a long-running command takes beside what Tango itself needs.

Everything is measured in one run, floor and Milonga in turn, because the machine's speed varies
from run to run: the ratios mean something, the milliseconds little.

The floor of one level is a command of a bare pytango device that pushes one string event. The
floor of two levels is a bare parent that sends the same command to four bare children, one after
the other, and pushes its event when it has theirs. Milonga's figures are from the call of a no-op
command to its final ``_lrcEvent``, seen by the same kind of client.

Throughput is that of one level: commands of a client that waits for each end, and of one that
calls many and then waits for all. The server's CPU time is that of its process, while a client
that waits for each end calls.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tango

from benchmarks.raw_device import text_argument
from milonga.deploy import System, Topology
from milonga.lrc import client

CHILDREN = 4
ROUND = 50
"""Commands in a row of one kind, before the next kind has its turn."""

BURST = 300
"""Commands that are called at once."""

PATIENCE = 30.0
"""Seconds to wait for the ends of a burst; what has not come by then is lost."""

TOPOLOGY = """
name: benchmark
subarrays:
  - {device: bench/subarray/1, id: 1, server: parent, children: [leaf-1, leaf-2, leaf-3, leaf-4]}
leaves:
""" + "".join(
    f"  - {{name: leaf-{n}, device: bench/leaf/{n}, server: leaf-{n},"
    f" properties: {{MaxQueuedTasks: 512}}}}\n"
    for n in range(1, CHILDREN + 1)
)


class Watch:
    """A client that calls a command and waits for the event that ends it."""

    def __init__(
        self,
        trl: str,
        attribute: str,
        call: Callable[[tango.DeviceProxy, int], str],
        is_end: Callable[[str], bool],
    ) -> None:
        self._proxy = tango.DeviceProxy(trl)
        self._call = call
        self._is_end = is_end
        self._ended: set[str] = set()
        self._news = threading.Condition()
        self._count = 0
        self._subscription = self._proxy.subscribe_event(
            attribute, tango.EventType.CHANGE_EVENT, self._heard
        )

    def once(self) -> float:
        """Call the command; return the seconds until its end was heard."""
        self._count += 1
        start = time.perf_counter()
        command_id = self._call(self._proxy, self._count)
        with self._news:
            if not self._news.wait_for(lambda: command_id in self._ended, timeout=10.0):
                raise TimeoutError(f"no event ended {command_id}")
            self._ended.clear()
        return time.perf_counter() - start

    def burst(self, size: int) -> tuple[float, int]:
        """Call many commands; return the seconds to the last end, and how many never came."""
        start = time.perf_counter()
        called = {self._call(self._proxy, self._count + number) for number in range(1, size + 1)}
        self._count += size
        with self._news:
            self._news.wait_for(lambda: called <= self._ended, timeout=PATIENCE)
            lost = len(called - self._ended)
            self._ended.clear()
        return time.perf_counter() - start, lost

    def close(self) -> None:
        """End the subscription."""
        self._proxy.unsubscribe_event(self._subscription)

    def _heard(self, event: tango.EventData) -> None:
        if event.err or not event.attr_value.value:
            return
        command_id, text = event.attr_value.value
        if self._is_end(text):
            with self._news:
                self._ended.add(command_id)
                self._news.notify()


def call_raw(proxy: tango.DeviceProxy, number: int) -> str:
    """Call the bare device's command."""
    text = str(number)
    proxy.command_inout("Go", text_argument(text))
    return text


def call_lrc(proxy: tango.DeviceProxy, _number: int) -> str:
    """Call a command that does nothing."""
    (_code,), (command_id,) = proxy.command_inout("Reset")
    return str(command_id)


def lrc_has_ended(text: str) -> bool:
    """Tell whether an event is the last of its command."""
    return json.loads(text).get("status", 0) in {3, 5, 6, 7}


@contextlib.contextmanager
def raw_servers() -> Iterator[tuple[str, str, int]]:
    """Run a bare parent and its children; yield locators of parent and first child, its process."""
    ports = [_free_port() for _ in range(CHILDREN + 1)]
    locators = [f"tango://127.0.0.1:{port}/raw/leaf/{n}#dbase=no" for n, port in enumerate(ports)]
    processes = []
    try:
        for n, port in reversed(list(enumerate(ports))):
            kind = "RawLeaf" if n else "RawParent"
            environment = os.environ | {"RAW_CHILDREN": " ".join(locators[1:]) if not n else ""}
            processes.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "benchmarks.raw_device", f"raw-{n}", "-nodb"),
                        *("-dlist", f"{kind}::raw/leaf/{n}"),
                        *("-ORBendPoint", f"giop:tcp:127.0.0.1:{port}"),
                    ],
                    env=environment,
                    stdout=subprocess.DEVNULL,
                )
            )
            _await(locators[n])
        tango.DeviceProxy(locators[0]).command_inout("Connect")
        yield locators[0], locators[1], processes[-2].pid
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def figures(floor: list[float], times: list[float]) -> dict[str, float]:
    """Sum up the seconds of floor and Milonga, in milliseconds."""
    floor_ms, median_ms = (statistics.median(series) * 1e3 for series in (floor, times))
    return {
        "floor_ms": round(floor_ms, 3),
        "floor_p99_ms": round(_p99(floor) * 1e3, 3),
        "median_ms": round(median_ms, 3),
        "p99_ms": round(_p99(times) * 1e3, 3),
        "ratio": round(median_ms / floor_ms, 2),
    }


@dataclass
class Throughput:
    """Many commands of one device, in rounds."""

    watch: Watch
    pid: int
    called: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    bursts: list[float] = field(default_factory=list)
    lost: int = 0

    def round(self) -> None:
        """Call a round one after the other, then a burst."""
        cpu, start = _cpu_seconds(self.pid), time.perf_counter()
        for _ in range(2 * ROUND):
            self.watch.once()
        self.seconds += time.perf_counter() - start
        self.cpu += _cpu_seconds(self.pid) - cpu
        self.called += 2 * ROUND
        seconds, lost = self.watch.burst(BURST)
        self.bursts.append(seconds)
        self.lost += lost

    def figures(self) -> dict[str, float]:
        """Sum up the rounds."""
        return {
            "sequential_per_s": round(self.called / self.seconds, 1),
            "burst_per_s": round(BURST / statistics.median(self.bursts), 1),
            "burst_lost": self.lost,
            "cpu_ms_per_command": round(self.cpu / self.called * 1e3, 3),
        }


def measure(rounds: int) -> dict[str, Any]:
    """Measure floor and Milonga in turn: times at one level and at two, throughput at one."""
    with (
        raw_servers() as (raw_parent, raw_leaf, raw_pid),
        System(Topology.from_text(TOPOLOGY)) as system,
    ):
        leaf_pid = next(each.pid for each in system.processes if each.name == "leaf-1")
        trls = [system.trl("subarray-01"), *(system.trl(f"leaf-{n}") for n in range(1, 5))]
        switch_on(trls[0])
        watches = {
            "one raw": Watch(raw_leaf, "answer", call_raw, lambda text: text == "done"),
            "one": Watch(trls[1], "_lrcEvent", call_lrc, lrc_has_ended),
            "two raw": Watch(raw_parent, "answer", call_raw, lambda text: text == "done"),
            "two": Watch(trls[0], "_lrcEvent", call_lrc, lrc_has_ended),
        }
        times: dict[str, list[float]] = {name: [] for name in watches}
        floor = Throughput(watches["one raw"], raw_pid)
        milonga = Throughput(watches["one"], leaf_pid or 0)
        try:
            for number in range(rounds + 1):
                for name, watch in watches.items():
                    series = [watch.once() for _ in range(ROUND)]
                    if number:  # the first round warms up
                        times[name] += series
            for _ in range(rounds):
                floor.round()
                milonga.round()
        finally:
            for watch in watches.values():
                watch.close()
    return {
        "one_level": figures(times["one raw"], times["one"]),
        "two_level": figures(times["two raw"], times["two"]),
        **milonga.figures(),
        "floor": floor.figures(),
    }


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of 50 commands of each kind")
    options = parser.parse_args()
    result = measure(options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{'':10}{'floor':>10}{'p99':>10}{'Milonga':>10}{'p99':>10}{'ratio':>8}")
    for name in ("one_level", "two_level"):
        row = result[name]
        print(
            f"{name:10}{row['floor_ms']:8.3f}ms{row['floor_p99_ms']:8.3f}ms"
            f"{row['median_ms']:8.3f}ms{row['p99_ms']:8.3f}ms{row['ratio']:8.2f}"
        )
    print(f"\n{'':20}{'floor':>10}{'Milonga':>10}")
    for name, floor in result["floor"].items():
        print(f"{name:20}{floor:10}{result[name]:10}")


def switch_on(trl: str) -> None:
    outcome = client.run(trl, "On", timeout=PATIENCE)
    assert outcome.is_ok, f"{trl}: {outcome.message}"


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of all threads of a process; to the nanosecond where there is one."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text("ascii").split()[0]) for task in tasks) / 1e9


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(trl: str) -> None:
    for _ in range(50):
        try:
            tango.DeviceProxy(trl).ping()
        except tango.DevFailed:
            time.sleep(0.3)
        else:
            return
    raise TimeoutError(f"{trl} does not answer")


def _p99(series: list[float]) -> float:
    return sorted(series)[int(len(series) * 0.99) - 1]


if __name__ == "__main__":
    main()
