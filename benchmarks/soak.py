"""Run random commands, faults, kills and restarts for as long as one likes: all has to end.

    python -m benchmarks.soak --minutes 20

One controller, two subarrays, sixteen faulty leaves in three processes. Prints what was run, how it
ended, what the processes use, and what must be zero: commands that hang, trees that contradict
themselves, and records that do not say what clients saw. Exits with 1 if anything is not as it must
be, or a process has grown by more than `MAX_MEGABYTES` or `MAX_THREADS`.
"""

import argparse
import json
import logging
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import tango

from benchmarks.soak_records import Told, await_ends, find_inconsistent, finished_in_table
from milonga.control_model import ResultCode
from milonga.lrc import Invocation, LrcDevice, Outcome
from milonga.records import RecordStore, StoreSettings
from milonga.testing import FaultySystem, LeafHandle, faulty_topology, nodes_of, outcome_word

LEAVES = 16
TIMEOUT = 3.0
"""Seconds that a command may take; what a leaf never ends is waited for so long."""
BOUND = 8 * TIMEOUT
"""Seconds after which a command hangs; a queue of two and a deadline are much less."""

PARENTS = ("controller", "subarray-01", "subarray-02")
SERVERS = ("parents", "leaves", "mortal-1", "mortal-2")
MAX_MEGABYTES = 150.0
"""By how much a process may have grown: histories fill, and are then bounded."""
MAX_THREADS = 64
"""How many more threads a process may have: pools for calls, looks and aborts fill by need."""

FINAL = {"COMPLETED", "FAILED", "ABORTED", "REJECTED"}
OUTCOMES = ("ok", "ok", "ok", "ok", "ok", "failed", "fault", "rejected", "refused", "never")
EVENTS = ({}, {}, {"drop": 0.3, "double": 0.2}, {"delay": 0.4, "reorder": 0.2}, {"drop": 1.0})
ABORTS = ("take", "take", "take", "refuse", "raise", "ignore")
COMMANDS = ("On", "Off", "Standby")
OBSERVATION = ("AssignResources", "ReleaseAllResources", "Configure", "Restart", "ObsReset")


@dataclass(frozen=True)
class Usage:
    """What a process uses."""

    megabytes: float
    threads: int

    def __str__(self) -> str:
        return f"{self.megabytes:.0f} MB, {self.threads} threads"


@dataclass
class Tally:
    """What has happened."""

    commands: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    hangs: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    inconsistent: list[str] = field(default_factory=list)
    seen: list[tuple[str, Told | None]] = field(default_factory=list)
    before: dict[str, Usage] = field(default_factory=dict)
    after: dict[str, Usage] = field(default_factory=dict)

    @property
    def grown(self) -> list[str]:
        """The processes that have grown too much."""
        return [
            f"{name} has grown from {before} to {self.after[name]}"
            for name, before in self.before.items()
            if self.after[name].megabytes - before.megabytes > MAX_MEGABYTES
            or self.after[name].threads - before.threads > MAX_THREADS
        ]

    @property
    def problems(self) -> list[str]:
        """All that is not as it must be."""
        return [*self.hangs, *self.contradictions, *self.inconsistent, *self.grown]


class Soak:
    """One run over a running system.

    Parameters
    ----------
    system : FaultySystem
        Where.
    seed : int
        Of all that is random.
    """

    def __init__(self, system: FaultySystem, seed: int) -> None:
        self.system = system
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.tally = Tally()
        self.leaves = [system.leaf(f"leaf-{number:02d}") for number in range(1, LEAVES + 1)]

    def run(self, seconds: float) -> Tally:
        """Go on for so many seconds, and then until everything has ended."""
        end = time.monotonic() + seconds
        devices = [LrcDevice(self.system.trl(name)) for name in PARENTS]
        try:
            while time.monotonic() < end:
                self.disturb()
                self.round(devices)
        finally:
            for device in devices:
                device.close()
        return self.tally

    def round(self, devices: list[LrcDevice]) -> None:
        """Call a few commands at once, and wait for their ends."""
        started: list[tuple[LrcDevice, Invocation]] = []
        for device in self.random.sample(devices, self.random.randint(1, len(devices))):
            observes = device is not devices[0] and self.random.random() < 0.6
            command = self.random.choice(OBSERVATION if observes else COMMANDS)
            argument = "{}" if command in {"AssignResources", "Configure"} else None
            started.append((device, device.start(command, argument)))
        if self.random.random() < 0.1:
            time.sleep(self.random.uniform(0.0, 0.5))
            self.tally.happened["aborts of one command"] += 1
            self.random.choice(started)[1].abort()
        if self.random.random() < 0.3:
            time.sleep(self.random.uniform(0.0, 0.5))
            device = self.random.choice(devices)
            self.tally.happened["aborts"] += 1
            started.append((device, device.start("Abort")))
        for device, invocation in started:
            self.judge(device, invocation)

    def judge(self, device: LrcDevice, invocation: Invocation) -> None:
        """Wait for the end of a command, and compare it with its tree."""
        self.tally.commands += 1
        outcome = invocation.wait(BOUND)
        what = f"{device.name}/{invocation.command} {invocation.command_id}"
        if invocation.command_id is not None:
            self.tally.seen.append((invocation.command_id, outcome and told(outcome)))
        if outcome is None:
            self.tally.hangs.append(f"{what}: hangs")
            invocation.close()
        elif invocation.command_id is None:
            self.tally.refused[reason_of(outcome)] += 1
        else:
            tree = json.loads(tango.DeviceProxy(device.trl).CommandTree(invocation.command_id))
            self.tally.outcomes[outcome_word(tree or outcome)] += 1
            self.tally.contradictions += (f"{what}: {text}" for text in differences(tree, outcome))

    def disturb(self) -> None:
        """Change what goes wrong at some of the leaves."""
        for leaf in self.random.sample(self.leaves, 4):
            self.disturb_leaf(leaf)
        if self.random.random() < 0.05:
            name = self.random.choice(("mortal-1", "mortal-2"))
            self.tally.happened["kills"] += 1
            self.system.kill(name)
            if self.random.random() < 0.5:
                time.sleep(self.random.uniform(0.0, 3.0))
            self.system.restart(name)

    def disturb_leaf(self, leaf: LeafHandle) -> None:
        """Give one leaf a new script and new faults."""
        duration = self.random.choice((0.0, 0.1, 0.5))
        outcome = self.random.choice(OUTCOMES)
        hang = 3.5 if self.random.random() < 0.03 else 0.0
        self.tally.happened["hangs of leaves"] += bool(hang)
        self.tally.happened[f"script {outcome}"] += 1
        try:
            leaf.does(any={"duration": duration, "steps": 3, "outcome": outcome})
            leaf.suffers(
                events=self.random.choice(EVENTS) | {"seed": self.random.randrange(1000)},
                abort=self.random.choice(ABORTS),
                any={"hang": hang},
            )
        except tango.DevFailed:
            self.tally.happened["leaf did not listen"] += 1


