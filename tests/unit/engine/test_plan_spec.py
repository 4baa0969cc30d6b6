"""Descriptions of plans, their JSON schemas, and what becomes of what clients give."""

import datetime
import functools
import inspect
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from bluesky import plans
from bluesky.protocols import Movable, Readable
from bluesky.utils import Msg, MsgGenerator

from milonga.engine.actions import Action, continuous
from milonga.engine.plan_spec import (
    ParamDescription,
    ParamKind,
    UnresolvableAnnotationError,
    collect_arguments,
    create_plan_spec,
    json_schema,
    resolve_arguments,
    validate_arguments,
)
from milonga.errors import ArgumentError

from .conftest import Detector, Motor

DEVICES = {"m1": Motor("m1"), "m2": Motor("m2"), "det": Detector("det"), "cam": Detector("cam")}


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


def described(plan: Callable[..., Any]) -> dict[str, ParamDescription]:
    """Return the parameters of a plan by name."""
    return {each.name: each for each in create_plan_spec(plan, DEVICES).parameters}


def annotated(annotation: Any, default: Any = inspect.Parameter.empty) -> Any:
    """Return a plan that takes one parameter of a type."""

    def plan(x: Any = default) -> MsgGenerator[None]:
        yield Msg("null")

    plan.__annotations__["x"] = annotation
    if default is inspect.Parameter.empty:
        plan.__defaults__ = None
    return plan


def test_a_plan_is_described() -> None:
    """SP-01, SP-02, SP-08: name, docs, parameters, and how it is ended."""

    @continuous(pausable=True)
    def live(a: int, /, b: Annotated[float, "mm"] = 1.5, *, c: str = "x") -> MsgGenerator[None]:
        """Look."""
        yield Msg("null")

    spec = create_plan_spec(live, {})
    assert (spec.name, spec.docs, spec.togglable, spec.pausable) == ("live", "Look.", True, True)
    assert [(each.name, each.kind, each.annotation) for each in spec.parameters] == [
        ("a", ParamKind.POSITIONAL_ONLY, int),
        ("b", ParamKind.POSITIONAL_OR_KEYWORD, float),
        ("c", ParamKind.KEYWORD_ONLY, str),
    ]
    assert [each.has_default for each in spec.parameters] == [False, True, True]


def test_methods_lose_their_self() -> None:
    """SP-01: bound or not; wraps and partials are looked through."""

    class Station:
        def scan(self, a: int) -> MsgGenerator[None]:
            yield Msg("null")

    plain = create_plan_spec(Station().scan, {})
    assert [each.name for each in plain.parameters] == ["a"]
    assert [each.name for each in create_plan_spec(Station.scan, {}).parameters] == ["a"]

    @functools.wraps(Station.scan)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return Station.scan(*args, **kwargs)

    assert [each.name for each in create_plan_spec(wrapped, {}).parameters] == ["a"]


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (lambda: None, "generator function"),
        (annotated(int, 1).__class__, "generator function"),
    ],
)
def test_what_is_no_plan_is_refused(plan: Any, text: str) -> None:
    """SP-01: with a text that says what is missing."""
    with pytest.raises(TypeError, match=text):
        create_plan_spec(plan, {})


def test_the_return_annotation_is_needed() -> None:
    """SP-01: and must be a generator."""

    def without():  # type: ignore[no-untyped-def]
        yield Msg("null")

    def wrong() -> Iterator[Msg]:
        yield Msg("null")

    def right() -> Generator[Msg, Any, int]:
        yield Msg("null")
        return 1

    with pytest.raises(TypeError, match="return type annotation"):
        create_plan_spec(without, {})
    with pytest.raises(TypeError, match="MsgGenerator"):
        create_plan_spec(wrong, {})
    assert create_plan_spec(right, {}).name == "right"


def test_kinds_are_those_of_inspect() -> None:
    """SP-03: in value and order."""
    assert [int(each) for each in ParamKind] == [0, 1, 2, 3, 4]
    for kind in ParamKind:
        assert getattr(inspect.Parameter, kind.name) == kind


