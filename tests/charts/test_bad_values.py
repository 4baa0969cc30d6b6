"""What cannot work is refused: by Helm, by `milonga validate`, and by the release's own job."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from milonga.deploy import Topology, TopologyProblems, chart_values, check_values, values_schema

from .chart_data import CHART, SMALL, Render, of_kind

GONE = object()

# field, what is put there, and what both Helm's and Milonga's complaint say about it
REFUSED_BY_BOTH: tuple[tuple[str, object, tuple[str, ...]], ...] = (
    ("topology.leaves[0].class", "Leave", ("MilongaController", "LeafSimulator")),
    ("topology.leaves[0].timeout", -2.5, ("-2.5", "0")),
    ("topology.defaults.timeout", 0, ("0",)),
    ("topology.defaults.max_queued", 0, ("0", "1")),
    ("topology.leaves[0].device", "lab/leaf", ("'lab/leaf'",)),
    ("topology.leaves[0].sever", "x", ("'sever'",)),
    ("topology.leaves[0].server", GONE, ("'server'",)),
    ("topology.leaves[1].script.On.outcome", "maybe", ("'ok', 'failed', 'rejected'",)),
    ("topology.subarrays[0].id", 0, ("0", "1")),
    (
        "topology.plan_devices",
        [{"name": "p", "device": "a/b/c", "type": "m:D", "server": "s"}],
        ("class",),
    ),
    ("records.backend", "postgresql", ("existingSecret",)),
    ("records.backend", "mysql", ("'sqlite'", "'postgresql'")),
    ("records.url", "postgresql://me:secret@host/db", ("postgresql://me:secret@host/db",)),
    ("tangogql.enabled", True, ("existingSecret",)),
    ("database", {"enabled": False}, ("tango", "host")),
    ("tango", {"host": "databaseds:10000"}, ("database", "enabled")),
    ("servers.leafs", {"env": {}}, ("found 'leafs', expected one of",)),
    ("terminationGracePeriodSeconds", -1, ("-1",)),
    ("health.port", 80, ("80",)),
    ("image.tga", "1", ("'tga'",)),
    ("resources.limits.memory", "lots", ("'lots'",)),
    ("topology", GONE, ("topology",)),
)

# beyond what a schema can express
REFUSED_BY_MILONGA: tuple[tuple[str, object, str], ...] = (
    ("topology.leaves[1].device", "LAB/leaf/a", "already used in line"),
    ("topology.leaves[1].name", "a", "already used in line"),
    ("topology.subarrays[0].children", ["a"], "'b' has no parent"),
    ("topology.subarrays[0].children", ["a", "b", "c"], "found 'c', expected one of"),
    ("topology.command_map.subarray.Onn", {"tasks": {}}, "unknown command"),
    ("topology.servers", {"nowhere": {}}, "no device runs in it"),
)


def steps(field: str) -> list[str | int]:
    """Take ``leaves[0].class`` apart."""
    parts = field.replace("[", ".").replace("]", "").split(".")
    return [int(part) if part.isdecimal() else part for part in parts]


def changed(field: str, value: object) -> dict[str, Any]:
    """Give values that are good but for one field."""
    values: dict[str, Any] = json.loads(chart_values(SMALL))
    here: Any = values
    *way, last = steps(field)
    for step in way:
        here = here[step] if isinstance(here, list) else here.setdefault(step, {})
    if value is GONE:
        del here[last]
    else:
        here[last] = value
    return values


def complaint(values: dict[str, Any], folder: Path) -> str:
    """Give what `milonga validate --values` says about values."""
    file = folder / "values.json"
    file.write_text(json.dumps(values, indent=1))
    with pytest.raises(TopologyProblems) as refusal:
        check_values(file)
    return str(refusal.value)


def test_the_schema_is_what_the_models_say() -> None:
    """After a change of a model: `milonga values --schema > charts/milonga/values.schema.json`."""
    committed = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))

    assert committed == values_schema()


def test_the_charts_own_values_are_good(tmp_path: Path) -> None:
    """As soon as there is a topology."""
    own = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "values.json"
    file.write_text(json.dumps({**own, "topology": SMALL}))

    assert check_values(file).name == "small"


def _named(field: str, value: object, _words: object) -> str:
    return f"{field} gone" if value is GONE else f"{field} {value}"


@pytest.mark.parametrize(
    ("field", "value", "words"), REFUSED_BY_BOTH, ids=[_named(*case) for case in REFUSED_BY_BOTH]
)
def test_helm_and_milonga_refuse_the_same(
    helm: ModuleType,
    render: Render,
    tmp_path: Path,
    field: str,
    value: object,
    words: tuple[str, ...],
) -> None:
    """Both name the field, what was found there, and what may be there."""
    values = changed(field, value)

    with pytest.raises(helm.HelmError) as refusal:
        render(values)
    ours = complaint(values, tmp_path)

    # a field that is not known, or not there, is told of by what it is in
    place = [str(step) for step in steps(field)[:-1]]
    for text in (str(refusal.value), ours):
        assert all(word in text for word in (*words, *place)), text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    REFUSED_BY_MILONGA,
    ids=[str(case[0]) for case in REFUSED_BY_MILONGA],
)
def test_what_no_schema_can_say_is_refused_before_anything_is_changed(
    render: Render, tmp_path: Path, field: str, value: object, words: str
) -> None:
    """Helm renders it; the file that its first job judges is refused with the command's words."""
    values = changed(field, value)

    documents = render(values)
    hooks = [
        entry["metadata"]["annotations"]["helm.sh/hook"] for entry in of_kind(documents, "Job")
    ]
    judged = of_kind(documents, "ConfigMap")[0]["data"]["topology.yaml"]
    with pytest.raises(TopologyProblems) as refusal:
        Topology.from_text(judged)
    ours = complaint(values, tmp_path)

    assert hooks == ["pre-install,pre-upgrade"]
    problems = [(problem.path, without_line(problem.text)) for problem in refusal.value.problems]
    assert any(words in text for _, text in problems)
    for path, text in problems:
        assert path in ours
        assert text in without_line(ours)


