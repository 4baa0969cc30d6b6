"""What is in the store after the process that writes was killed."""

import random
import subprocess
import sys
from pathlib import Path

from sqlalchemy import select, text

from milonga.records import ProcessingTask, Recorder, RecordStore

WRITER = """
import sys
from pathlib import Path
from milonga.records import Durability, NewTask, Recorder, RecordStore, Situation, new_tasks

url, evidence = sys.argv[1], Path(sys.argv[2])
tree = {"name": "On", "children": [{"name": f"leaf{n}", "target": f"a/b/{n}"} for n in range(4)]}

def told(uid):
    def tell(durability):
        if durability is Durability.DURABLE:
            print(uid, flush=True)  # the client sees the result
    return tell

with RecordStore(url) as store, Recorder(store, "srv/1") as recorder, evidence.open("a") as ended:
    print("ready", flush=True)
    number = 0
    while True:
        uid = f"{sys.argv[3]}-{number}"
        for task in new_tasks(tree, uid):
            recorder.open(task)
        for child in tree["children"]:
            leaf = f"{uid}/{child['name']}"
            ended.write(leaf + "\\n")
            ended.flush()
            recorder.finish(leaf, Situation.DONE, then=told(leaf))
        ended.write(uid + "\\n")
        ended.flush()
        receipt = recorder.finish(uid, Situation.DONE, then=told(uid))
        if number % 10 == 0:
            receipt.result(10)
        number += 1
"""


def run_and_kill(url: str, evidence: Path, name: str, after: int) -> set[str]:
    """Kill the writer when a client has seen so many results; return those that it saw."""
    command = [sys.executable, "-c", WRITER, url, str(evidence), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seen = [process.stdout.readline() for _ in range(after)]
        process.kill()
        rest = process.stdout.read()
    lines = [*seen, *rest.splitlines(keepends=True)]
    return {line.strip() for line in lines if line.endswith("\n")}


def test_a_writer_that_is_killed_leaves_a_sound_store(url: str, tmp_path: Path) -> None:
    """IN-02: what a client saw as over is over, what is over has happened, trees are whole."""
    chance = random.Random(4711)  # noqa: S311 - a repeatable choice of moments
    evidence = tmp_path / "evidence"
    seen: set[str] = set()
    for number in range(3):
        seen |= run_and_kill(url, evidence, f"run{number}", chance.randint(0, 60))

    with RecordStore(url) as store, store.reading() as session:
        if url.startswith("sqlite"):
            assert session.scalar(text("PRAGMA integrity_check")) == "ok"
        tasks = {task.id: task for task in session.scalars(select(ProcessingTask))}
    over = {task.uid for task in tasks.values() if task.is_ok}
    happened = set(evidence.read_text().splitlines())
    assert seen <= over
    assert over <= happened
    for task in tasks.values():
        assert (task.parent_id is None) == ("/" not in task.uid)
        assert task.parent_id is None or task.parent_id in tasks


def test_what_was_running_is_lost_after_the_restart(url: str, tmp_path: Path) -> None:
    """QE-10: nothing runs for ever."""
    run_and_kill(url, tmp_path / "evidence", "run", after=7)

    with RecordStore(url) as store:
        with Recorder(store, "srv/1") as recorder:
            assert recorder.flush(10)
        with store.reading() as session:
            tasks = session.scalars(select(ProcessingTask)).all()

    assert tasks
    assert {task.status for task in tasks} <= {"SUCCESS", "LOST"}
