"""The commands that look back: what was done, how it went, and why it failed."""

from typing import Annotated

import typer

from milonga.cli import _completion
from milonga.cli._options import Store, TangoHost
from milonga.cli._telling import errors_told, loading

__all__ = ["history"]

history = typer.Typer()

From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TRL",
        help="Ask this device instead of the store.",
        autocompletion=_completion.devices,
    ),
]
TaskId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a command, or of a node of its tree.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON value.")]


@history.command(
    epilog="Examples: milonga tasks --since 2h --status BAD | "
    "milonga tasks --device mid-csp/control/0 --csv > on.csv"
)
def tasks(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="ISO 8601 time, or an age such as 2h, 3d.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="As --since.")] = None,
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    command: Annotated[str | None, typer.Option(help="Only this command.")] = None,
    status: Annotated[
        str | None,
        typer.Option(
            help="OK, PARTIAL, FAILED, LOST, PENDING; a cause, as ABORTED; BAD: all but OK."
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Who called: user, or user@host.")] = None,
    run: Annotated[str | None, typer.Option(metavar="UID", help="Which made this run.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="How many, the newest: 20 if not given, of --csv all."),
    ] = None,
    all_nodes: Annotated[
        bool, typer.Option("--all-nodes", help="Also the nodes below commands.")
    ] = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Write a table for programs.")] = False,
    store: Store = None,
    trl: From = None,
    tango_host: TangoHost = None,
) -> None:
    """List commands that are recorded, the newest first."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._history_lists import Wanted, list_tasks  # noqa: PLC0415
            from milonga.cli._history_source import open_source  # noqa: PLC0415

        wanted = Wanted(
            since=since,
            until=until,
            device=device,
            command=command,
            status=status,
            user=user,
            run=run,
            limit=limit or (None if as_csv else 20),
            all_nodes=all_nodes,
        )
        with open_source(store, trl, tango_host) as source:
            code = list_tasks(source, wanted, as_json=as_json, as_csv=as_csv)
        raise typer.Exit(code)


@history.command(epilog="Example: milonga log 1795271874.97_5648_RunPlan")
def log(
    task: TaskId,
    all_lines: Annotated[
        bool, typer.Option("--all", help="All lines of long logs, not only the last of each node.")
    ] = False,
    as_json: AsJson = False,
    store: Store = None,
    trl: From = None,
    tango_host: TangoHost = None,
) -> None:
    """Tell what happened in a command and the nodes of its tree, in order."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._history_lists import show_log  # noqa: PLC0415
            from milonga.cli._history_source import open_source  # noqa: PLC0415

        with open_source(store, trl, tango_host) as source:
            code = show_log(source, task, all_lines=all_lines, as_json=as_json)
        raise typer.Exit(code)


@history.command(epilog="Example: milonga explain 1795271874.97_5648_RunPlan")
def explain(
    task: TaskId,
    as_json: AsJson = False,
    store: Store = None,
    trl: From = None,
    tango_host: TangoHost = None,
) -> None:
    """Say why a command failed, or what it waits for; the first line says it all."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._history_lists import show_explanation  # noqa: PLC0415
            from milonga.cli._history_source import open_source  # noqa: PLC0415

        with open_source(store, trl, tango_host) as source:
            code = show_explanation(source, task, as_json=as_json)
        raise typer.Exit(code)
