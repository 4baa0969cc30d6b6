"""Results of analyses: how they stand, how they are written, how they are found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milonga.errors import ArgumentError, FileRefused, StateModelError
from milonga.records import (
    ANALYSIS_MOVES,
    AnalysisHeader,
    AnalysisParameters,
    AnalysisStatus,
    DescribedAnalysis,
    ElogSummaryPlots,
    FileReference,
    SummaryPlots,
    TaskResult,
    decode,
    description_from_json,
    description_to_json,
    encode,
    flatten,
    plots_in,
    result_from_json,
    result_to_json,
    select_environment,
    substitute,
    write_plots,
)
from milonga.records import TaskStatus as LuteTaskStatus

OVER = [one for one in AnalysisStatus if not ANALYSIS_MOVES[one]]
PENDING = TaskResult("peaks", AnalysisStatus.PENDING, "", None)


class Files:
    """Attachments in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, name: str, data: bytes, mimetype: str) -> str:
        """Keep bytes."""
        del mimetype
        reference = f"{len(self.kept)}-{name}"
        self.kept[reference] = data
        return reference

    def get(self, reference: str) -> bytes:
        """Return bytes."""
        return self.kept[reference]


# Results


def test_names_and_fields_are_those_of_lute() -> None:
    """LU-02, LU-04: in LUTE's order."""
    result = TaskResult("peaks", LuteTaskStatus.COMPLETED, "ok", 5, "a; ;b;")
    description = DescribedAnalysis(result, {"x": 1}, {"LUTE_X": "1"}, 0.1, ["socket"])

    assert LuteTaskStatus is AnalysisStatus
    assert SummaryPlots is ElogSummaryPlots
    assert result.schemas == ("a", "b")
    assert TaskResult("peaks", LuteTaskStatus.PENDING, "", None).schemas == ()
    assert (description.poll_interval, description.communicator_desc) == (0.1, ["socket"])


@given(st.lists(st.sampled_from(AnalysisStatus), max_size=8))
def test_an_analysis_moves_only_where_the_table_says(steps: list[AnalysisStatus]) -> None:
    """LU-06: and never on from an end."""
    result = PENDING
    for step in steps:
        if step in ANALYSIS_MOVES[result.task_status]:
            result = result.moved(step)
        else:
            with pytest.raises(StateModelError, match=f"to {step.name}, expected"):
                result.moved(step)

    assert OVER == [
        AnalysisStatus.COMPLETED,
        AnalysisStatus.FAILED,
        AnalysisStatus.CANCELLED,
        AnalysisStatus.TIMEDOUT,
    ]


class Matplotlib:
    """A figure that has savefig, as those of matplotlib do."""

    def savefig(self, file: Any, format: str) -> None:  # noqa: A002 - matplotlib's name
        """Write bytes."""
        file.write(b"\x89PNG" + format.encode())


class Bokeh:
    """A figure whose save wants bytes, or text."""

    def __init__(self, page: str | bytes) -> None:
        self.page = page

    def save(self, file: Any) -> None:
        """Write the page."""
        file.write(self.page)


def test_figures_become_bytes_whoever_draws_them() -> None:
    """LU-05, D-9: matplotlib's too; bytes stay."""
    plots = ElogSummaryPlots("run/peaks", [Matplotlib(), Bokeh("<p>"), Bokeh(b"<q>"), b"raw"])

    assert plots.figures == (b"\x89PNGpng", b"<p>", b"<q>", b"raw")
    assert ElogSummaryPlots("x", b"one").pages == (b"one",)
    with pytest.raises(FileRefused, match="figure: found int"):
        ElogSummaryPlots("x", 5)


def test_real_libraries_draw_too() -> None:
    """LU-05: matplotlib and holoviews, where they are installed."""
    pyplot = pytest.importorskip("matplotlib.figure")
    figure = pyplot.Figure()
    figure.add_subplot().plot([1, 2])

    assert ElogSummaryPlots("x", figure).pages[0].startswith(b"\x89PNG")


def test_the_name_of_plots_leads_nowhere_else(tmp_path: Path) -> None:
    """LU-05, LX-09, D-9: it is a path below the folder."""
    with pytest.raises(FileRefused):
        ElogSummaryPlots("../../etc", b"x")
    plots = ElogSummaryPlots("/run/peaks", [b"\x89PNG", b"<p>"])

    written = write_plots(plots, tmp_path)

    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "run/peaks/report.png",
        "run/peaks/report-1.html",
    ]
    assert plots_in(["text", plots, {"a": 1}]) == [plots]


# Words of JSON


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        2.5,
        "text",
        b"\x00\xff",
        b"x" * 10_000,
        [1, [2.5, None]],
        (1, ("a", b"b")),
        {"a": {"b": (1,)}},
        {1: "a", (2, 3): "b"},
        {"$type": "not ours"},
        float("inf"),
        Path("/data/run"),
        AnalysisStatus.TIMEDOUT,
        ElogSummaryPlots("run/peaks", [b"a", b"b"]),
        ElogSummaryPlots("run/peaks", b"a"),
        FileReference("7", "image/png", "a plot"),
    ],
)
@pytest.mark.parametrize("files", [None, Files()])
def test_a_value_comes_back_as_it_was(value: Any, files: Files | None) -> None:
    """LU-07: also in its type."""
    words = json.loads(json.dumps(encode(value, files), allow_nan=False))
    again = decode(words, files)

    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("files", [None, Files()])
