"""The page on the command line."""

from collections.abc import Iterator
from typing import Any

import typer

from milonga.cli._app import app
from milonga.cli._exit import ExitCode
from tools.reference._markdown import MADE, one_line, page, table

__all__ = ["cli_page"]

# Typer brings its own copy of click from some release on, so its classes are not imported here.


JSON_STYLE = """\
With `--json` a command writes JSON and nothing else to its standard output, also when it fails:
then an object with `error`, the text, and `exit_code`. What is typed so wrongly that there is no
command yet is told as text. The keys of what the command line itself says, and of task trees, are
in snake_case; `tasks`, `log` and `explain` pass on what the record store and the devices' commands
`QueryTasks`, `GetTask` and `ExplainTask` answer, whose keys are in camelCase (`resultCode`).
Interrupted commands say so on standard error, so that their JSON lines stay what they were.\
"""


def cli_page() -> str:
    """Write the page."""
    group: Any = typer.main.get_command(app)
    context = group.make_context("milonga", ["--help"], resilient_parsing=True)
    parts = [MADE, "# The command line\n", f"{group.help or app.info.help}\n"]
    parts.append(
        "These options of `milonga` itself stand before the command. `--install-completion`"
        " teaches a shell to complete commands, devices and plans.\n"
    )
    parts.append(table(("option", "what it does"), _options(group)))
    parts.append(f"\n{JSON_STYLE}\n")
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if not command.hidden:
            parts += _section(name, command)
    codes = [(code.value, code.name.lower().replace("_", " ")) for code in ExitCode]
    parts += ["\n## Exit codes\n", table(("code", "meaning"), codes)]
    return page(parts)


def _section(name: str, command: Any) -> Iterator[str]:
    given = [p for p in command.params if p.param_type_name == "argument"]
    usage = [_metavar(p) if p.required else f"[{_metavar(p)}]" for p in given]
    yield f"\n## milonga {name}\n"
    yield f"```text\nmilonga {' '.join([name, '[OPTIONS]', *usage])}\n```\n"
    yield f"{command.help or ''}\n"
    arguments = [
        (f"`{_metavar(parameter)}`", one_line(parameter.help or "")) for parameter in given
    ]
    if arguments:
        yield table(("argument", "what it is"), arguments)
    options = list(_options(command))
    if options:
        yield table(("option", "what it does"), options)
    if command.epilog:
        word, _, examples = " ".join(command.epilog.split()).partition(": ")
        told = " or ".join(f"`{example}`" for example in examples.split(" | "))
        yield f"{word}: {told}\n"


def _options(command: Any) -> Iterator[tuple[str, str]]:
    for option in command.params:
        told = option.param_type_name == "option" and not option.hidden
        if told and "completion" not in option.name:
            yield _option(option)


def _option(option: Any) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if not isinstance(option.default, bool):
        names += f" *{_metavar(option)}*"
    told = [one_line(option.help or "")]
    if option.envvar:
        told.append(f"Environment: `{option.envvar}`.")
    if option.default not in {None, False, ""} and not callable(option.default):
        told.append(f"Default: `{option.default}`.")
    return names, " ".join(filter(None, told))


def _metavar(parameter: Any) -> str:
    # a name of the type differs between releases of Typer
    return str(parameter.metavar or parameter.opts[0].lstrip("-").upper()).strip("[]")
