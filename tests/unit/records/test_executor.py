"""Analyses in processes of their own."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ArgumentError
from milonga.records import AnalysisExecutor, AnalysisHeader, AnalysisLoop, AnalysisStatus
from milonga.records._frames import BadFrame, FrameReader, Message, frame

HERE = str(Path(__file__).parent)
SOON = 30.0


class Addition(BaseModel):
    """Parameters of an addition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    header: AnalysisHeader = AnalysisHeader()
    left: int
    right: int = 1


class Updates:
    """What a leaf is told."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self.news = threading.Condition()

    def __call__(self, **update: Any) -> None:
        """Note an update."""
        with self.news:
            self.all.append(update)
            self.news.notify_all()

    def wait_for(self, key: str) -> Any:
        """Wait for an update that has a keyword, and return its value."""
        with self.news:
            assert self.news.wait_for(lambda: any(key in one for one in self.all), SOON)
            return next(one[key] for one in self.all if key in one)


@pytest.fixture
def loop() -> Iterator[AnalysisLoop]:
    """Give a loop of its own, and see its thread end."""
    yield AnalysisLoop()
    for thread in threading.enumerate():
        if thread.name == "milonga-analyses":
            thread.join(SOON)
            assert not thread.is_alive()


@pytest.fixture
def new_executor(loop: AnalysisLoop) -> Callable[..., AnalysisExecutor]:
    """Make executors of the analyses for tests."""

    def make(function: str, **options: Any) -> AnalysisExecutor:
        return AnalysisExecutor(
            function, f"analyses_for_tests:{function}", python_path=[HERE], loop=loop, **options
        )

    return make


def test_an_analysis_says_how_far_it_is_and_what_came_of_it(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """LX-01, LX-04, LX-06, LX-14: from PENDING to COMPLETED, with validated parameters."""
    executor, updates = new_executor("add", parameters_model=Addition), Updates()
    events: list[str] = []
    statuses: list[AnalysisStatus] = []
    for event in ("TASK_STARTED", "TASK_LOG", "TASK_RESULT", "TASK_DONE", "TASK_FAILED"):
        executor.add_hook(event, lambda _d, _c, event=event: events.append(event))
        executor.add_hook(event, lambda d, _c: statuses.append(d.task_result.task_status))

    running = executor.start({"left": "2"}, updates, uid="c1/add")
    assert running.wait(SOON)

    result = running.description.task_result
    assert running.command_id == "c1/add"
    assert result.task_status is AnalysisStatus.COMPLETED
    assert result.payload["sum"] == 3
    assert events[0] == "TASK_STARTED"
    assert events[-1] == "TASK_DONE"
    assert events.count("TASK_LOG") == 2  # what it logged, and what it printed
    assert statuses[0] is AnalysisStatus.RUNNING
    assert updates.all[0] == {"status": TaskStatus.IN_PROGRESS}
    assert [one["progress"] for one in updates.all if "progress" in one] == [0, 50]
    assert updates.all[-1] == {
        "status": TaskStatus.COMPLETED,
        "result": (ResultCode.OK, "done"),
    }
    assert isinstance(running.description.task_parameters, Addition)


def test_the_last_result_counts(new_executor: Callable[..., AnalysisExecutor]) -> None:
    """LX-05: with its summary and schemas; tuples and bytes stay what they are."""
    running = new_executor("report").start({})
    assert running.wait(SOON)

    result = running.description.task_result
    assert (result.payload, result.summary) == ((1, b"x"), {"peaks": 3})
    assert result.schemas == ("npz",)


def test_a_progress_that_is_no_number_loses_no_result(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """LX-05, IN-08: it is left out of the updates."""
    updates = Updates()
    running = new_executor("lost").start({}, updates)
    assert running.wait(SOON)

    assert running.description.task_result.payload == {"answer": 42}
    assert not [one for one in updates.all if "progress" in one]


def test_an_update_that_is_refused_loses_no_result(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """LX-05: each message is heard by itself."""

    def refuse(**update: Any) -> None:
        if "progress" in update:
            raise RuntimeError("no thanks")

    running = new_executor("blurt").start({}, refuse)
    assert running.wait(SOON)

    assert running.description.task_result.payload == 42


def test_a_result_whose_files_are_out_of_reach_fails_the_analysis(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """LX-06: an analysis without its result is never reported OK."""

    class Files:
        """Attachments whose disk is gone."""

        def put(self, name: str, data: bytes, mimetype: str) -> str:
            """Fail."""
            raise OSError("the disk is gone")

        def get(self, reference: str) -> bytes:
            """Fail."""
            raise OSError("the disk is gone")

    updates = Updates()
    running = new_executor("refer", files=Files()).start({}, updates)
    assert running.wait(SOON)

    assert running.description.task_result.task_status is AnalysisStatus.FAILED
    assert updates.all[-1]["result"] == (
        ResultCode.FAILED,
        "gave a result that cannot be read: the disk is gone",
    )


def test_an_array_comes_back_as_one(new_executor: Callable[..., AnalysisExecutor]) -> None:
    """LU-07: without pickle."""
    running = new_executor("array").start({})
    assert running.wait(SOON)

    assert np.array_equal(running.description.task_result.payload, [0, 1, 2])


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("fail", "ValueError: no beam"),
        ("leave", "ended with exit code 3"),
        ("crash", "ended with SIGSEGV"),
        ("missing", "AttributeError: module 'analyses_for_tests' has no attribute 'missing'"),
        ("babble", "broke its channel: frame: found 4294967295 bytes, expected <= 16777216"),
    ],
)
def test_an_analysis_that_ends_badly_says_how(
    new_executor: Callable[..., AnalysisExecutor], function: str, text: str
) -> None:
    """LX-06, D-2, D-11: FAILED, with its reason, and only once."""
    updates = Updates()
    running = new_executor(function).start({}, updates)
    assert running.wait(SOON)

    assert running.description.task_result.task_status is AnalysisStatus.FAILED
    ends = [one for one in updates.all if "result" in one]
    assert [one["result"] for one in ends] == [(ResultCode.FAILED, text)]
    assert ("Traceback" in ends[0].get("error", "")) == (function in {"fail", "missing"})


@pytest.mark.parametrize("function", ["obey", "ignore"])
def test_an_analysis_can_be_aborted(
    new_executor: Callable[..., AnalysisExecutor], function: str
) -> None:
    """LX-14, D-2: CANCELLED is reached, also against the will of the process."""
    updates = Updates()
    running = new_executor(function, abort_grace=0.05, kill_grace=0.05).start({}, updates)
    updates.wait_for("progress")
    assert running._process is not None
    process = psutil.Process(running._process.pid)
    running.abort()
    running.abort()
    assert running.wait(SOON)

    assert not process.is_running()
    assert running.description.task_result.task_status is AnalysisStatus.CANCELLED
    assert updates.all[-1]["status"] is TaskStatus.ABORTED
    assert updates.all[-1]["result"] == (ResultCode.ABORTED, "aborted")


@pytest.mark.parametrize("function", ["linger", "riddle"])
def test_an_analysis_that_has_failed_is_ended_although_it_would_go_on(
    new_executor: Callable[..., AnalysisExecutor], function: str
) -> None:
    """D-2: nothing that it still does counts."""
    updates = Updates()
    running = new_executor(function, abort_grace=0.05, kill_grace=0.05).start({}, updates)
    assert running.wait(SOON)

    assert running.description.task_result.task_status is AnalysisStatus.FAILED
    assert updates.all[-1]["result"][0] is ResultCode.FAILED


def test_an_abort_before_the_start_is_heard(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """LU-06: from PENDING to CANCELLED."""
    running = new_executor("obey", abort_grace=0.0).start({})
    running.abort()
    assert running.wait(SOON)

    assert running.description.task_result.task_status is AnalysisStatus.CANCELLED


@pytest.mark.parametrize("options", [{"timeout": 0.05}, {}])
def test_an_analysis_has_a_deadline(
    new_executor: Callable[..., AnalysisExecutor], options: dict[str, float]
) -> None:
    """LX-12, D-1, D-2: TIMEDOUT is reached, by the clock of the executor."""
    executor = new_executor("ignore", kill_grace=0.05, **options)
    updates = Updates()
    parameters = {} if options else {"header": {"task_timeout": 0.05}}
    running = executor.start(parameters, updates)
    assert running.wait(SOON)

    assert running.description.task_result.task_status is AnalysisStatus.TIMEDOUT
    assert updates.all[-1]["result"] == (ResultCode.FAILED, "timed out after 0.05 s")
    assert updates.all[-1]["status"] is TaskStatus.FAILED


def test_parameters_that_are_not_valid_never_reach_a_process(
    new_executor: Callable[..., AnalysisExecutor], loop: AnalysisLoop
) -> None:
    """LX-04, LP-05: refused with field and value; for a leaf it is a rejection."""
    executor, updates = new_executor("add", parameters_model=Addition), Updates()
    with pytest.raises(ArgumentError, match="Addition: left: found 'two'"):
        executor.start({"left": "two"})
    work = executor.leaf_action({"left": "two"})(object(), updates)
    work.abort()
    work.close()

    assert work.command_id is None
    assert updates.all[0]["status"] is TaskStatus.REJECTED
    assert updates.all[0]["result"][0] is ResultCode.REJECTED
    assert not loop.is_running


def test_an_analysis_is_the_work_of_a_leaf(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """LX-14: it begins at once and reports through updates."""
    updates = Updates()
    action = new_executor("add").leaf_action({"left": 1}, uid="c1/add")
    work = action(object(), updates)

    assert updates.wait_for("result") == (ResultCode.OK, "done")
    assert work.command_id == "c1/add"
    work.close()


def test_what_an_analysis_says_is_an_update_but_not_too_often(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """IN-08: a tree shows the news; hooks hear every line."""
    executor, updates = new_executor("chatter"), Updates()
    lines: list[str] = []
    executor.add_hook("TASK_LOG", lambda _, text: lines.append(text))
    assert executor.start({}, updates).wait(SOON)

    messages = [one["message"] for one in updates.all if "message" in one]
    assert len(lines) == 100
    assert messages[0] == "line 0"
    assert len(messages) < 50


def test_the_environment_is_a_list_of_what_is_allowed(
    new_executor: Callable[..., AnalysisExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LX-11, LD-05: what is not named does not get there."""
    monkeypatch.setenv("LUTE_PATH", "/lute")
    monkeypatch.setenv("MY_SETTING", "7")
    secrets = {"DATABASE_PASSWORD", "MILONGA_WEBHOOK_SECRET", "MILONGA_RECORDS", "SLURM_JWT"}
    for name in secrets:
        monkeypatch.setenv(name, "secret")
    running = new_executor("environment", environment=["MY_SETTING"]).start({})
    assert running.wait(SOON)

    seen = running.description.task_result.payload
    assert (seen["LUTE_PATH"], seen["MY_SETTING"]) == ("/lute", "7")
    assert not secrets & seen.keys()
    described = running.description.task_env
    assert (described["LUTE_PATH"], described["MY_SETTING"]) == ("/lute", "(not recorded)")
    assert not secrets & described.keys()


