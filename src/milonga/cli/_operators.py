"""The commands for who looks after a running system: trees, aborts, dashboards."""

from pathlib import Path
from typing import Annotated

import typer

from milonga.cli import _completion
from milonga.cli._options import Store, TangoHost
from milonga.cli._telling import errors_told, loading

__all__ = ["operators"]

operators = typer.Typer()

Device = Annotated[
    str,
    typer.Argument(
        metavar="TRL|ID",
        help="Device, such as mid-csp/control/0, or the id of a command of any device.",
        autocompletion=_completion.devices,
    ),
]
CommandId = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="One command of the device, by its id.")
]


@operators.command(
    epilog="Examples: milonga tree mid-csp/control/0 | milonga tree mid-csp/control/0 --follow"
)
def tree(
    device: Device,
    command_id: CommandId = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on showing it; stop with Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the document; one a line with --follow.")
    ] = False,
    store: Store = None,
    tango_host: TangoHost = None,
) -> None:
    """Show a device's commands as trees, with progress and what they wait for."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._tree import tree as show_tree  # noqa: PLC0415

        code = show_tree(
            device,
            command_id,
            follow=follow,
            as_json=as_json,
            tango_host=tango_host,
            store=store,
        )
        raise typer.Exit(code)


@operators.command(epilog="Examples: milonga abort mid-csp/subarray/01 | milonga abort ID")
def abort(
    device: Device,
    command_id: CommandId = None,
    timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds until it must have ended.")
    ] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    store: Store = None,
    tango_host: TangoHost = None,
) -> None:
    """Abort all commands of a device, or one; wait for the end."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._abort import abort as run_abort  # noqa: PLC0415

        code = run_abort(
            device,
            command_id,
            timeout=timeout,
            as_json=as_json,
            tango_host=tango_host,
            store=store,
        )
        raise typer.Exit(code)


@operators.command(epilog="Example: milonga dashboards topology.yaml --out boards")
def dashboards(
    topology: Annotated[Path, typer.Argument(help="Topology file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Write Taranta dashboards (.wj) for the system of a topology file."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._dashboards import dashboards as write  # noqa: PLC0415

        raise typer.Exit(write(topology, out, as_json=as_json))
