"""Steps of nodes, results of analyses, and trees that are over, as records tell them."""

import json
from pathlib import Path
from typing import Any

import pytest

from milonga.control_model import ResultCode
from milonga.errors import ArgumentError, RecordNotFound
from milonga.records import (
    MAX_ATTACHED,
    AnalysisOutput,
    AnalysisStatus,
    DescribedAnalysis,
    FileQuota,
    FileReference,
    FileStore,
    NewTask,
    ProcessingTask,
    RecordCommands,
    Recorder,
    RecordStore,
    Situation,
    SummaryPlots,
    TaskAttachments,
    TaskFilter,
    TaskResult,
    analysis_from_record,
    attach_analysis,
    find_page,
    read_latest_parameter,
    recorded_tree,
)


def view(store: RecordStore, uid: str) -> dict[str, Any]:
    """Return a record as clients see it."""
    return json.loads(RecordCommands(store).get_task(uid))  # type: ignore[no-any-return]


def opened(recorder: Recorder, uid: str, **more: Any) -> None:
    """Open a command, or a node below one."""
    recorder.open(NewTask(uid=uid, task_name=uid.rpartition("/")[2], **more))


def test_steps_of_nodes_are_steps_of_their_command(store: RecordStore, recorder: Recorder) -> None:
    """QE-05, QE-06, QA-02: one open step per node, and all of them with the command."""
    heard: list[tuple[str, str]] = []
    store.listen(lambda news: heard.extend((one.uid, one.event.value) for one in news))
    opened(recorder, "1_Go")
    for name in ("a", "b"):
        opened(recorder, f"1_Go/{name}", parent_uid="1_Go")
        recorder.add_step(f"1_Go/{name}", name, "dev/ClearStep")
    assert recorder.flush(10.0)

    steps = view(store, "1_Go")["steps"]
    assert [(step["stepId"], step["cleared"]) for step in steps] == [("a", False), ("b", False)]
    assert steps[0]["href"] == "dev/ClearStep"
    assert ("1_Go", "steps") in heard
    assert ("1_Go/a", "steps") in heard

    recorder.clear_step("1_Go/a")
    recorder.add_step("1_Go/b", "again", "dev/ClearStep")  # one that was open is cleared with it
    assert recorder.flush(10.0)

    steps = view(store, "1_Go")["steps"]
    assert [(step["stepId"], step["cleared"]) for step in steps] == [
        ("a", True),
        ("b", True),
        ("b.again", False),
    ]
    assert [step["stepId"] for step in view(store, "1_Go/b")["steps"]] == ["b", "b.again"]


def test_who_goes_on_has_begun_when_it_did(store: RecordStore, recorder: Recorder) -> None:
    """A pause is no new beginning."""
    opened(recorder, "1_Go")
    recorder.change("1_Go", situation=Situation.RUNNING)
    assert recorder.flush(10.0)
    began = view(store, "1_Go")["runningAt"]
    recorder.change("1_Go", situation=Situation.PAUSED)
    assert recorder.flush(10.0)
    assert view(store, "1_Go")["phase"] == "PAUSED"
    recorder.change("1_Go", situation=Situation.RUNNING, again=True)
    assert recorder.flush(10.0)

    assert view(store, "1_Go")["phase"] == "RUNNING"
    assert view(store, "1_Go")["runningAt"] == began


