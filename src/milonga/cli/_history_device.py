"""Records as a device tells of them."""

import tango

from milonga.cli._looking import full_trl
from milonga.cli._tree_view import device_name
from milonga.errors import ArgumentError, RecordNotFound, RecordsError, Unreachable
from milonga.lrc import describe

__all__ = ["DeviceSource"]

_REASONS = {
    "ArgumentError": ArgumentError,
    "RecordNotFound": RecordNotFound,
    "RecordsError": RecordsError,
}


class DeviceSource:
    """Asks a device for records.

    Parameters
    ----------
    trl : str
        The device.
    tango_host : str, optional
        ``host:port`` of its database.

    Raises
    ------
    Unreachable
        By each method, if the device does not answer.
    """

    def __init__(self, trl: str, tango_host: str | None = None) -> None:
        self._trl = full_trl(trl, tango_host)

    def list_tasks(self, payload: str = "{}") -> str:
        """Return a page of records."""
        return self._ask("QueryTasks", payload)

    def get_task(self, task: str) -> str:
        """Return a record."""
        return self._ask("GetTask", task)

    def get_log(self, payload: str) -> str:
        """Return a page of a task's log."""
        return self._ask("GetTaskLog", payload)

    def explain(self, task: str) -> str:
        """Return why a task failed."""
        return self._ask("ExplainTask", task)

    def _ask(self, command: str, argument: str) -> str:
        try:
            return str(tango.DeviceProxy(self._trl).command_inout(command, argument))
        except tango.DevFailed as error:
            first = error.args[0]
            known = _REASONS.get(first.reason)
            if known is not None:
                raise known(first.desc) from error
            if first.reason == "API_CommandNotFound":
                raise ArgumentError(
                    f"{device_name(self._trl)}: found no command {command}, expected a device"
                    " that keeps records"
                ) from error
            raise Unreachable(f"{device_name(self._trl)}: {describe(error)}") from error
