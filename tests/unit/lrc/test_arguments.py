"""Arguments of foreign commands: text in, Tango values out, refusals with what was expected."""

import json
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import tango
from hypothesis import given
from hypothesis import strategies as st

from milonga.errors import CommandRejected
from milonga.lrc._arguments import parse_argument, to_device_data


@pytest.mark.parametrize(
    ("type_name", "text", "value"),
    [
        ("DevVoid", None, None),
        ("DevString", None, ""),
        ("DevString", '{"id": 1}', '{"id": 1}'),
        ("DevBoolean", "true", True),
        ("DevShort", "-32768", -32768),
        ("DevULong64", str(2**64 - 1), 2**64 - 1),
        ("DevFloat", "0.5", 0.5),
        ("DevDouble", "1e300", 1e300),
        ("DevState", '"on"', tango.DevState.ON),
        ("DevVarDoubleArray", "[1, 2.5]", [1.0, 2.5]),
        ("DevVarStringArray", '["a", ""]', ["a", ""]),
        ("DevVarBooleanArray", "[]", []),
        ("DevVarLongStringArray", '[[1], ["a", "b"]]', [[1], ["a", "b"]]),
        ("DevVarDoubleStringArray", "[[], []]", [[], []]),
    ],
)
def test_a_text_becomes_the_value_that_the_command_takes(
    type_name: str, text: str | None, value: object
) -> None:
    """A string as it is; everything else is JSON."""
    found = parse_argument(type_name, text)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("type_name", "text", "expected"),
    [
        ("DevVoid", "", "no argument"),
        ("DevBoolean", "1", "true or false"),
        ("DevShort", "32768", "an integer from -32768 to 32767"),
        ("DevLong", "3.0", "an integer"),
        ("DevLong", "true", "an integer"),
        ("DevULong", "-1", "an integer from 0"),
        ("DevDouble", "NaN", "a number"),
        ("DevDouble", '"3"', "a number"),
        ("DevFloat", "1e300", "a number"),
        ("DevDouble", None, "a number"),
        ("DevState", '"HAPPY"', "the name of a state"),
        ("DevVarLongArray", "3", "a JSON list"),
        ("DevVarLongArray", "[[1]]", "a JSON list"),
        ("DevVarStringArray", "[1]", "each item a string"),
        ("DevVarLongStringArray", '[1, "a"]', "JSON [[numbers], [strings]]"),
        ("DevVarLongStringArray", "[[1]]", "JSON [[numbers], [strings]]"),
        ("DevEncoded", '"x"', "a DevEncoded, which has no JSON form here"),
        ("DevVarLongArray", "[" * 100_000, "a JSON list"),
    ],
)
def test_a_text_that_does_not_fit_is_refused_with_what_was_expected(
    type_name: str, text: str | None, expected: str
) -> None:
    """Never an exception of another kind, whatever the text."""
    with pytest.raises(ValueError, match=r".+") as caught:
        parse_argument(type_name, text)

    assert expected in str(caught.value)


@given(st.sampled_from(["DevLong", "DevVarDoubleArray", "DevVarLongStringArray"]), st.text())
def test_no_text_breaks_it(type_name: str, text: str) -> None:
    """Value or ValueError, and nothing else."""
    with suppress(ValueError):
        assert parse_argument(type_name, text) is not None


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5))
def test_lists_survive_the_way_into_tangos_form(values: list[int]) -> None:
    """What was written is what the device gets."""
    info = SimpleNamespace(in_type=tango.CmdArgType.DevVarLongArray)

    data = to_device_data("a/b/c", "Sum", info, json.dumps(values), {})

    assert list(data.extract()) == values


@dataclass
class Described:
    """What is known of a command; Tango's own cannot be made here."""

    out_type: tango.CmdArgType


def test_an_unknown_command_is_refused_with_those_that_there_are() -> None:
    """So that a typing mistake is seen; queries are not listed where there is more to do."""
    answer, text = tango.CmdArgType.DevVarLongStringArray, tango.CmdArgType.DevString
    lrc: Any = {name: Described(answer) for name in ("On", "Off", "Configure")}
    plain: Any = {name: Described(text) for name in ("Status", "State")}

    for name, known, words in (
        ("Fly", lrc | plain, "a/b/c has no command Fly; it has Configure, Off, On$"),
        ("configure", lrc | plain, r"no command configure \(perhaps Configure is meant\); it has"),
        ("Fly", plain, "a/b/c has no command Fly; it has State, Status$"),
    ):
        with pytest.raises(CommandRejected, match=words):
            to_device_data("a/b/c", name, None, None, known)


SNOW = chr(0x2603)


@pytest.mark.parametrize(
    ("type_name", "text", "carried"),
    [
        ("DevString", f'{{"target": "{SNOW}", "x": 1.50}}', '{"target": "\\u2603", "x": 1.50}'),
        ("DevString", f'["{SNOW}"]', '["\\u2603"]'),
        ("DevString", "5 \xb0", "5 \xb0"),
        ("DevVarStringArray", '["5 \xb0"]', ["5 \xb0"]),
        ("DevString", f"the {SNOW}", None),
        ("DevString", f'"{SNOW}"', None),
        ("DevVarStringArray", f'["a", "{SNOW}"]', None),
        ("DevVarLongStringArray", f'[[1], ["{SNOW}"]]', None),
    ],
)
def test_what_tango_cannot_carry_goes_as_json_or_is_refused(
    type_name: str, text: str, carried: object
) -> None:
    """JSON has a way to write every character; another text is refused with the character."""
    info: Any = SimpleNamespace(in_type=getattr(tango.CmdArgType, type_name))
    if carried is None:
        with pytest.raises(CommandRejected, match=rf"not '{SNOW}' \(U\+2603\)"):
            to_device_data("a/b/c", "Configure", info, text, {})
    else:
        found = to_device_data("a/b/c", "Configure", info, text, {}).extract()
        assert (found if isinstance(found, str) else list(found)) == carried


@pytest.mark.parametrize(
    ("type_name", "text"), [("DevString", "a\0b"), ("DevVarStringArray", '["a\\u0000b"]')]
)
def test_a_text_that_tango_would_cut_is_refused(type_name: str, text: str) -> None:
    """What came after the NUL never arrived."""
    info: Any = SimpleNamespace(in_type=getattr(tango.CmdArgType, type_name))
    with pytest.raises(CommandRejected, match=r"\(U\+0000\)"):
        to_device_data("a/b/c", "Configure", info, text, {})