def test_a_tree_is_followed_through_the_devices_that_have_records(
    store: RecordStore, recorder: Recorder
) -> None:
    """A leaf has below it what its device did; one whose device has no records has nothing."""
    opened(recorder, "1_On", device="top/1", command="On")
    opened(recorder, "1_On/x", parent_uid="1_On", device="low/1", command="On", kind="device")
    opened(recorder, "1_On/y", parent_uid="1_On", device="low/2", kind="device", position=1)
    opened(recorder, "2_On", device="low/1", command="On")
    opened(recorder, "2_On/z", parent_uid="2_On", device="leaf/1", kind="device")
    recorder.change("1_On/x", command_id="2_On")
    recorder.change("1_On/y", command_id="9_On")
    recorder.add_run("2_On/z", "run")
    recorder.finish("2_On/z", Situation.FAILED, "no beam", result_code=ResultCode.FAILED)
    recorder.finish("1_On/y", Situation.DONE)
    assert recorder.flush(10.0)

    tree = recorded_tree(store, "1_On")

    assert (tree["name"], tree["command_id"], tree["device"]) == ("1_On", "1_On", "top/1")
    x, y = tree["children"]
    assert (x["name"], x["target"], x["command_id"]) == ("x", "low/1", "2_On")
    (z,) = x["children"]
    assert (z["status"], z["result_code"], z["message"]) == ("COMPLETED", "FAILED", "no beam")
    assert z["run_uids"] == ["run"]
    assert (y["status"], y["progress"], y["children"]) == ("COMPLETED", 100, [])
    assert recorded_tree(store, "2_On/z")["name"] == "z"
    with pytest.raises(RecordNotFound, match="tree: found no record of 'nope'"):
        recorded_tree(store, "nope")


def test_a_command_that_names_itself_is_no_endless_tree(
    store: RecordStore, recorder: Recorder
) -> None:
    """Records of somebody else may say anything."""
    opened(recorder, "1_On")
    opened(recorder, "1_On/x", parent_uid="1_On")
    recorder.change("1_On/x", command_id="1_On")
    assert recorder.flush(10.0)

    node, depth = recorded_tree(store, "1_On"), 0
    while node["children"]:
        node, depth = node["children"][0], depth + 1
    assert depth < 100


def test_what_came_of_an_analysis_is_attached_to_its_record(
    store: RecordStore, recorder: Recorder, tmp_path: Path
) -> None:
    """LX-09, LX-10, QF-02: figures, the payload, files and links; the description in the data."""
    opened(recorder, "1_Go")
    opened(recorder, "1_Go/fit", parent_uid="1_Go", kind="analysis", data={"kept": 1})
    assert recorder.flush(10.0)
    files = FileStore.local(store, tmp_path / "files")
    (tmp_path / "given.txt").write_text("by path")
    result = TaskResult(
        "fit",
        AnalysisStatus.COMPLETED,
        ["good", SummaryPlots("tabs/one", [b"\x89PNG1", b"<p>2</p>"])],
        {"x": 1.5},
        "peak-fit",
    )
    output = AnalysisOutput(
        (
            {"name": "a.bin", "kind": "raw", "mimetype": "x/y", "base64": "AAE="},
            {"name": "b.txt", "kind": "raw", "path": str(tmp_path / "given.txt")},
        ),
        ({"kind": "elog", "href": "https://example.org/7"},),
    )

    attached = attach_analysis(
        *(store, files, "1_Go/fit", DescribedAnalysis(result, {"p": 2}), output),
        run="run-1",
    )
    kept = attached.files

    assert attached.refusals == ()
    assert [(file.file_name, file.file_type) for file in kept] == [
        ("tabs/one.png", "plot"),
        ("tabs/one-1.html", "plot"),
        ("payload.json", "peak-fit"),
        ("a.bin", "raw"),
        ("b.txt", "raw"),
    ]
    with files.open(kept[3]) as opened_file:
        assert opened_file.read() == b"\0\1"
    recorder.finish("1_Go/fit", Situation.DONE)
    assert recorder.flush(10.0)
    told = view(store, "1_Go/fit")
    assert told["data"]["kept"] == 1
    analysis = told["data"]["analysis"]
    assert analysis["task_parameters"] == {"p": 2}
    assert analysis["task_result"]["payload"] == {"x": 1.5}
    assert {"type": "elog", "href": "https://example.org/7"} in told["links"]
    assert read_latest_parameter(store, "fit", "p", for_run="run-1") == 2
    assert read_latest_parameter(store, "fit", "result.payload") == {"x": 1.5}