def without_line(text: str) -> str:
    """Leave out the lines that other lines are mentioned by: content has others than the file."""
    return " ".join("N" if word.strip(";,").isdecimal() else word for word in text.split(" "))


def test_the_job_says_what_is_wrong(render: Render, tmp_path: Path) -> None:
    """In the words of `milonga validate`, with the line of the file that was given."""
    bad = SMALL.replace("lab/leaf/b", "lab/leaf/a").replace("timeout: 10.0", "timeout: -1")
    documents = render({"topology": bad})
    container = of_kind(documents, "Job")[0]["spec"]["template"]["spec"]["containers"][0]
    file = tmp_path / "topology.yaml"
    file.write_text(of_kind(documents, "ConfigMap")[0]["data"]["topology.yaml"])
    arguments = [str(file) if "/" in part else part for part in container["args"]]

    done = subprocess.run(
        [sys.executable, "-m", "milonga", *arguments], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{file}:5: subarrays[0].timeout: found -1, expected a number greater than 0",
        f"{file}:8: leaves[1].device: found 'lab/leaf/a', which is already used in line 7; "
        "expected a device of its own",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [a", "topology: error converting YAML"),
        ("- a", "topology: error unmarshaling JSON"),
        ("name: a", "found neither controller nor subarrays"),
        ("controller: {device: a/b/c, server: on}", "put it in quotes"),
        (f"# {'x' * 900_000}\n{SMALL}", "expected at most 900000"),
    ],
)
def test_a_text_that_is_no_topology_is_refused_by_helm(
    helm: ModuleType, render: Render, text: str, words: str
) -> None:
    """The schema cannot look into a text, but the templates have to."""
    with pytest.raises(helm.HelmError, match="topology") as refusal:
        render({"topology": text})

    assert words in str(refusal.value)
