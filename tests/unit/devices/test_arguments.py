"""Arguments are checked before anything happens, and errors name field, found and expected."""

import pytest

from milonga.devices import parse_argument, parse_script
from milonga.errors import ArgumentError


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("Configure", "{nojson", "not JSON.*found '{nojson'.*expected a JSON object"),
        ("Configure", "", "not JSON"),
        ("Configure", "[1, 2]", "JSON array.*expected a JSON object"),
        ("Scan", "7", "JSON number"),
        ("Scan", '{"scan_id": "seven"}', "scan_id: found 'seven'; expected: .*integer"),
        ("Scan", '{"scan_id": -1}', "scan_id: found -1; expected: .*greater"),
        ("AssignResources", '{"subarray_id": 0}', "subarray_id: found 0"),
        ("AssignResources", '{"subarray_id": 2}', "subarray_id: found 2; expected 1"),
        ("Configure", '{"common": {"subarray_id": 3}}', "subarray_id: found 3; expected 1"),
        ("ReleaseResources", '{"release_all": "yes"}', "release_all: found 'yes'"),
        ("Configure", "[" * 100_000, "not JSON"),
        ("Configure", '{"a": "' + "x" * (1 << 20) + '"}', "characters; expected at most"),
    ],
)
def test_a_bad_argument_is_refused_in_words(command: str, text: str, words: str) -> None:
    """What was found and what was expected."""
    with pytest.raises(ArgumentError, match=words) as caught:
        parse_argument(command, text, subarray=1)

    assert len(str(caught.value)) < 300


def test_what_the_model_does_not_know_is_left_to_the_children() -> None:
    """A telescope's JSON has much that only subsystems understand."""
    argument = parse_argument(
        "Configure", '{"cbf": {"fsp": []}, "common": {"frequency_band": "1"}}'
    )

    assert argument.addressed_subarray is None


def test_a_script_that_is_wrong_says_where() -> None:
    """Field, found and expected."""
    with pytest.raises(ArgumentError, match=r"Scan\.duration: found -1; expected"):
        parse_script('{"Scan": {"duration": -1}}')
    with pytest.raises(ArgumentError, match=r"\*\.outcome: found 'explodes'; expected: .*'ok'"):
        parse_script('{"*": {"outcome": "explodes"}}')