def test_what_is_wrong_with_one_file_costs_that_file_alone(
    store: RecordStore, recorder: Recorder, tmp_path: Path
) -> None:
    """LX-10, D-6: the result is there, and so are the other files; the refusals are told."""
    opened(recorder, "1_Go", kind="analysis")
    assert recorder.flush(10.0)
    files = FileStore.local(store, tmp_path / "files", quota=FileQuota(file=100))
    result = TaskResult("fit", AnalysisStatus.COMPLETED, "good", {"x": 1.5}, "peak-fit")
    good = {"name": "good.txt", "kind": "raw", "base64": "AAE="}
    output = AnalysisOutput(
        (
            {"name": "../up.txt", "base64": "AAE="},
            {"name": "gone.txt", "path": str(tmp_path / "gone.txt")},
            {"name": "strange.txt", "base64": "?"},
            {"name": "large.txt", "base64": "AAAA" * 100},
            *[good] * MAX_ATTACHED,
        ),
        ({"kind": "elog", "href": "x" * 501}, {"kind": "elog", "href": "https://example.org/7"}),
    )

    attached = attach_analysis(store, files, "1_Go", DescribedAnalysis(result, {"p": 2}), output)

    names = [refusal.partition(": ")[0] for refusal in attached.refusals]
    assert names[:5] == ["files", "../up.txt", "gone.txt", "strange.txt", "large.txt"]
    assert names[5].startswith("link xxx")
    assert len(attached.files) == 1 + MAX_ATTACHED - 4
    told = view(store, "1_Go")
    assert told["data"]["analysis"]["task_result"]["payload"] == {"x": 1.5}
    assert told["data"]["refusals"] == list(attached.refusals)
    assert [link["href"] for link in told["links"] if link["type"] == "elog"] == [
        "https://example.org/7"
    ]


def test_large_parts_of_a_result_are_stored_once(
    store: RecordStore, recorder: Recorder, tmp_path: Path
) -> None:
    """LU-07, LD-08: the record and the tables of analyses name the same file."""
    opened(recorder, "1_Go", kind="analysis")
    assert recorder.flush(10.0)
    files = FileStore.local(store, tmp_path / "files")
    result = TaskResult("fit", AnalysisStatus.COMPLETED, "good", b"x" * 10_000)

    attach_analysis(store, files, "1_Go", DescribedAnalysis(result, {"p": 2}), AnalysisOutput())

    assert len([*(tmp_path / "files").rglob("*.bin")]) == 1
    attachments = TaskAttachments(store, files, "1_Go")
    assert read_latest_parameter(store, "fit", "result.payload", files=attachments) == b"x" * 10_000


def test_a_long_payload_does_not_make_each_look_at_the_record_a_long_one(
    store: RecordStore, recorder: Recorder, tmp_path: Path
) -> None:
    """QA-01, LU-07: it is in a file, which the record names, and in the tables of analyses."""
    opened(recorder, "1_Go", kind="analysis")
    assert recorder.flush(10.0)
    files = FileStore.local(store, tmp_path / "files")
    payload = list(range(50_000))
    result = TaskResult("fit", AnalysisStatus.COMPLETED, "good", payload)

    attach_analysis(store, files, "1_Go", DescribedAnalysis(result, {"p": 2}), AnalysisOutput())

    assert len(RecordCommands(store).get_task("1_Go")) < 10_000
    with store.reading():
        task = ProcessingTask.get_by_uid("1_Go")
        assert task is not None
        shown = analysis_from_record(task).task_result.payload
    assert isinstance(shown, FileReference)
    kept = TaskAttachments(store, files, "1_Go").get(shown.reference)
    assert json.loads(kept) == payload
    assert read_latest_parameter(store, "fit", "result.payload") == payload