def test_the_process_loads_nothing_that_it_does_not_need(
    new_executor: Callable[..., AnalysisExecutor],
) -> None:
    """LX-14: an analysis starts as fast as Python does."""
    running = new_executor("loaded").start({})
    assert running.wait(SOON)

    assert running.description.task_result.payload == []


def test_hooks_belong_to_their_executor_and_may_fail(
    new_executor: Callable[..., AnalysisExecutor], caplog: pytest.LogCaptureFixture
) -> None:
    """D-10, LX-03: several for an event; what one raises is logged."""
    first, second = new_executor("add"), new_executor("add")
    heard: list[str] = []
    first.add_hook("TASK_DONE", lambda _d, _c: 1 / 0)
    first.add_hook("TASK_DONE", lambda _d, _c: heard.append("first"))
    second.add_hook("TASK_DONE", lambda _d, _c: heard.append("second"))
    with pytest.raises(ValueError, match="found 'TASK_BORED'"):
        first.add_hook("TASK_BORED", lambda _d, _c: None)
    running = first.start({"left": 1})
    assert running.wait(SOON)

    assert heard == ["first"]
    assert "a hook of analysis add for TASK_DONE failed" in caplog.text


def test_one_thread_watches_all_and_ends_with_the_last(
    new_executor: Callable[..., AnalysisExecutor], loop: AnalysisLoop
) -> None:
    """D-16: nothing is polled."""
    before = set(threading.enumerate())
    many = [new_executor("obey").start({}) for _ in range(4)]
    new = [each.name for each in set(threading.enumerate()) - before]
    assert [name for name in new if name == "milonga-analyses"] == ["milonga-analyses"]
    assert len(new) < 4, "one for each"
    for running in many:
        running.abort()
    assert all(running.wait(SOON) for running in many)
    for thread in threading.enumerate():
        if thread.name == "milonga-analyses":
            thread.join(SOON)

    assert not loop.is_running


