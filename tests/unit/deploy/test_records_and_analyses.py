"""What a topology says of records, of analyses, and of steps that wait for people."""

import json

import pytest

from milonga.deploy import Topology
from milonga.errors import TopologyError

WHOLE = """
name: small
subarrays:
  - device: lab/sub/1
    id: 1
    server: one
    children: [a]
    analyses:
      - {name: peak, target: "milonga.analyses:fit_peak", timeout: 30, python_path: [site]}
leaves: [{name: a, device: lab/leaf/a, server: two}]
servers: {two: {environment: {MILONGA_RECORDS: none, MORE: "1"}}}
records:
  store: postgresql://milonga@db/milonga
  webhook_hosts: [hooks.example.org:8443]
  max_days: 30
  max_count: 1000
  max_bytes: 5000000
  synchronous: FULL
  max_waiting: 500
  durable: false
command_map:
  subarray:
    Configure:
      tasks:
        ask: {prompt: "Sure?", input: {gain: number}, timeout: 60.0}
        a: {argument: {value: {gain: {$answer: ask.gain}}}}
        fit: {analysis: peak}
"""


def test_servers_are_told_of_their_records_by_their_environment() -> None:
    """What a server says for itself counts more."""
    one, two = sorted(Topology.from_text(WHOLE).servers, key=lambda server: server.name)

    assert dict(one.environment) == {
        "MILONGA_RECORDS": "postgresql://milonga@db/milonga",
        "MILONGA_WEBHOOK_HOSTS": "hooks.example.org:8443",
        "MILONGA_RECORDS_MAX_DAYS": "30.0",
        "MILONGA_RECORDS_MAX_COUNT": "1000",
        "MILONGA_RECORDS_MAX_BYTES": "5000000",
        "MILONGA_RECORDS_SYNCHRONOUS": "FULL",
        "MILONGA_RECORDS_MAX_WAITING": "500",
        "MILONGA_RECORDS_DURABLE": "no",
    }
    assert two.environment["MILONGA_RECORDS"] == "none"
    assert two.environment["MORE"] == "1"


def test_the_analyses_of_a_device_are_a_property() -> None:
    """One JSON object a line, as the device reads it."""
    (line,) = Topology.from_text(WHOLE).device("subarray-01").properties["Analyses"]
    assert json.loads(line) == {
        "name": "peak",
        "target": "milonga.analyses:fit_peak",
        "timeout": 30.0,
        "python_path": ["site"],
    }


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("milonga@db", "milonga:pw@db", "records.store: found 'postgresql://milonga:pw@db"),
        ("milonga@db", "milonga:pw@db", "a URL sqlite:… or postgresql:… without a password"),
        ("hooks.example.org:8443", "http://x", "records.webhook_hosts[0]: found 'http://x'"),
        ("max_days: 30", "max_days: 0", "records.max_days: found 0, expected a number greater"),
        ("max_count: 1000", "max_count: 1.5", "records.max_count: found 1.5"),
        ("max_waiting: 500", "max_waiting: 5", "records.max_waiting: found 5"),
        ("synchronous: FULL", "synchronous: full", "records.synchronous: found 'full'"),
        ("max_count", "max_counts", "records.max_counts: unknown field"),
        ("milonga.analyses:fit_peak", "fit_peak", "target: found 'fit_peak', expected module:func"),
        (
            "{analysis: peak}",
            "{analysis: pike}",
            "analysis: found 'pike', expected one of peak",
        ),
        ("$answer: ask.gain", "$answer: who.gain", "found $answer of 'who', expected a step"),
        ("gain: number", "gain: numbr", "for field 'gain' one of text, string, number"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(before: str, after: str, text: str) -> None:
    """By `milonga validate`, before anything runs."""
    assert before in WHOLE
    with pytest.raises(TopologyError) as refusal:
        Topology.from_text(WHOLE.replace(before, after))
    assert text in str(refusal.value)