def test_a_result_that_is_too_large_is_told_of_without_it(
    store: RecordStore, recorder: Recorder, tmp_path: Path
) -> None:
    """LX-10: parameters and status are there, and why the rest is not."""
    opened(recorder, "1_Go", kind="analysis")
    assert recorder.flush(10.0)
    files = FileStore.local(store, tmp_path / "files", quota=FileQuota(file=100))
    result = TaskResult("fit", AnalysisStatus.COMPLETED, "good", b"x" * 10_000)

    attached = attach_analysis(
        store, files, "1_Go", DescribedAnalysis(result, {"p": 2}), AnalysisOutput()
    )

    assert [refusal.partition(": ")[0] for refusal in attached.refusals] == [
        "result",
        "payload.json",
    ]
    analysis = view(store, "1_Go")["data"]["analysis"]
    assert analysis["task_parameters"] == {"p": 2}
    assert analysis["task_result"]["task_status"] == "COMPLETED"
    assert "not stored: file: found" in analysis["task_result"]["summary"]


def test_the_user_is_enough_to_find_who_called(store: RecordStore, recorder: Recorder) -> None:
    """`--user ann` finds ann on every host, and nobody else."""
    for number, issuer in enumerate(("ann@a", "ann@b", "anna@a", "ann", "bob@a", None)):
        opened(recorder, f"{number}_On", issuer=issuer)
    assert recorder.flush(10.0)

    def found(issuer: str) -> set[str]:
        with store.reading() as session:
            page = find_page(session, TaskFilter(issuer=issuer))
            return {task.uid for task in page.tasks}

    assert found("ann") == {"0_On", "1_On", "3_On"}
    assert found("ann@b") == {"1_On"}
    assert found("an%") == set()


def test_the_last_lines_of_a_log_have_their_times(store: RecordStore, recorder: Recorder) -> None:
    """And levels; in order."""
    opened(recorder, "1_On")
    for number in range(250):
        recorder.log("1_On", f"line {number}", "ERROR" if number == 249 else "INFO")
    assert recorder.flush(10.0)

    entries = view(store, "1_On")["entries"]

    assert [entry["text"] for entry in entries] == [f"line {n}" for n in range(50, 250)]
    assert entries[-1]["level"] == "ERROR"
    assert entries[0]["at"] <= entries[-1]["at"]


def test_a_long_log_is_shown_in_pages(store: RecordStore, recorder: Recorder) -> None:
    """QA-01: an answer does not grow with the log; what it leaves out is counted."""
    opened(recorder, "1_On")
    for number in range(2500):
        recorder.log("1_On", f"line {number}")
    assert recorder.flush(10.0)
    commands = RecordCommands(store)

    told = view(store, "1_On")
    assert told["earlierEntries"] == 2300
    assert told["log"].splitlines()[:2] == ["… (2300 earlier lines are left out)", "line 2300"]
    lines: list[str] = []
    cursor, sizes = None, []
    while True:
        page = json.loads(commands.get_log(json.dumps({"uid": "1_On", "before": cursor})))
        lines = [entry["text"] for entry in page["entries"]] + lines
        sizes.append(len(page["entries"]))
        cursor = page["logCursor"]
        if cursor is None:
            break
    assert lines == [f"line {number}" for number in range(2500)]
    assert sizes == [1000, 1000, 500]


def test_long_lines_fill_a_page_sooner(store: RecordStore, recorder: Recorder) -> None:
    """QA-01: by characters as well; a line that is longer than a page is a page."""
    opened(recorder, "1_On")
    for _ in range(10):
        recorder.log("1_On", "x" * 60_000)
    assert recorder.flush(10.0)

    told = view(store, "1_On")

    assert (len(told["entries"]), told["earlierEntries"]) == (4, 6)
    with pytest.raises(ArgumentError, match="before: found -1"):
        RecordCommands(store).get_log('{"uid": "1_On", "before": -1}')
