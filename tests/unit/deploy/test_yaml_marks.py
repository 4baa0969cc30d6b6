"""YAML is read with the line of every value, and without YAML 1.1's surprises."""

import pytest

from milonga.deploy._yaml_marks import MAX_DEPTH, read_yaml


def test_every_value_knows_its_line() -> None:
    """The line of a mapping's value is that of its key, of a list's item its own."""
    marked = read_yaml("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n", "f.yaml")

    assert marked.data == {"a": {"b": 1, "c": ["x", {"d": 2}]}}
    assert [
        marked.line(path)
        for path in (("a",), ("a", "b"), ("a", "c"), ("a", "c", 0), ("a", "c", 1, "d"))
    ] == [1, 2, 3, 4, 5]


def test_a_path_that_is_not_in_the_file_has_the_line_around_it() -> None:
    """A missing field is reported where it is missing."""
    marked = read_yaml("a:\n  b: 1\n", "f.yaml")

    assert marked.line(("a", "missing", 3)) == 1


def test_commands_named_on_and_off_stay_text() -> None:
    """YAML 1.1 reads On and Off as booleans, and a command map is full of them."""
    marked = read_yaml("On: {command: Off}\nyes: no\n", "f.yaml")

    assert marked.data == {"On": {"command": "Off"}, "yes": "no"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("012", 12),
        ("-3", -3),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("'1'", "1"),
        ("2026-01-02", "2026-01-02"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """No octal, sexagesimal or date appears where a person wrote a number or a name."""
    found = read_yaml(f"a: {text}\n", "f.yaml").data["a"]

    assert found == value
    assert type(found) is type(value)


def test_keys_that_come_twice_are_all_reported_with_both_lines() -> None:
    """A duplicate key is an error, not a choice of the last one."""
    marked = read_yaml("a: 1\nb: {c: 1,\n  c: 2}\na: 3\n", "f.yaml")

    assert list(map(str, marked.problems)) == [
        "f.yaml:3: b.c: the key is already in line 2, expected it once",
        "f.yaml:4: a: the key is already in line 1, expected it once",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1\nb: 2\n", 2), ("a: b: c\n", 1), ("a: 1\n---\nb: 2\n", 2), ("x:\n\ty: 1\n", 2)],
)
def test_syntax_errors_have_their_line(text: str, line: int) -> None:
    """What is no YAML at all is reported, never raised."""
    (problem,) = read_yaml(text, "f.yaml").problems

    assert (problem.file, problem.line) == ("f.yaml", line)


def test_python_objects_are_not_made() -> None:
    """A tag that would call Python is a problem in its line."""
    marked = read_yaml("a: 1\nb: !!python/object/apply:os.getpid []\nc: !!python/name:os x\n", "f")

    assert [problem.line for problem in marked.problems] == [3]
    assert marked.data == {"a": 1, "b": [], "c": None}


def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    """Nine levels of ten aliases would be a thousand million values."""
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 9):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n"

    (problem,) = read_yaml(text, "f.yaml").problems

    assert "unfolds to more than" in str(problem)


@pytest.mark.parametrize("text", ["a: &x [*x]\n", "[" * 5000, "[" * (MAX_DEPTH + 2)])
def test_nesting_without_end_is_a_problem(text: str) -> None:
    """A list that contains itself, or a thousand brackets, do not end the program."""
    assert read_yaml(text, "f.yaml").problems
