"""The commands that containers run, and what a chart is told: each does one thing of `up`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from milonga.cli._telling import errors_told, loading

__all__ = ["cluster"]

cluster = typer.Typer()

TopologyFile = Annotated[Path, typer.Option("--topology", help="Topology file.")]
TangoHost = Annotated[
    str,
    typer.Option("--tango-host", metavar="HOST:PORT", envvar="TANGO_HOST", help="Tango database."),
]
Listen = Annotated[
    str,
    typer.Option(
        envvar="MILONGA_LISTEN", metavar="ADDRESS", help="Where to listen; 0.0.0.0: everywhere."
    ),
]


@cluster.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def serve(
    context: typer.Context,
    server: Annotated[str, typer.Argument(help="The server's name in the topology.")],
    topology: TopologyFile,
    tango_host: TangoHost,
    listen: Listen = "127.0.0.1",
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to wait for the database; else for ever.")
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            envvar="MILONGA_HEALTH_PORT", min=0, max=65535, help="Port that probes look at."
        ),
    ] = None,
) -> None:
    """Wait for the database, register one server's devices, become it.

    More arguments go to the device server, such as -v4.
    """
    with errors_told():
        with loading():
            from milonga import deploy  # noqa: PLC0415

        system = deploy.Topology.load(topology)
        with deploy.ending_signals_interrupt():
            deploy.serve(
                system,
                server,
                tango_host=tango_host,
                listen=listen,
                timeout=timeout,
                health_port=health_port,
                more=context.args,
                tell=_note,
            )


@cluster.command()
def register(
    topology: Annotated[Path, typer.Argument(help="Topology file.")],
    tango_host: TangoHost,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to wait for the database; else for ever.")
    ] = None,
) -> None:
    """Write a topology into a Tango database; twice changes nothing."""
    with errors_told():
        with loading():
            from milonga import deploy  # noqa: PLC0415

        system = deploy.Topology.load(topology)
        with deploy.ending_signals_interrupt():
            deploy.register_when_there(system, tango_host, timeout=timeout, tell=_note)
        typer.echo(f"{system.name}: {len(system.devices)} devices are registered at {tango_host}")


@cluster.command()
def database(
    folder: Annotated[Path, typer.Option(help="Folder that its content is kept in.")] = Path(),
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 10000,
    listen: Listen = "127.0.0.1",
) -> None:
    """Become a Tango database."""
    with errors_told():
        with loading():
            from milonga import deploy  # noqa: PLC0415

        deploy.become_database(folder, host=listen, port=port)


@cluster.command()
def values(
    topology: Annotated[Path | None, typer.Argument(help="Topology file.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the chart's values.schema.json instead.")
    ] = False,
) -> None:
    """Write a topology file as values for the Helm chart."""
    if schema == (topology is not None):
        raise typer.BadParameter("give either a topology file or --schema")
    with errors_told():
        with loading():
            from milonga.cli import _values  # noqa: PLC0415

        typer.echo(_values.schema() if topology is None else _values.values(topology))


def _note(text: str) -> None:
    # one line per note, and at once: it is a container's log
    sys.stderr.write(f"milonga: {text}\n")
    sys.stderr.flush()