@pytest.mark.parametrize(
    ("annotation", "choices", "many"),
    [
        (Literal[1, "two"], ("1", "two"), False),
        (Motor, ("m1", "m2"), False),
        (Readable, ("det", "cam"), False),
        (Movable, ("m1", "m2"), False),
        (Readable[Any], ("det", "cam"), False),
        (list[Motor], ("m1", "m2"), True),
        (Sequence[Readable], ("det", "cam"), True),
        (set[Motor], ("m1", "m2"), True),
        (frozenset[Motor], ("m1", "m2"), True),
        (AbstractSet[Motor], ("m1", "m2"), True),
        (Optional[Motor], ("m1", "m2"), False),  # noqa: UP045 - both spellings
        (Motor | None, ("m1", "m2"), False),
        (Motor | Detector, ("m1", "m2", "det", "cam"), False),
        (int, None, False),
        (str, None, False),
    ],
)
def test_devices_and_literals_are_chosen(
    annotation: Any, choices: tuple[str, ...] | None, *, many: bool
) -> None:
    """SP-04, SP-05: the names of the devices that fit, in the order of the registry."""
    found = described(annotated(annotation))["x"]
    assert (found.choices, found.multiselect) == (choices, many)


def test_star_args_of_devices_are_many() -> None:
    """SP-04: and keyword arguments are anything."""

    def plan(*motors: Motor, **md: Any) -> MsgGenerator[None]:
        yield Msg("null")

    found = described(plan)
    assert (found["motors"].choices, found["motors"].multiselect) == (("m1", "m2"), True)
    assert found["md"].choices is None


@pytest.mark.parametrize(
    "annotation",
    [
        *(Any, inspect.Parameter.empty, object, Callable[[], None], dict),
        *(Sequence[object], list[Callable[[], None]], dict[str, Any]),
    ],
)
def test_what_nobody_can_give_is_refused_unless_it_may_lack(annotation: Any) -> None:
    """SP-06: with names in the error."""
    plan = annotated(annotation)
    if annotation is inspect.Parameter.empty:
        del plan.__annotations__["x"]
    with pytest.raises(UnresolvableAnnotationError) as caught:
        create_plan_spec(plan, DEVICES)
    assert isinstance(caught.value, TypeError)
    assert (caught.value.plan_name, caught.value.param_name) == ("plan", "x")
    create_plan_spec(annotated(annotation, None), DEVICES)


def test_a_device_that_is_not_there_is_refused_unless_it_may_lack() -> None:
    """SP-05: it is hidden from clients then."""
    with pytest.raises(UnresolvableAnnotationError):
        create_plan_spec(annotated(Motor), {})
    assert create_plan_spec(annotated(Motor, None), {}).parameters[0].hidden


