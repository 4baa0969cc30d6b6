"""The commands of the command line.

What a command needs is imported when it runs: ``milonga --help`` loads neither Tango nor pydantic.
"""

from pathlib import Path
from typing import Annotated

import typer

import milonga
from milonga.cli import _completion
from milonga.cli._cluster import cluster
from milonga.cli._exit import ExitCode
from milonga.cli._history import history
from milonga.cli._operators import operators
from milonga.cli._options import TangoHost
from milonga.cli._telling import errors_told, loading

__all__ = ["app"]

app = typer.Typer(
    name="milonga",
    help="See and command systems of Tango devices with long-running commands.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 OK, 1 failed, 2 invalid input, 3 aborted, 4 rejected, 5 timeout, "
    "6 unreachable, 7 internal error, 130 interrupted.",
)

Device = Annotated[
    str,
    typer.Argument(
        metavar="TRL",
        help="Device, such as mid-csp/control/0.",
        autocompletion=_completion.devices,
    ),
]
PlanDevice = Annotated[
    str,
    typer.Argument(
        metavar="TRL",
        help="Device, such as mid-csp/subarray/01.",
        autocompletion=_completion.devices,
    ),
]
FollowFor = Annotated[
    float | None, typer.Option(min=0.0, help="Seconds to follow it; default: to its end.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Send nothing; say who would get what.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"milonga {milonga.__version__}")
        raise typer.Exit(ExitCode.OK)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    pass


@app.command()
def demo(
    keep_logs: Annotated[
        Path | None, typer.Option("--logs", help="Keep the servers' logs in this folder.")
    ] = None,
    data: Annotated[
        Path,
        typer.Option("--data", envvar="MILONGA_DATA", help="Folder for the plans' documents."),
    ] = Path("milonga-data"),
) -> None:
    """Run a whole observation, three failures, and plans, on real device servers."""
    with errors_told():
        with loading():
            from milonga.cli._demo import demo as run_demo  # noqa: PLC0415

        raise typer.Exit(run_demo(data_folder=data, log_folder=keep_logs))


@app.command(epilog="Example: milonga up topology.yaml --port 10000")
def up(
    topology: Annotated[Path, typer.Argument(help="Topology file.")],
    tango_host: Annotated[
        str | None,
        typer.Option(
            "--tango-host",
            metavar="HOST:PORT",
            envvar="TANGO_HOST",
            help="Use this Tango database instead of one of our own.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of our own database, whatever TANGO_HOST says."),
    ] = None,
    database: Annotated[
        Path | None, typer.Option("--database", help="SQLite file of our own database; kept.")
    ] = None,
    logs: Annotated[Path | None, typer.Option("--logs", help="Folder for logs; kept.")] = None,
    listen: Annotated[
        str,
        typer.Option(envvar="MILONGA_LISTEN", metavar="ADDRESS", help="Where the servers listen."),
    ] = "127.0.0.1",
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds until all answer.")] = 60.0,
) -> None:
    """Start the system of a topology file; stop it with Ctrl-C."""
    own = port is not None or database is not None
    with errors_told():
        with loading():
            from milonga.cli._up import up as run_up  # noqa: PLC0415

        code = run_up(
            topology,
            tango_host=None if own else tango_host,
            port=port or 0,
            database_file=database,
            log_folder=logs,
            listen=listen,
            timeout=timeout,
        )
        raise typer.Exit(code)


@app.command(
    epilog="""Examples: milonga call mid-csp/control/0 On |
    milonga call mid-csp/subarray/01 Configure @configure.json --dry-run"""
)
def call(
    device: Device,
    command: Annotated[
        str,
        typer.Argument(help="Command, such as Configure.", autocompletion=_completion.commands),
    ],
    argument: Annotated[
        str | None, typer.Argument(metavar="[JSON|@FILE|-]", help="Argument; -: standard input.")
    ] = None,
    timeout: FollowFor = None,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """Call a command and follow it to its end."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._call import call as run_call  # noqa: PLC0415

        code = run_call(
            device,
            command,
            argument,
            timeout=timeout,
            as_json=as_json,
            tango_host=tango_host,
            dry=dry_run,
        )
        raise typer.Exit(code)


@app.command(epilog="Example: milonga watch mid-csp/subarray/01")
def watch(
    device: Device,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object per line.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """Show a device's commands as they queue, run and end; stop with Ctrl-C."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._watch import watch as run_watch  # noqa: PLC0415

        raise typer.Exit(run_watch(device, as_json=as_json, tango_host=tango_host))


@app.command(
    epilog="Examples: milonga plans mid-csp/subarray/01 | milonga plans mid-csp/subarray/01 scan"
)
def plans(
    device: PlanDevice,
    plan: Annotated[
        str | None,
        typer.Argument(help="Describe this plan.", autocompletion=_completion.plans),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON value.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """List the plans that a device runs, or describe one."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._plans import plans as run_plans  # noqa: PLC0415

        raise typer.Exit(run_plans(device, plan, as_json=as_json, tango_host=tango_host))


@app.command(
    epilog="""Example: milonga run mid-csp/subarray/01 count
    '{"detectors": ["detector-01"], "num": 3}' --dry-run"""
)
def run(
    device: PlanDevice,
    plan: Annotated[
        str,
        typer.Argument(
            help="Name of the plan, see milonga plans.", autocompletion=_completion.plans
        ),
    ],
    arguments: Annotated[
        str | None,
        typer.Argument(metavar="[JSON|@FILE|-]", help="What the plan takes: a JSON object."),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait if another plan runs; else be rejected.")
    ] = False,
    limit: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds until the device aborts the plan.")
    ] = None,
    timeout: FollowFor = None,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """Run a plan on a device and follow it to its end."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._plans import run as run_plan  # noqa: PLC0415

        code = run_plan(
            device,
            plan,
            arguments,
            queue=queue,
            limit=limit,
            timeout=timeout,
            as_json=as_json,
            tango_host=tango_host,
            dry=dry_run,
        )
        raise typer.Exit(code)


@app.command(epilog="Example: milonga validate topology.yaml")
def validate(
    topology: Annotated[Path, typer.Argument(help="Topology file.")],
    values: Annotated[
        bool, typer.Option("--values", help="The file has values for the Helm chart.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Check a topology file; name all its problems, each with its line."""
    with errors_told(as_json=as_json):
        with loading():
            from milonga.cli._validate import validate as run_validate  # noqa: PLC0415

        raise typer.Exit(run_validate(topology, values=values, as_json=as_json))


app.add_typer(operators)
app.add_typer(history)
app.add_typer(cluster)
