"""Documents that are delivered from the files of runs: all, once, in order, whatever happens."""

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bluesky import plans

from milonga.engine import Forwarder, JsonLinesWriter, Outbox, RunEngine, TiledSink, tiled_sink

from .conftest import Detector, until
from .folder_sink import FolderSink


class Sink:
    """Keeps runs in memory; may be down, and may refuse single runs."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, list[tuple[str, dict[str, Any]]]]] = []
        self.down = threading.Event()
        self.refused: set[str] = set()
        self.asked = 0
        self.closed = False

    def deliver(self, uid: str, documents: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Keep a run."""
        self.asked += 1
        if self.down.is_set():
            raise ConnectionRefusedError("nobody listens")
        if uid in self.refused:
            raise ValueError("not my kind of run")
        self.runs.append((uid, list(documents)))

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    @property
    def uids(self) -> list[str]:
        """Which runs have come, in their order."""
        return [uid for uid, _ in self.runs]


@pytest.fixture
def sink() -> Sink:
    """Return a sink that works."""
    return Sink()


@pytest.fixture
def forwarders() -> Iterator[Callable[..., Forwarder]]:
    """Return what makes forwarders; all of them are closed, and have let go of their sinks."""
    made = []

    def make(outbox: Outbox, sink: Any, **options: float) -> Forwarder:
        options = {"first_pause": 0.01, "longest_pause": 0.05} | options
        made.append(Forwarder(outbox, lambda: sink, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for forwarder in made:
        assert forwarder.close(10.0)


def write(writer: JsonLinesWriter, uid: str, *, events: int = 3, stop: bool = True) -> None:
    """Write the documents of a run."""
    writer("start", {"uid": uid, "time": 0.0})
    writer("descriptor", {"uid": f"{uid}-d", "run_start": uid, "name": "primary"})
    for number in range(1, events + 1):
        writer("event", {"uid": f"{uid}-{number}", "descriptor": f"{uid}-d", "seq_num": number})
    if stop:
        writer("stop", {"uid": f"{uid}-s", "run_start": uid, "exit_status": "success"})


def test_each_run_is_delivered_once_and_in_order(
    tmp_path: Path, sink: Sink, forwarders: Callable[..., Forwarder]
) -> None:
    """Peers 22: a sink that is down keeps nobody waiting, and gets everything when it is back."""
    sink.down.set()
    outbox = Outbox(tmp_path, "a/b/c")
    forwarder = forwarders(outbox, sink)
    uids = [f"run-{number}" for number in range(5)]
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        for uid in uids:
            write(writer, uid)
    until(lambda: sink.asked >= 7)
    assert (outbox.waiting, outbox.statistics().runs) == (30, 5)
    assert not sink.runs

    sink.down.clear()
    until(lambda: not outbox.waiting)

    assert sorted(sink.uids) == uids
    for uid, documents in sink.runs:
        assert [name for name, _ in documents] == ["start", "descriptor", *["event"] * 3, "stop"]
        lines = (tmp_path / f"{uid}.jsonl").read_text().splitlines()
        assert [json.loads(line) for line in lines] == [list(each) for each in documents]
    assert forwarder.statistics().outages == 1
    assert not list(outbox.place.glob("*.waiting"))


def test_an_engine_does_not_feel_a_sink_that_hangs(
    tmp_path: Path, engine: RunEngine, forwarders: Callable[..., Forwarder]
) -> None:
    """A plan ends while the sink has not even answered for the one before."""
    answer = threading.Event()

    class Hanging(Sink):
        def deliver(self, uid: str, documents: Iterable[tuple[str, dict[str, Any]]]) -> None:
            answer.wait(30.0)
            super().deliver(uid, documents)

    sink, outbox = Hanging(), Outbox(tmp_path, "a")
    forwarders(outbox, sink)
    engine.subscribe(JsonLinesWriter(tmp_path, outbox=outbox))

    results = [engine.call(plans.count([Detector()], num=4)).result(10.0) for _ in range(3)]

    assert not sink.runs
    answer.set()
    until(lambda: not outbox.waiting)
    assert sink.uids == [uid for result in results for uid in result.run_start_uids]


def test_an_outage_is_said_once_and_so_is_its_end(
    tmp_path: Path,
    sink: Sink,
    forwarders: Callable[..., Forwarder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning with the reason, however often it is tried; one line when it is over."""
    caplog.set_level(logging.INFO, "milonga.engine.documents")
    sink.down.set()
    outbox = Outbox(tmp_path, "a")
    forwarders(outbox, sink)
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        write(writer, "one")
    until(lambda: sink.asked >= 5)
    sink.down.clear()
    until(lambda: not outbox.waiting)
    until(lambda: len(caplog.messages) >= 2)

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "ConnectionRefusedError: nobody listens; 6 wait" in caplog.messages[0]
    assert "delivered again" in caplog.messages[1]


def test_a_sink_that_cannot_be_made_yet_is_made_later(tmp_path: Path, sink: Sink) -> None:
    """Such as one whose library cannot be loaded."""
    asked = []

    def make() -> Sink:
        asked.append(1)
        if len(asked) < 3:
            raise ImportError("no tiled")
        return sink

    outbox = Outbox(tmp_path, "a")
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        write(writer, "one")
    forwarder = Forwarder(outbox, make, first_pause=0.01)
    until(lambda: sink.uids == ["one"])
    assert forwarder.close(10.0)
    assert sink.closed


def test_a_forwarder_can_be_closed_at_any_moment(tmp_path: Path, sink: Sink) -> None:
    """Whatever its thread is about to do, it does not sleep through the call."""
    outbox = Outbox(tmp_path, "a")
    for number in range(50):
        forwarder = Forwarder(outbox, lambda: sink)
        if number % 2:
            until(lambda: not outbox.ready.is_set())
        assert forwarder.close(10.0)


def test_a_run_that_is_refused_again_and_again_is_given_up(
    tmp_path: Path,
    sink: Sink,
    forwarders: Callable[..., Forwarder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While others go through; it stops none of them, and its file stays."""
    sink.refused.add("bad")
    outbox = Outbox(tmp_path, "a")
    forwarder = forwarders(outbox, sink)
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        write(writer, "bad")
        for number in range(40):
            if outbox.statistics().given_up:
                break
            write(writer, f"run-{number}")
            until(lambda n=number: f"run-{n}" in sink.uids)  # type: ignore[misc]
            asked = sink.asked
            until(lambda n=asked: sink.asked > n or outbox.statistics().given_up)  # type: ignore[misc]

    assert forwarder.statistics().refused == 1
    assert (tmp_path / "bad.jsonl").exists()
    assert (outbox.place / "given-up" / "bad.waiting").exists()
    assert "the sink refused it, last with not my kind of run" in caplog.text


# What is there after a restart


def test_a_run_that_lacks_a_document_is_given_up_and_not_blamed_on_the_sink(
    tmp_path: Path,
    sink: Sink,
    forwarders: Callable[..., Forwarder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It would be tried for ever; its file stays, and the log says what is wrong with it."""
    outbox = Outbox(tmp_path, "a")
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        writer("start", {"uid": "one", "time": 0.0})
        with pytest.raises(TypeError):
            writer("descriptor", {"uid": "d", "run_start": "one", "name": "x", "no": {(1, 2): 3}})
        writer("event", {"uid": "e", "descriptor": "d", "seq_num": 1})
        writer("stop", {"uid": "s", "run_start": "one"})
        write(writer, "two")
    forwarder = forwarders(outbox, sink)
    until(lambda: not outbox.waiting)

    assert sink.uids == ["two"]
    assert (forwarder.statistics().failed, outbox.statistics().given_up) == (0, 1)
    assert "run one is not delivered: its file is broken: line 2 is" in caplog.text
    assert (tmp_path / "one.jsonl").exists()


def test_a_made_up_end_counts_the_events_of_pages(tmp_path: Path) -> None:
    """As many as they have."""
    outbox = Outbox(tmp_path, "a")
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        write(writer, "one", stop=False)
        writer("event_page", {"descriptor": "one-d", "seq_num": [4, 5]})

    stop = [*outbox.documents("one")][-1]

    assert (stop[0], stop[1]["num_events"]) == ("stop", {"primary": 5})


def test_delivery_goes_on_after_a_restart(
    tmp_path: Path, sink: Sink, forwarders: Callable[..., Forwarder]
) -> None:
    """Runs that an earlier process left are delivered before new ones; others are left alone."""
    with JsonLinesWriter(tmp_path) as writer:
        write(writer, "before-there-was-a-sink")
    other = Outbox(tmp_path, "another/device/1")
    with JsonLinesWriter(tmp_path, outbox=other) as writer:
        write(writer, "of-another")
    with JsonLinesWriter(tmp_path, outbox=Outbox(tmp_path, "a")) as writer:
        for number in range(3):
            write(writer, f"old-{number}")

    outbox = Outbox(tmp_path, "a")
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        write(writer, "new")
    forwarders(outbox, sink)
    until(lambda: len(sink.runs) == 4)

    assert sink.uids[-1] == "new"
    assert sorted(sink.uids[:-1]) == ["old-0", "old-1", "old-2"]


def test_a_run_whose_process_died_gets_an_end(tmp_path: Path, sink: Sink) -> None:
    """Half a line is dropped; the stop document says why, and is in the file as well."""
    code = """
import sys, os
from pathlib import Path
from milonga.engine import JsonLinesWriter, Outbox
place = Path(sys.argv[1])
writer = JsonLinesWriter(place, outbox=Outbox(place, "a"))
writer("start", {"uid": "cut", "time": 0.0})
writer("descriptor", {"uid": "d", "run_start": "cut", "name": "primary"})
writer("event", {"uid": "e", "descriptor": "d", "seq_num": 1})
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    with (tmp_path / "cut.jsonl").open("a") as file:
        file.write('["event", {"uid": "e2", "descr')

    for _ in range(2):  # as if the process died after the first delivery
        outbox = Outbox(tmp_path, "a")
        uid = outbox.take()
        assert uid == "cut"
        sink.deliver(uid, outbox.documents(uid))

    (_, first), (_, second) = sink.runs
    assert first == second
    assert [name for name, _ in first] == ["start", "descriptor", "event", "stop"]
    stop = first[-1][1]
    assert (stop["exit_status"], stop["num_events"]) == ("fail", {"primary": 1})
    assert "the process that ran the plan ended" in stop["reason"]
    assert json.loads((tmp_path / "cut.jsonl").read_text().splitlines()[-1]) == ["stop", stop]


def test_a_run_that_still_goes_on_is_not_taken(tmp_path: Path, sink: Sink) -> None:
    """Not even by an outbox that is opened anew in the same process, as by Init."""
    writer = JsonLinesWriter(tmp_path, outbox=Outbox(tmp_path, "a"))
    write(writer, "long", stop=False)

    outbox = Outbox(tmp_path, "a")

    assert outbox.take() is None
    writer("stop", {"uid": "s", "run_start": "long", "exit_status": "success"})
    assert outbox.take() == "long"


def test_a_mark_without_a_file_is_no_obstacle(
    tmp_path: Path, sink: Sink, forwarders: Callable[..., Forwarder]
) -> None:
    """The process died in between, or the file was deleted: there is nothing to deliver."""
    first = Outbox(tmp_path, "a")
    (first.place / "never.waiting").touch()
    with JsonLinesWriter(tmp_path, outbox=first) as writer:
        write(writer, "one")
    outbox = Outbox(tmp_path, "a")
    forwarders(outbox, sink)

    until(lambda: sink.uids == ["one"] and not outbox.statistics().runs)

    assert outbox.statistics().given_up == 1


def test_only_one_delivers_from_an_outbox(
    tmp_path: Path, sink: Sink, forwarders: Callable[..., Forwarder]
) -> None:
    """The next one begins when the one before has ended, and knows what that has delivered."""
    first = Outbox(tmp_path, "a")
    assert first.claim()
    with JsonLinesWriter(tmp_path, outbox=first) as writer:
        write(writer, "one")
        write(writer, "two")
    outbox = Outbox(tmp_path, "a")
    assert outbox.waiting == 12
    forwarders(outbox, sink)
    assert not outbox.claim()

    first.delivered("one")
    first.release()

    until(lambda: sink.uids == ["two"] and not outbox.waiting)
    assert outbox.statistics().delivered == 1


def test_each_device_has_an_outbox_of_its_own(tmp_path: Path) -> None:
    """Whatever characters are in its name."""
    names = ["lab/sub-array/1", "lab/sub/array-1", "lab-sub/array/1"]
    places = {Outbox(tmp_path, name).place for name in names}
    assert len(places) == 3
    assert all(place.parent == tmp_path / "outbox" for place in places)
    assert Outbox(tmp_path, "LAB/sub-array/1").place in places, "Tango's names have no case"


def test_what_waits_where_earlier_versions_had_it_is_delivered(tmp_path: Path) -> None:
    """Once, and what was given up there can be put back as before."""
    before = tmp_path / "outbox" / "lab-sub-array-1"
    (before / "given-up").mkdir(parents=True)
    (before / ".lock").touch()
    with JsonLinesWriter(tmp_path) as writer:
        write(writer, "waits")
        write(writer, "given-up")
    (before / "waits.waiting").touch()
    (before / "given-up" / "given-up.waiting").touch()

    outbox, other = Outbox(tmp_path, "lab/sub-array/1"), Outbox(tmp_path, "lab/sub/array-1")

    assert (outbox.take(), other.take()) == ("waits", None)
    assert (outbox.place / "given-up" / "given-up.waiting").exists()
    assert not before.exists()


@pytest.mark.parametrize("lines", [0, 1, 3, 7, 12, 20])
def test_killed_in_mid_delivery_each_run_arrives_once(tmp_path: Path, lines: int) -> None:
    """Kill -9 while a run is being written at the sink; the next process puts it right."""
    documents, place = tmp_path / "documents", tmp_path / "sink"
    with JsonLinesWriter(documents, outbox=(outbox := Outbox(documents, "a"))) as writer:
        for number in range(4):
            write(writer, f"run-{number}")
    script = Path(__file__).with_name("folder_sink.py")
    command = [sys.executable, str(script), str(documents), str(place)]
    with subprocess.Popen([*command, str(lines)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("after ")
        os.kill(process.pid, signal.SIGKILL)
    assert list(outbox.place.glob("*.waiting"))

    subprocess.run([*command, "-1"], check=True, timeout=60)

    assert FolderSink(place).uids == [f"run-{number}" for number in range(4)]
    for number in range(4):
        name = f"run-{number}.jsonl"
        assert (place / name).read_text() == (documents / name).read_text()
    assert not list(outbox.place.glob("*.waiting"))


# The bound


def test_a_full_outbox_gives_up_the_oldest_runs(
    tmp_path: Path, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised; it is a warning and a figure. The files stay, the newest run as well."""
    size = 1000
    outbox = Outbox(tmp_path, "a", limit=4 * size)
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        for number in range(10):
            writer("start", {"uid": f"run-{number}", "fill": "x" * size})
            writer("stop", {"uid": "s", "run_start": f"run-{number}"})

    statistics = outbox.statistics()

    assert (statistics.runs, statistics.given_up) == (3, 7)
    assert statistics.size <= 4 * size
    assert len(list(tmp_path.glob("*.jsonl"))) == 10
    assert caplog.text.count("is full (4000 bytes)") == 7
    assert [outbox.take() for _ in range(3)] == ["run-7", "run-8", "run-9"]
    assert len(list((outbox.place / "given-up").iterdir())) == 7

    small = Outbox(tmp_path, "a", limit=10)
    assert small.take() == "run-9"


def test_what_was_given_up_can_be_put_back(tmp_path: Path) -> None:
    """By moving its mark; it is delivered after the next start."""
    outbox = Outbox(tmp_path, "a")
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        write(writer, "one")
    outbox.give_up("one", "of a test")
    assert outbox.take() is None

    (outbox.place / "given-up" / "one.waiting").rename(outbox.place / "one.waiting")

    assert Outbox(tmp_path, "a").take() == "one"


def test_a_run_that_cannot_be_marked_is_still_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its documents are in its file; that it is not delivered is logged."""
    outbox = Outbox(tmp_path, "a")
    (outbox.place / "given-up").rmdir()
    outbox.place.rmdir()
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        write(writer, "one")

    assert len((tmp_path / "one.jsonl").read_text().splitlines()) == 6
    assert "run one cannot be marked" in caplog.text
    assert outbox.take() is None


# Tiled, without a server


@pytest.mark.parametrize("url", ["tiled.example", "ftp://tiled.example", "http://", "/srv/tiled"])
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    """With what was found and what is expected."""
    with pytest.raises(ValueError, match="expected the URL of a Tiled server"):
        tiled_sink(url)


def test_a_tiled_sink_is_made_only_when_it_is_used() -> None:
    """Loading its client takes seconds: a device that has no sink does not."""
    if importlib.util.find_spec("tiled") is None:
        with pytest.raises(ModuleNotFoundError, match="its extra 'tiled'"):
            tiled_sink("http://tiled.example")
    else:
        make = tiled_sink("http://tiled.example")
        assert make.func is TiledSink  # type: ignore[attr-defined]
    code = "import sys, milonga.engine; print('tiled' in sys.modules or 'pyarrow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "False"
