"""How many changes of tasks reach the disk per second, and what it costs to hand one over.

``python -m benchmarks.records`` prints a table, with ``--json`` one JSON object. A command is four
transitions: it is made, begins, makes progress and ends. The floor is the same four statements by
Python's own sqlite3, a hundred commands in a transaction, measured in turn with Milonga.

``command_ratio`` is what records add to a command that does nothing: of a parent with four leaves,
from the call to the event of its end, with records and without, in turn.
"""

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.command import ROUND, Watch, call_lrc, lrc_has_ended, switch_on
from milonga.deploy import System, Topology
from milonga.records import (
    Durability,
    NewTask,
    Recorder,
    RecordStore,
    Situation,
    StoreSettings,
    Synchronous,
)

TRANSITIONS = 4
COMMANDS = 500
"""Commands in a turn."""

TURNS = 8
SINGLES = 300
"""Commands that are waited for one by one."""

ARGUMENT = json.dumps({"band": 1, "beams": list(range(20))})


class Sustained:
    """Commands as fast as the recorder takes them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._number = 0
        self.handing_over = 0.0

    def turn(self) -> float:
        """Return the seconds until a turn's commands are all on disk."""
        begun = time.perf_counter()
        for _ in range(COMMANDS):
            uid = f"bench-{self._number}"
            self._number += 1
            self._recorder.open(
                NewTask(uid=uid, task_name="Configure", device="a/b/c", parameters=ARGUMENT)
            )
            self._recorder.change(uid, situation=Situation.RUNNING)
            self._recorder.change(uid, progress=50)
            last = self._recorder.finish(uid, Situation.DONE, "configured")
        self.handing_over += time.perf_counter() - begun
        assert last.result(60) is Durability.DURABLE
        return time.perf_counter() - begun


class Floor:
    """The same by hand."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.connection.execute(
            "CREATE TABLE task (id INTEGER PRIMARY KEY, uid TEXT UNIQUE, name TEXT, device TEXT, "
            "parameters TEXT, started_at TEXT, finished_at TEXT, status TEXT, progress REAL)"
        )
        self._number = 0

    def turn(self) -> float:
        """Return the seconds of a turn."""
        begun, execute = time.perf_counter(), self.connection.execute
        for number in range(COMMANDS):
            if number % 100 == 0:
                execute("BEGIN IMMEDIATE")
            uid, now = f"bench-{self._number}", time.strftime("%Y-%m-%d %H:%M:%S")
            self._number += 1
            row = (uid, "Configure", "a/b/c", ARGUMENT, now)
            execute(
                "INSERT INTO task (uid, name, device, parameters, started_at) VALUES (?,?,?,?,?)",
                row,
            )
            execute("UPDATE task SET status='RUNNING' WHERE uid=?", (uid,))
            execute("UPDATE task SET progress=50 WHERE uid=?", (uid,))
            execute("UPDATE task SET status='DONE', finished_at=? WHERE uid=?", (now, uid))
            if number % 100 == 99:
                execute("COMMIT")
        return time.perf_counter() - begun


def single_commits(recorder: Recorder, prefix: str) -> list[float]:
    """Return the seconds that single commands wait until their end is on disk."""
    waits = []
    for number in range(SINGLES):
        uid = f"{prefix}-{number}"
        recorder.open(NewTask(uid=uid, task_name="On"))
        begun = time.perf_counter()
        recorder.finish(uid, Situation.DONE).result(60)
        waits.append(time.perf_counter() - begun)
    return waits


def measure(url: str | None) -> dict[str, Any]:
    """Measure floor and Milonga in turn, in a new store."""
    with tempfile.TemporaryDirectory() as folder:
        settings = StoreSettings(synchronous=Synchronous.NORMAL)
        where = url or Path(folder) / "records.db"
        with RecordStore(where, settings) as store, Recorder(store) as recorder:
            floor, milonga = Floor(Path(folder) / "floor.db"), Sustained(recorder)
            with closing(floor.connection):
                _in_turn(floor.turn, milonga.turn, 1)  # warms up
                milonga.handing_over = 0.0
                floor_s, milonga_s = _in_turn(floor.turn, milonga.turn, TURNS)
            waits = single_commits(recorder, "single")
    transitions = COMMANDS * TRANSITIONS
    rate, floor_rate = transitions / milonga_s, transitions / floor_s
    return {
        "transitions_per_s": round(rate),
        "floor_per_s": round(floor_rate),
        "ratio": round(floor_rate / rate, 2),
        "handover_us": round(milonga.handing_over / TURNS / transitions * 1e6, 1),
        "commit_ms": round(statistics.median(waits) * 1e3, 3),
        "commit_p99_ms": round(statistics.quantiles(waits, n=100)[98] * 1e3, 3),
    }


TOPOLOGY = """
name: benchmark
subarrays:
  - {device: bench/with/1, id: 1, server: with, children: [a1, a2, a3, a4]}
  - {device: bench/without/1, id: 2, server: without, children: [b1, b2, b3, b4],
     properties: {RecordStore: none}}
leaves:
""" + "".join(
    f"  - {{name: {kind}{n}, device: bench/leaf/{kind}{n}, server: leaves-{kind}}}\n"
    for kind in "ab"
    for n in range(1, 5)
)


def measure_commands(rounds: int, url: str | None) -> dict[str, Any]:
    """Measure commands with records and without, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MILONGA_RECORDS"] = url or str(Path(folder) / "records.db")
        with System(Topology.from_text(TOPOLOGY)) as system:
            trls = [system.trl("subarray-01"), system.trl("subarray-02")]
            for trl in trls:
                switch_on(trl)
            watches = [Watch(trl, "_lrcEvent", call_lrc, lrc_has_ended) for trl in trls]
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(rounds + 1):
                for watch, series in zip(watches, times, strict=True):
                    taken = [watch.once() for _ in range(ROUND)]
                    if number:  # the first round warms up
                        series.extend(taken)
            for watch in watches:
                watch.close()
    recorded, plain = (statistics.median(series) * 1e3 for series in times)
    return {
        "command_ms": round(recorded, 3),
        "command_without_ms": round(plain, 3),
        "command_ratio": round(recorded / plain, 2),
    }


def _in_turn(
    floor: Callable[[], float], milonga: Callable[[], float], turns: int
) -> tuple[float, float]:
    """Return the median seconds of both, which take turns on a machine that others use too."""
    pairs = [(floor(), milonga()) for _ in range(turns)]
    return statistics.median(one for one, _ in pairs), statistics.median(one for _, one in pairs)


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    return "\n".join(f"{name:>20}  {value:>12,}" for name, value in figures.items())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--url", help="an empty database, in place of an SQLite file")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of 50 commands of each kind")
    options = parser.parse_args()
    figures = measure(options.url) | measure_commands(options.rounds, options.url)
    print(json.dumps(figures) if options.json else table(figures))


if __name__ == "__main__":
    main()