def test_an_array_is_a_file_where_there_are_files(files: Files | None) -> None:
    """LU-07: read without pickle; its numbers and their type stay."""
    array = np.arange(6, dtype="int16").reshape(2, 3)
    words = encode({"a": array, "n": np.float64(2.5), "i": np.int32(7)}, files)
    again = decode(words, files)

    assert ("file" in words["a"]) is (files is not None)
    assert again["a"].dtype == array.dtype
    assert np.array_equal(again["a"], array)
    assert (again["n"], again["i"]) == (2.5, 7)


class Strange:
    """A thing that nobody knows."""

    def __repr__(self) -> str:
        """Show it."""
        return "<strange>"


def test_what_is_unknown_is_never_lost_and_never_run() -> None:
    """LU-07: it becomes a file whose reference comes back; loading it runs nothing."""
    files = Files()
    objects = [Strange(), lambda: 1, np.array([object()])]
    words = encode(objects, files)
    again = decode(words, files)

    assert all(isinstance(one, FileReference) for one in again)
    assert len(files.kept) == 3
    assert encode(Strange())["value"] == "<strange>"
    with pytest.raises(ValueError, match="found type 'alien'"):
        decode({"$type": "alien"})


def test_results_and_descriptions_have_a_version() -> None:
    """LU-07, D-15: a later one is refused, not misread."""
    result = TaskResult("peaks", AnalysisStatus.COMPLETED, {"n": 3}, (1, b"x"), "npz")
    description = DescribedAnalysis(result, {"a": (1,)}, {"LUTE_PORT": "1"}, 0.1, ["socket"])

    assert result_from_json(result_to_json(result)) == result
    assert description_from_json(description_to_json(description)) == description
    with pytest.raises(ValueError, match="version: found 2"):
        result_from_json(result_to_json(result) | {"version": 2})


# Parameters


def test_parameters_are_frozen_and_exact(tmp_path: Path) -> None:
    """LP-01, LP-05: pydantic models with a shared header."""

    class Peaks(AnalysisParameters):
        threshold: float

    header = {"run": 12, "work_dir": tmp_path, "task_timeout": 5}
    peaks = Peaks.model_validate({"threshold": 1, "header": header})

    assert peaks.header.run == "12"
    with pytest.raises(ValueError, match="frozen"):
        peaks.threshold = 2.0
    with pytest.raises(ValueError, match="extra"):
        Peaks.model_validate({"threshold": 1, "other": 2})
    with pytest.raises(ValueError, match="greater than 0"):
        AnalysisHeader(task_timeout=0)
    with pytest.raises(ValueError, match="expected a folder that can be written"):
        AnalysisHeader(work_dir=tmp_path / "missing")
    assert "threshold" in Peaks.model_json_schema()["properties"]


def test_templates_are_filled_without_changing_types(caplog: pytest.LogCaptureFixture) -> None:
    """LP-03, LP-05: "007" stays a text; lists are filled too."""
    template = {
        "run": "{{ run }}",
        "path": ["{{ $DATA }}/r{{ run:04d }}", ("{{ Peaks.threshold }}",)],
        "id": "{{ id }}",
        "gone": "{{ $GONE }}",
        "plain": 5,
    }
    values = {"run": 7, "id": "007", "Peaks": {"threshold": 2.5}}

    assert substitute(template, values, {"DATA": "/data"}) == {
        "run": 7,
        "path": ["/data/r0007", (2.5,)],
        "id": "007",
        "gone": "{{ $GONE }}",
        "plain": 5,
    }
    assert "no GONE" in caplog.text
    with pytest.raises(ArgumentError, match=r"found '\{\{ other \}\}'"):
        substitute("{{ other }}", values)
    with pytest.raises(ArgumentError, match=r"Invalid format|Unknown format"):
        substitute("{{ id:d }}", values)


def test_parameters_are_flattened_as_lute_does() -> None:
    """LD-03: dots and brackets; what is empty stays."""
    assert flatten({"a": {"b": (1, 2)}, "c": [], "d": {}}) == {
        "a.b[0]": 1,
        "a.b[1]": 2,
        "c": [],
        "d": {},
    }


def test_only_some_of_the_environment_is_kept() -> None:
    """LD-05: by name, as a token may begin like anything else."""
    environment = {
        "LUTE_PORT": "1",
        "SLURM_JOB_ID": "2",
        "PASSWORD": "3",
        "SLURM_JWT": "4",
        "MILONGA_WEBHOOK_SECRET": "5",
        "LUTE_TOKEN": "6",
    }

    assert select_environment(environment) == {"LUTE_PORT": "1", "SLURM_JOB_ID": "2"}


def test_a_described_analysis_shows_names_of_variables_but_no_secret() -> None:
    """LD-05: whoever made the description."""
    result = TaskResult("peaks", AnalysisStatus.COMPLETED, "", None)
    description = DescribedAnalysis(result, {}, {"LANG": "C", "TOKEN": "secret"})

    told = description_to_json(description)

    assert told["task_env"] == {"LANG": "C", "TOKEN": "(not recorded)"}


# The store