def test_a_program_that_is_not_there_is_a_failure(
    new_executor: Callable[..., AnalysisExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LX-14: never an exception into the loop."""
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    updates = Updates()
    running = new_executor("add").start({"left": 1}, updates)
    assert running.wait(SOON)

    assert updates.all[-1]["result"][1].startswith("cannot be started: ")


# Frames

messages = st.builds(
    Message,
    st.text(max_size=10),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just(";;;"),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)


@given(st.lists(messages, max_size=5), st.lists(st.integers(1, 20), min_size=1, max_size=30))
def test_messages_arrive_whole_however_they_are_cut(sent: list[Message], sizes: list[int]) -> None:
    """LI-04, D-3, D-14: two at once, half a character, and text that looks like a mark."""
    data = b"".join(map(frame, sent))
    reader, got, place = FrameReader(), [], 0
    for number in range(len(data)):
        size = sizes[number % len(sizes)]
        got += reader.feed(data[place : place + size])
        place += size
        if place >= len(data):
            break

    assert got == sent


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_kept_without_bound(noise: bytes) -> None:
    """LI-04, D-3: no more is kept than one message may have."""
    reader = FrameReader(max_frame=64)
    try:
        for byte in noise:
            reader.feed(bytes([byte]))
    except BadFrame:
        pass

    assert len(reader._kept) <= 64 + 4


@pytest.mark.parametrize("body", [b"[]", b"{}", b"[1, 2]", b'["a"]', b"\xff", b"[" * 60])
def test_what_is_no_message_is_named(body: bytes) -> None:
    """LI-04: the text shows what came."""
    with pytest.raises(BadFrame, match="frame: found"):
        FrameReader().feed(len(body).to_bytes(4) + body)
