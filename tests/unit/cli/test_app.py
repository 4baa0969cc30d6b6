"""The command line is there at once, and tells errors in a line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from milonga.cli._app import app

HEAVY = ("tango", "pydantic", "yaml", "numpy")


def milonga(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run the command line as a person does."""
    command = [sys.executable, "-m", "milonga", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False, **options
    )  # type: ignore[call-overload,no-any-return]


def test_help_loads_nothing_heavy() -> None:
    """Tango alone would take longer than all of it."""
    code = f"""
import sys
from milonga.cli import main
sys.argv = ["milonga", "--help"]
try:
    main()
except SystemExit:
    pass
sys.exit(", ".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "up", "call", "watch", "tree", "abort", "plans", "run", "validate"),
        *("dashboards", "serve", "register", "database", "values", "tasks", "log", "explain"),
    ],
)
def test_every_command_explains_itself(command: str) -> None:
    """In eighty columns."""
    result = milonga(command, "--help")

    assert result.returncode == 0
    assert f"milonga {command}" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_version_is_told() -> None:
    """One line."""
    assert milonga("--version").stdout.startswith("milonga ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("dance",),
        ("call", "a/b/c"),
        ("call", "a/b/c", "On", "--timeout", "soon"),
        ("call", "a/b", "On"),
        ("call", "a/b/c", "On", "{not json"),
        ("call", "a/b/c", "On", "@/no/such/file.json"),
        ("call", "a/b/c", "On", "[" * 100_000),
        ("tasks", "--since", "9999999d"),
        ("validate", "/no/such/file.yaml"),
        ("up", "/no/such/file.yaml"),
    ],
)
def test_what_was_typed_wrongly_ends_with_2(arguments: tuple[str, ...]) -> None:
    """And is told in a few lines, on stderr."""
    result = milonga(*arguments)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback() -> None:
    """For the person who wants to mend it."""
    result = milonga("--debug", "call", "a/b", "On")

    assert result.returncode == 2
    assert "Traceback" in result.stderr


def test_validate_names_all_problems(tmp_path: Path) -> None:
    """One line for each, with file and line."""
    file = tmp_path / "top.yaml"
    file.write_text("name: x\nsubarrays: [{device: a, id: 0, server: s, children: [y]}]\n")

    result = milonga("validate", str(file))

    assert result.returncode == 2
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "subarrays[0].children[0]",
        "subarrays[0].device",
        "subarrays[0].id",
    ]
    assert all(line.startswith(f"{file}:2: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("call", "no such", "On"), 2),
        (("call", "a/b/c", "On", "{not json"), 2),
        (("watch", "no such"), 2),
        (("tree", "no such"), 2),
        (("abort", "no such"), 2),
        (("abort", "tango://127.0.0.1:1/a/b/c#dbase=no", "17_22_On"), 6),
        (("plans", "no such"), 2),
        (("run", "no such", "count"), 2),
        (("run", "a/b/c", "count", "[]"), 2),
        (("tasks", "--store", "/no/such.db"), 2),
        (("log", "17_22_On", "--store", "/no/such.db"), 2),
        (("explain", "17_22_On", "--store", "/no/such.db"), 2),
        (("validate", "/no/such/file.yaml"), 2),
        (("dashboards", "/no/such/file.yaml"), 2),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_with_json_a_failure_is_json_as_well(arguments: tuple[str, ...], code: int) -> None:
    """The same two keys for all: a program need not read text for people."""
    result = CliRunner().invoke(app, [*arguments, "--json"])

    told = json.loads(result.stdout)
    assert (result.exit_code, told["exit_code"]) == (code, code)
    assert told["error"]
    assert result.stderr == ""


@pytest.mark.parametrize("command", ["tree", "abort"])
def test_without_a_database_that_is_what_is_told(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not that some device of which nobody spoke has none."""
    monkeypatch.delenv("TANGO_HOST", raising=False)
    monkeypatch.setattr("tango.ApiUtil.get_env_var", lambda _: "")
    monkeypatch.setenv("MILONGA_DATA", str(tmp_path))

    unknown = CliRunner().invoke(app, [command, "17.5_22_On"])
    silent = CliRunner().invoke(app, [command, "17.5_22_On", "--tango-host", "127.0.0.1:1"])

    assert (unknown.exit_code, silent.exit_code) == (2, 6)
    assert unknown.stderr == (
        "milonga: no Tango database is known; set TANGO_HOST or give --tango-host\n"
    )
    assert silent.stderr == "milonga: no Tango database answers at 127.0.0.1:1\n"