def told(outcome: Outcome) -> Told:
    """Return what a client has seen of the end of a command."""
    return Told(outcome.status, outcome.result_code, outcome.message)


def reason_of(outcome: Outcome) -> str:
    """Return why a call was refused, without the names and numbers in which refusals differ."""
    text = re.sub(r"\S+/\S+/[^\s:]+(/\w+)?: ", "", outcome.message.partition("\n")[0])
    return re.sub(r"\d+", "#", text)[:70]


def differences(tree: dict[str, Any], outcome: Outcome) -> Iterator[str]:
    """Look for nodes that go on, or an end that is not that of the tree."""
    if not tree:
        return
    is_abort = outcome.command == "Abort"
    # below its own nodes an Abort has a picture of what was aborted, taken when its time was up
    nodes = tree["children"] if is_abort else nodes_of(tree)
    going = [str(node["name"]) for node in nodes if node["status"] not in FINAL]
    if going and outcome.status.name != "ABORTED":
        yield f"ended, but not {', '.join(going)}"
    if is_abort:  # always COMPLETED; by its code it tells what was answered
        if (tree["result_code"] == "OK") != (outcome.result_code is ResultCode.OK):
            yield f"{outcome.result_code.name}, but its tree {tree['result_code']}"
    elif tree["status"] in FINAL and tree["status"] != outcome.status.name:
        yield f"{outcome.status.name}, but its tree {tree['status']}"


def usage(system: FaultySystem) -> dict[str, Usage]:
    """Return what the processes of the servers use."""
    processes = {name: psutil.Process(system.server(name).pid) for name in SERVERS}
    return {
        name: Usage(process.memory_info().rss / 1e6, process.num_threads())
        for name, process in processes.items()
    }


def soak(seconds: float, seed: int, folder: Path) -> Tally:
    """Run a system with its records in a folder, and disturb it; return what happened."""
    os.environ |= {"MILONGA_DATA": str(folder), "MILONGA_RECORDS": str(folder / "records.db")}
    topology = faulty_topology(
        LEAVES // 2,
        subarrays=2,
        timeout=TIMEOUT,
        servers={"mortal-1": [1, 2, 3], "mortal-2": [9, 10, 11]},
    )
    with FaultySystem(topology) as system:
        before = usage(system)
        tally = Soak(system, seed).run(seconds)
        with RecordStore(folder / "records.db", StoreSettings(migrate=False)) as store:
            await_ends(store)
            # of commands that nobody waited for, the devices' own tables tell how they ended
            tables = [tango.DeviceProxy(system.trl(name)).lrcFinished or () for name in PARENTS]
            ends = [end for texts in tables for end in finished_in_table(texts).items()]
            tally.inconsistent = find_inconsistent(store, [*tally.seen, *ends])
        tally.before, tally.after = before, usage(system)
    return tally


def report(tally: Tally) -> Iterator[str]:
    """Tell what happened, a line each; what must not be stands last."""
    yield f"commands {tally.commands}, of which refused {tally.refused.total()}"
    yield "outcomes: " + ", ".join(f"{n} {word}" for word, n in tally.outcomes.most_common())
    yield "happened: " + ", ".join(f"{n} {word}" for word, n in tally.happened.most_common())
    for reason, count in tally.refused.most_common():
        yield f"refused {count}: {reason}"
    for name, before in tally.before.items():
        yield f"{name}: {before} at the start, {tally.after[name]} at the end"
    yield f"hangs {len(tally.hangs)}, contradictions {len(tally.contradictions)}"
    yield f"records inconsistent: {len(tally.inconsistent)}"
    yield from (f"  {problem}" for problem in tally.problems)


def main() -> int:
    """Run as the command line says; return 0 if all is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # what goes wrong here goes wrong on purpose
    with tempfile.TemporaryDirectory(prefix="milonga-soak-") as folder:
        tally = soak(given.minutes * 60, given.seed, Path(folder))
    print(f"seed {given.seed}, {given.minutes:g} minutes")
    for line in report(tally):
        print(line)
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())
