"""What the shell completes: devices, their commands and their plans. Silent where it cannot."""

import os
from contextlib import suppress
from typing import Any

import typer

__all__ = ["commands", "devices", "plans"]

_TIMEOUT_MS = 500


def devices(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a device that runs."""
    with suppress(Exception):
        import tango  # noqa: PLC0415 - the command line loads Tango only where it needs it

        host = context.params.get("tango_host") or os.environ.get("TANGO_HOST", "")
        address, _, port = host.partition(":")
        database = tango.Database(address, int(port)) if port else tango.Database()
        found = database.get_device_exported(f"{incomplete}*").value_string
        return [name for name in found if not name.startswith(("dserver/", "sys/"))]
    return []


def commands(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a command of the device."""
    with suppress(Exception):
        names = [info.cmd_name for info in _proxy(context).command_list_query()]
        return [name for name in names if name.startswith(incomplete)]
    return []


def plans(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a plan of the device."""
    with suppress(Exception):
        names = _proxy(context).command_inout("ListPlans")
        return [name for name in names if name.startswith(incomplete)]
    return []


def _proxy(context: typer.Context) -> Any:
    import tango  # noqa: PLC0415 - as above

    from milonga.cli._looking import full_trl  # noqa: PLC0415

    proxy = tango.DeviceProxy(full_trl(context.params["device"], context.params.get("tango_host")))
    proxy.set_timeout_millis(_TIMEOUT_MS)
    return proxy
