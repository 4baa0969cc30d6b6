"""How a command loads what it needs, and how its errors are told."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from milonga.cli._exit import ExitCode, error_text, exit_code_of_error
from milonga.errors import MilongaError

__all__ = ["errors_told", "loading"]


@contextmanager
def errors_told(*, as_json: bool = False) -> Iterator[None]:
    """Turn every error into a line and an exit code; tracebacks only with --debug.

    Parameters
    ----------
    as_json : bool, optional
        Whether the line is a JSON object on stdout, rather than for people on stderr.
    """
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt as error:
        _tell("interrupted", error, as_json=as_json)
    except BrokenPipeError as error:
        # whoever read our output has seen enough; Python must not complain at its exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.OK) from error
    except MilongaError as error:
        _tell(error_text(error), error, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last door: everything becomes an exit code
        _tell(f"internal error: {type(error).__name__}: {error}", error, as_json=as_json)


@contextmanager
def loading() -> Iterator[None]:
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


def _tell(text: str, error: BaseException, *, as_json: bool) -> NoReturn:
    code = exit_code_of_error(error)
    if as_json and code is not ExitCode.INTERRUPTED:  # which ends a stream as it should
        typer.echo(json.dumps({"error": text, "exit_code": code}))
    else:
        typer.echo(f"milonga: {text}", err=True)
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    raise typer.Exit(code) from error