NATIVE: list[tuple[Any, Any, Any]] = [
    (int, 3, 3),
    (float, 1.5, 1.5),
    (str, "x", "x"),
    (bool, True, True),
    (bytes, "AAE=", b"\x00\x01"),
    (range, [1, 9, 2], range(1, 9, 2)),
    (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
    (datetime.datetime, "2026-01-02T03:04:05", datetime.datetime(2026, 1, 2, 3, 4, 5)),  # noqa: DTZ001
    (datetime.time, "03:04:05", datetime.time(3, 4, 5)),
    (datetime.timedelta, "PT5S", datetime.timedelta(seconds=5)),
    (Path, "a/b", Path("a/b")),
    (Colour, "red", Colour.RED),
    (Literal[1, 2, "three"], 2, 2),
    (Literal[1, 2, "three"], "2", 2),
    (Optional[int], None, None),  # noqa: UP045 - both spellings
    (int | None, 4, 4),
    (Sequence[float], [1.5, -2.0], [1.5, -2.0]),
    (list[tuple[float, float]], [[0.0, 1.0]], [(0.0, 1.0)]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (set[str], ["a"], {"a"}),
    (dict[str, list[float]], {"x": [1.0]}, {"x": [1.0]}),
    (Optional[list[int]], [3], [3]),  # noqa: UP045 - both spellings
]


@pytest.mark.parametrize(("annotation", "given", "expected"), NATIVE)
def test_every_type_survives_json(annotation: Any, given: Any, expected: Any) -> None:
    """SP-06, SP-11, SP-12: from a client's JSON to the plan's argument."""
    spec = create_plan_spec(annotated(annotation), DEVICES)
    assert "x" in json_schema(spec)["properties"]
    values = validate_arguments(spec, json.dumps({"x": given}))
    args, kwargs = collect_arguments(spec, resolve_arguments(spec, values, DEVICES))
    assert (args, kwargs) == ((expected,), {})
    assert type(args[0]) is type(expected)


def test_actions_are_found_in_defaults() -> None:
    """SP-07, SP-11, B-25: one or several; text and nothing are no actions."""
    go, halt = Action(name="go"), Action(name="halt")

    def plan(
        one: Action = go,
        many: Sequence[Action] = (go, halt),
        text: str = "",
        nothing: Sequence[Action] = (),
    ) -> MsgGenerator[None]:
        yield Msg("null")

    found = described(plan)
    assert found["one"].actions is go
    assert found["many"].actions == (go, halt)
    assert found["one"].choices is None
    assert found["text"].actions is None
    assert found["nothing"].actions is None
    with pytest.raises(TypeError, match="expected Action"):
        create_plan_spec(annotated(int, go), {})
    values = resolve_arguments(create_plan_spec(plan, {}), {}, {})
    assert values == {"one": go, "many": (go, halt)}


def test_names_become_devices() -> None:
    """SP-09, SP-11: single, list, set; the order is the client's; objects stay."""

    def plan(
        one: Motor, many: Sequence[Motor], some: set[Motor], maybe: Motor | None = None
    ) -> MsgGenerator[None]:
        yield Msg("null")

    spec = create_plan_spec(plan, DEVICES)
    given = {"one": "m2", "many": ["m2", "m1"], "some": ["m1", "m2"], "maybe": None}
    values = resolve_arguments(spec, given, DEVICES)
    m1, m2 = DEVICES["m1"], DEVICES["m2"]
    assert values == {"one": m2, "many": [m2, m1], "some": {m1, m2}, "maybe": None}
    assert resolve_arguments(spec, {"one": m1}, DEVICES)["one"] is m1


def test_an_unknown_choice_is_an_error_with_the_choices() -> None:
    """SP-11, B-27: not None."""
    spec = create_plan_spec(annotated(Motor), DEVICES)
    with pytest.raises(ArgumentError, match="found 'm9', expected one of: m1, m2"):
        resolve_arguments(spec, {"x": "m9"}, DEVICES)
    spec = create_plan_spec(annotated(Literal[1, 2]), DEVICES)
    with pytest.raises(ArgumentError, match="expected one of: 1, 2"):
        resolve_arguments(spec, {"x": 3}, DEVICES)


def test_literals_get_their_type_back() -> None:
    """SP-11, B-27: from their text."""
    spec = create_plan_spec(annotated(Literal[1, 2, "1.5"]), DEVICES)
    assert resolve_arguments(spec, {"x": "2"}, {}) == {"x": 2}
    assert resolve_arguments(spec, {"x": "1.5"}, {}) == {"x": "1.5"}


def abc(a: int, b: int = 5, c: int = 6, *, k: int = 7) -> MsgGenerator[tuple[int, ...]]:
    """Take arguments of most kinds."""
    yield Msg("null")
    return (a, b, c, k)


def places(a: int = 1, b: int = 2, /, *rest: int, **more: int) -> MsgGenerator[None]:
    """Take arguments of the other kinds."""
    yield Msg("null")


@pytest.mark.parametrize(
    ("plan", "given", "args", "kwargs"),
    [
        (abc, {"a": 1, "b": 2, "c": 3, "k": 4}, (1, 2, 3), {"k": 4}),
        (abc, {"a": 1, "c": 9}, (1,), {"c": 9}),
        (abc, {}, (), {}),
        (places, {"b": 9}, (1, 9), {}),
        (places, {"a": 9}, (9,), {}),
        (places, {"rest": [7, 8]}, (1, 2, 7, 8), {}),
        (places, {"more": {"x": 1}}, (), {"x": 1}),
    ],
)
def test_arguments_go_where_they_belong(
    plan: Any, given: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """SP-10, SP-11, B-26: one that is left out does not shift the later ones."""
    assert collect_arguments(create_plan_spec(plan, {}), given) == (args, kwargs)


def test_arguments_that_cannot_be_placed_are_refused() -> None:
    """SP-10: no mapping for keywords, nothing for a place that is needed."""

    def needs(a: int, b: int = 2, /) -> MsgGenerator[None]:
        yield Msg("null")

    with pytest.raises(TypeError, match="expected a mapping"):
        collect_arguments(create_plan_spec(places, {}), {"more": 1})
    with pytest.raises(TypeError, match="'a'"):
        collect_arguments(create_plan_spec(needs, {}), {"b": 1})


def test_the_schema_says_what_to_give() -> None:
    """SP-12: choices as enumerations, defaults, what is required; no more than that."""

    def scan(
        motor: Motor,
        detectors: Sequence[Readable],
        points: int = 5,
        mode: Literal["fast", "slow"] = "fast",
        hook: Callable[[], None] | None = None,
        go: Action = Action(name="go"),  # noqa: B008
    ) -> MsgGenerator[None]:
        """Scan it."""
        yield Msg("null")

    schema = json_schema(create_plan_spec(scan, DEVICES))
    assert schema["title"] == "scan"
    assert schema["description"] == "Scan it."
    assert schema["required"] == ["motor", "detectors"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"motor", "detectors", "points", "mode"}
    assert schema["properties"]["motor"]["enum"] == ["m1", "m2"]
    assert schema["properties"]["detectors"]["items"]["enum"] == ["det", "cam"]
    assert schema["properties"]["points"]["default"] == 5
    json.dumps(schema)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ('{"a": "x"}', "a: found 'x'"),
        ('{"a": 1, "z": 2}', "z: found 2"),
        ("{}", "a: found"),
        ("[1]", "the argument: found"),
        ("not json", "the argument: found"),
    ],
)
def test_wrong_arguments_are_named(argument: str, text: str) -> None:
    """SP-12: field, value and what was expected, in one error."""
    with pytest.raises(ArgumentError) as caught:
        validate_arguments(create_plan_spec(abc, {}), argument)
    assert str(caught.value).startswith("plan 'abc': ")
    assert text in str(caught.value)


def test_what_was_not_given_stays_out() -> None:
    """SP-12: the plan's own defaults hold; nothing at all is no arguments."""
    spec = create_plan_spec(abc, {})
    assert validate_arguments(spec, {"a": 1}) == {"a": 1}
    assert validate_arguments(create_plan_spec(places, {}), "") == {}
    assert validate_arguments(create_plan_spec(places, {}), None) == {}
    given: Mapping[str, Any] = {"rest": [1], "more": {"z": 1}}
    assert validate_arguments(create_plan_spec(places, {}), given) == given


def test_names_that_pydantic_does_not_like_are_fine() -> None:
    """SP-12: such as ``model_config``, ``json`` or ``_x``."""

    def plan(model_config: int, json: int, _x: int = 1) -> MsgGenerator[None]:
        yield Msg("null")

    spec = create_plan_spec(plan, {})
    given = {"model_config": 1, "json": 2, "_x": 3}
    assert validate_arguments(spec, given) == given


def test_bluesky_plans_can_be_described() -> None:
    """SP-01, SP-12: those of `bluesky.plans`, with their devices."""
    spec = create_plan_spec(plans.count, DEVICES)
    schema = json_schema(spec)
    assert schema["required"] == ["detectors"]
    assert schema["properties"]["num"]["default"] == 1
    assert "per_shot" not in schema["properties"]
    values = validate_arguments(spec, '{"detectors": ["cam"], "num": 3}')
    args, kwargs = collect_arguments(spec, resolve_arguments(spec, values, DEVICES))
    assert (args, kwargs) == (([DEVICES["cam"]], 3), {})
