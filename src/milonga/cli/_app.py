"""The commands of the command line, and how their errors are told.

What a command needs is imported when it runs: ``milonga --help`` loads neither Tango nor pydantic.
"""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import milonga
from milonga.cli._exit import ExitCode, exit_code_of_error
from milonga.errors import MilongaError

__all__ = ["app"]

app = typer.Typer(
    name="milonga",
    help="See and command systems of Tango devices with long-running commands.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 OK, 1 failed, 2 invalid input, 3 aborted, 4 rejected, 5 timeout, "
    "6 unreachable, 7 internal error, 130 interrupted.",
)


@contextmanager
def _errors_told() -> Iterator[None]:
    """Turn every error into a line on stderr and an exit code; tracebacks only with --debug."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as error:
        _tell("interrupted", error)
    except BrokenPipeError as error:
        # whoever read our output has seen enough; Python must not complain at its exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.OK) from error
    except MilongaError as error:
        _tell(str(error), error)
    except Exception as error:  # noqa: BLE001 - the last door: everything becomes an exit code
        _tell(f"internal error: {type(error).__name__}: {error}", error)


@contextmanager
def _loading() -> Iterator[None]:
    """Let Ctrl-C end the program on the spot while a command's modules are loaded.

    Nothing is running yet that would have to be cleaned up, and an interrupt inside the loading of
    Tango's and numpy's C code comes out as somebody else's traceback.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # a background job
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _tell(text: str, error: BaseException) -> NoReturn:
    typer.echo(f"milonga: {text}", err=True)
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    raise typer.Exit(exit_code_of_error(error)) from error


TangoHost = Annotated[
    str | None,
    typer.Option("--tango-host", metavar="HOST:PORT", help="Tango database; default: TANGO_HOST."),
]


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
    with _errors_told():
        with _loading():
            from milonga.cli._demo import demo as run_demo  # noqa: PLC0415

        raise typer.Exit(run_demo(data_folder=data, log_folder=keep_logs))


@app.command()
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
    timeout: Annotated[float, typer.Option(min=1.0, help="Seconds until all answer.")] = 60.0,
) -> None:
    """Start the system of a topology file; stop it with Ctrl-C."""
    own = port is not None or database is not None
    with _errors_told():
        with _loading():
            from milonga.cli._up import up as run_up  # noqa: PLC0415

        code = run_up(
            topology,
            tango_host=None if own else tango_host,
            port=port or 0,
            database_file=database,
            log_folder=logs,
            timeout=timeout,
        )
        raise typer.Exit(code)


@app.command()
def call(
    device: Annotated[
        str, typer.Argument(metavar="TRL", help="Device, such as mid-csp/control/0.")
    ],
    command: Annotated[str, typer.Argument(help="Command, such as Configure.")],
    argument: Annotated[
        str | None, typer.Argument(metavar="[JSON|@FILE|-]", help="Argument; -: standard input.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to follow it; default: to its end.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """Call a command and follow it to its end."""
    with _errors_told():
        with _loading():
            from milonga.cli._call import call as run_call  # noqa: PLC0415

        code = run_call(
            device, command, argument, timeout=timeout, as_json=as_json, tango_host=tango_host
        )
        raise typer.Exit(code)


@app.command()
def watch(
    device: Annotated[
        str, typer.Argument(metavar="TRL", help="Device, such as mid-csp/control/0.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object per line.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """Show a device's commands as they queue, run and end; stop with Ctrl-C."""
    with _errors_told():
        with _loading():
            from milonga.cli._watch import watch as run_watch  # noqa: PLC0415

        raise typer.Exit(run_watch(device, as_json=as_json, tango_host=tango_host))


@app.command()
def plans(
    device: Annotated[
        str, typer.Argument(metavar="TRL", help="Device, such as mid-csp/subarray/01.")
    ],
    plan: Annotated[str | None, typer.Argument(help="Describe this plan.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON value.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """List the plans that a device runs, or describe one."""
    with _errors_told():
        with _loading():
            from milonga.cli._plans import plans as run_plans  # noqa: PLC0415

        raise typer.Exit(run_plans(device, plan, as_json=as_json, tango_host=tango_host))


@app.command()
def run(
    device: Annotated[
        str, typer.Argument(metavar="TRL", help="Device, such as mid-csp/subarray/01.")
    ],
    plan: Annotated[str, typer.Argument(help="Name of the plan, see milonga plans.")],
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
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds to follow it; default: to its end.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    tango_host: TangoHost = None,
) -> None:
    """Run a plan on a device and follow it to its end."""
    with _errors_told():
        with _loading():
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
        )
        raise typer.Exit(code)


@app.command()
def validate(
    topology: Annotated[Path, typer.Argument(help="Topology file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
) -> None:
    """Check a topology file; name all its problems, each with its line."""
    with _errors_told():
        with _loading():
            from milonga.cli._validate import validate as run_validate  # noqa: PLC0415

        raise typer.Exit(run_validate(topology, as_json=as_json))
