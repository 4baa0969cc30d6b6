"""Where documents go: a file for each run, another thread, and what is lost on the way."""

import errno
import json
import math
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from bluesky import plans
from bluesky.utils import Msg

from milonga.engine import DocumentBridge, JsonLinesWriter, Outbox, RunEngine

from .conftest import Detector, Documents


def test_each_run_has_its_file(engine: RunEngine, tmp_path: Path) -> None:
    """RE-28: one JSON line for each document, also when two runs are open at once."""
    detector = Detector()

    def plan() -> Iterator[Msg]:
        for run in ("a", "b"):
            yield Msg("open_run", run=run)
        for run in ("a", "b"):
            yield Msg("create", None, name="primary", run=run)
            yield Msg("read", detector, run=run)
            yield Msg("save", run=run)
        for run in ("a", "b"):
            yield Msg("close_run", run=run)

    with JsonLinesWriter(tmp_path / "runs", max_open=1) as writer:
        uids = engine(plan(), writer).result(5.0).run_start_uids
        assert len(uids) == 2
        for uid in uids:
            lines = [json.loads(each) for each in writer.path(uid).read_text().splitlines()]
            assert [name for name, _ in lines] == ["start", "descriptor", "event", "stop"]
            assert lines[0][1]["uid"] == lines[3][1]["run_start"] == uid
        assert (writer.written, writer.lost, len(writer.runs)) == (8, 0, 0)


def test_files_take_arrays_and_refuse_strange_names(tmp_path: Path) -> None:
    """RE-28: a uid is a file name, so it must be harmless."""
    np = pytest.importorskip("numpy")
    with JsonLinesWriter(tmp_path) as writer:
        writer("start", {"uid": "r", "data": np.arange(3), "one": np.float64(1.5), "p": tmp_path})
        writer("event", {"uid": "e", "descriptor": "unknown"})
        assert writer.lost == 1
        line = json.loads(writer.path("r").read_text())
        assert (line[1]["data"], line[1]["one"]) == ([0, 1, 2], 1.5)
        for wrong in ("../up", "a/b", "", "x" * 200):
            with pytest.raises(ValueError, match="uid"):
                writer("start", {"uid": wrong})


def test_a_run_that_cannot_be_written_has_an_end(tmp_path: Path) -> None:
    """RE-28: its documents are counted, and it does not stay in the outbox for ever."""
    outbox = Outbox(tmp_path, "lab")
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        writer.path("full").symlink_to("/dev/full")
        for name, document in (
            ("start", {"uid": "full"}),
            ("descriptor", {"uid": "d", "run_start": "full", "name": "primary"}),
            ("event", {"uid": "e", "descriptor": "d"}),
            ("stop", {"uid": "s", "run_start": "full"}),
        ):
            assert outbox.statistics().given_up == 0
            with pytest.raises(OSError, match="No space left"):
                writer(name, document)
        assert (writer.lost, writer.runs.lost_of("full")) == (4, 4)
        assert (writer._files, len(writer.runs)) == ({}, 0)
        assert outbox.take() is None
        assert outbox.statistics().given_up == 1, "nobody can take a run without its start"


def test_a_document_that_json_has_no_words_for_ends_its_run_too(tmp_path: Path) -> None:
    """RE-28: whatever is wrong with the stop document."""
    outbox = Outbox(tmp_path, "lab")
    endless: list[Any] = []
    endless.append(endless)
    with JsonLinesWriter(tmp_path, outbox=outbox) as writer:
        writer("start", {"uid": "r"})
        with pytest.raises(ValueError, match="Circular"):
            writer("stop", {"uid": "s", "run_start": "r", "reason": endless})
    assert writer.runs.lost_of("r") == 1
    uid = outbox.take()
    assert uid is not None
    assert [name for name, _ in outbox.documents(uid)] == ["start", "stop"]


def test_a_line_is_written_in_whole_or_not_at_all(tmp_path: Path) -> None:
    """RE-28: what comes when there is room again can still be read."""

    class Narrow(FileIO):
        """Has room for so many bytes."""

        room = 60

        def write(self, data: Any, /) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = min(self.room, len(data))
            self.room -= taken
            return super().write(data[:taken])

    with JsonLinesWriter(tmp_path) as writer:
        file = Narrow(writer.path("r"), "ab")
        writer._files["r"] = file
        writer("start", {"uid": "r"})
        with pytest.raises(OSError, match="No space left"):
            writer("descriptor", {"uid": "d", "run_start": "r", "name": "x" * 60})
        file.room = 1000
        writer("stop", {"uid": "s", "run_start": "r", "value": math.nan})
        lines = [json.loads(line) for line in writer.path("r").read_text().splitlines()]
    assert [name for name, _ in lines] == ["start", "stop"]
    assert math.isnan(lines[1][1]["value"]), "as bluesky's own writer has it"
    assert writer.runs.lost_of("r") == 1


def test_documents_can_go_to_another_thread(engine: RunEngine) -> None:
    """RE-42: which lives in a context, such as `tango.EnsureOmniThread`."""
    kept, entered = Documents(), []

    class Context:
        def __enter__(self) -> None:
            entered.append(threading.current_thread().name)

        def __exit__(self, *_: object) -> None:
            entered.append("left")

    with DocumentBridge(kept, name="milonga-push", surroundings=Context) as bridge:
        engine(plans.count([Detector()], num=3), bridge).result(5.0)
    assert [name for name, _ in kept.all] == ["start", "descriptor", *["event"] * 3, "stop"]
    assert kept.threads == {"milonga-push"}
    assert entered == ["milonga-push", "left"]
    assert bridge.statistics().passed == 6


def test_a_slow_bridge_drops_events_but_no_ends() -> None:
    """RE-42: what waits has a bound; one that raises is counted."""
    hold = threading.Event()
    kept: list[str] = []

    def slow(name: str, document: Any) -> None:
        hold.wait(5.0)
        kept.append(name)
        if name == "start":
            raise ValueError("bad callback")

    dropped: list[str] = []
    bridge = DocumentBridge(slow, capacity=2, dropped=lambda name, _: dropped.append(name))
    for name in ("start", *["event"] * 10, "descriptor", "stop"):
        bridge(name, {})
    hold.set()
    assert bridge.close()
    statistics = bridge.statistics()
    assert kept[0] == "start"
    assert kept[-2:] == ["descriptor", "stop"]
    assert dropped == ["event"] * statistics.dropped
    assert statistics.dropped >= 7
    assert statistics.failed == 1
