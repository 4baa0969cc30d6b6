"""Where and how much a device logs: its loggingLevel and loggingTargets.

Source: lrc-protocol h.
"""

import json
import logging
import logging.handlers
import os
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import tango
from tango.server import attribute, device_property

from milonga.control_model import LoggingLevel
from milonga.devices._command_context import current_command
from milonga.devices._tracked import TrackedDevice, latin1
from milonga.errors import ArgumentError, MonitoringError

__all__ = [
    "FORMAT_VARIABLE",
    "JsonFormatter",
    "LoggingDevice",
    "SkaFormatter",
    "chosen_formatter",
    "make_target",
]

FORMAT_VARIABLE = "MILONGA_LOG_FORMAT"
"""Environment variable: ``ska``, the default, or ``json``."""

MAX_TARGETS = 4
FILE_BYTES = 1 << 20
FILE_BACKUPS = 2

_PYTHON_LEVELS = {
    LoggingLevel.OFF: logging.CRITICAL,
    LoggingLevel.FATAL: logging.CRITICAL,
    LoggingLevel.ERROR: logging.ERROR,
    LoggingLevel.WARNING: logging.WARNING,
    LoggingLevel.INFO: logging.INFO,
    LoggingLevel.DEBUG: logging.DEBUG,
}
_TANGO_LEVELS = {
    LoggingLevel.OFF: tango.LogLevel.LOG_OFF,
    LoggingLevel.FATAL: tango.LogLevel.LOG_FATAL,
    LoggingLevel.ERROR: tango.LogLevel.LOG_ERROR,
    LoggingLevel.WARNING: tango.LogLevel.LOG_WARN,
    LoggingLevel.INFO: tango.LogLevel.LOG_INFO,
    LoggingLevel.DEBUG: tango.LogLevel.LOG_DEBUG,
}
_DEVICE_LOGGERS = "milonga.device."


class SkaFormatter(logging.Formatter):
    """Writes the line that SKA software writes.

    ``version|UTC time|level|thread|function|file#line|tags|text``
    """

    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        super().__init__(
            "1|%(asctime)s|%(levelname)s|%(threadName)s|%(funcName)s|%(filename)s#%(lineno)d"
            "|%(tags)s|%(message)s"
        )

    def format(self, record: logging.LogRecord) -> str:
        """Add the tag that names the device."""
        device = record.name.removeprefix(_DEVICE_LOGGERS)
        record.tags = f"tango-device:{device}" if device != record.name else ""
        return super().format(record)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002
        """Write the time in UTC, with milliseconds."""
        text = time.strftime(self.default_time_format, time.gmtime(record.created))
        return self.default_msec_format % (text, record.msecs)


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object on one line.

    Keys: ``time`` (UTC), ``level``, ``logger``, ``thread``, ``message``, and as far as known
    ``device``, ``command_id``, ``transaction_id``, ``trace_id``, ``span_id``, ``exception``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        command = current_command()
        if record.name.startswith(_DEVICE_LOGGERS):
            told["device"] = record.name.removeprefix(_DEVICE_LOGGERS)
        if command is not None:
            told.setdefault("device", command.device)
            told["command_id"] = command.command_id
            if command.transaction_id is not None:
                told["transaction_id"] = command.transaction_id
        told |= _trace()
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def _trace() -> dict[str, str]:
    """Return the ids of the trace that the calling thread works on; nothing without telemetry."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return {}
    span = api.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


_FORMATTERS: dict[str, Callable[[], logging.Formatter]] = {
    "ska": SkaFormatter,
    "json": JsonFormatter,
}


def chosen_formatter() -> logging.Formatter:
    """Return what writes log records, as the environment says.

    Raises
    ------
    MonitoringError
        If there is no such format.
    """
    name = os.environ.get(FORMAT_VARIABLE) or "ska"
    if name not in _FORMATTERS:
        expected = ", ".join(_FORMATTERS)
        raise MonitoringError(f"{FORMAT_VARIABLE}: found {name!r}, expected one of {expected}")
    return _FORMATTERS[name]()


class TangoHandler(logging.Handler):
    """Hands records to a device's Tango logger."""

    def __init__(self, device: tango.DeviceImpl) -> None:
        super().__init__()
        logger = device.get_logger()
        self._writers: tuple[tuple[int, Callable[[str], None]], ...] = (
            (logging.CRITICAL, logger.fatal),
            (logging.ERROR, logger.error),
            (logging.WARNING, logger.warn),
            (logging.INFO, logger.info),
            (logging.NOTSET, logger.debug),
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            text = latin1(self.format(record))
            next(write for level, write in self._writers if record.levelno >= level)(text)
        except Exception:  # noqa: BLE001 - logging must not end what is logged
            self.handleError(record)


def make_target(text: str, device: tango.DeviceImpl) -> logging.Handler:
    """Make what a logging target means.

    Parameters
    ----------
    text : str
        ``console::cout``, ``file::PATH``, ``syslog::URL`` or ``tango::logger``; the part after
        the colons may be left out where it has a default.
    device : tango.DeviceImpl
        The device that logs.

    Raises
    ------
    ArgumentError
        If there is no such target, or it cannot be opened.
    """
    kind, _, name = text.partition("::")
    try:
        handler = _TARGETS[kind](name, device)
    except KeyError:
        raise ArgumentError(
            f"LoggingTargetError: found {text!r}; expected a type of {', '.join(_TARGETS)}"
        ) from None
    except (OSError, ValueError) as error:
        raise ArgumentError(f"LoggingTargetError: {text!r} cannot be opened: {error}") from error
    handler.setFormatter(chosen_formatter())
    return handler


def _file(name: str, device: tango.DeviceImpl) -> logging.Handler:
    path = Path(name or f"{device.get_name().replace('/', '_')}.log")
    return logging.handlers.RotatingFileHandler(
        path, maxBytes=FILE_BYTES, backupCount=FILE_BACKUPS, encoding="utf-8"
    )


def _syslog(name: str, _device: tango.DeviceImpl) -> logging.Handler:
    url = urlsplit(name)
    if url.scheme in {"udp", "tcp"} and url.hostname and url.port:
        kind = socket.SOCK_DGRAM if url.scheme == "udp" else socket.SOCK_STREAM
        return logging.handlers.SysLogHandler((url.hostname, url.port), socktype=kind)
    if url.scheme in {"file", ""} and url.path:
        return logging.handlers.SysLogHandler(url.path)
    raise ValueError("expected file://PATH, udp://HOST:PORT or tcp://HOST:PORT")


_TARGETS: dict[str, Callable[[str, tango.DeviceImpl], logging.Handler]] = {
    "console": lambda _name, _device: logging.StreamHandler(sys.stdout),
    "file": _file,
    "syslog": _syslog,
    "tango": lambda _name, device: TangoHandler(device),
}


class LoggingDevice(TrackedDevice):
    """A tracked device that can be told where and how much to log."""

    LoggingLevelDefault = device_property(
        dtype="DevUShort", default_value=4, doc="LoggingLevel after initialisation."
    )
    LoggingTargetsDefault = device_property(
        dtype=(str,), default_value=("tango::logger",), doc="Logging targets after initialisation."
    )

    def init_device(self) -> None:
        """Start with the level and targets of the properties."""
        super().init_device()
        self._logging_targets: tuple[str, ...] = ()
        self._set_logging_level(LoggingLevel(self.LoggingLevelDefault))
        self._set_logging_targets(tuple(self.LoggingTargetsDefault))

    def delete_device(self) -> None:
        """Close the targets."""
        super().delete_device()
        self._close_targets()

    @attribute(dtype=LoggingLevel)
    def loggingLevel(self) -> LoggingLevel:
        """How much the device logs."""
        return self._logging_level

    @loggingLevel.write
    def loggingLevel(self, level: int) -> None:
        self._set_logging_level(LoggingLevel(level))

    @attribute(dtype=(str,), max_dim_x=MAX_TARGETS)
    def loggingTargets(self) -> tuple[str, ...]:
        """Where the device logs to, beside standard output."""
        return self._logging_targets

    @loggingTargets.write
    def loggingTargets(self, targets: tuple[str, ...]) -> None:
        self._set_logging_targets(tuple(targets))

    def _set_logging_level(self, level: LoggingLevel) -> None:
        self._logging_level = level
        self.logger.setLevel(_PYTHON_LEVELS[level])
        self.get_logger().set_level(_TANGO_LEVELS[level])

    def _set_logging_targets(self, targets: tuple[str, ...]) -> None:
        wanted = [target for target in targets if target]
        handlers = [make_target(target, self) for target in wanted]  # may raise: then all stays
        self._close_targets()
        for handler in handlers:
            self.logger.addHandler(handler)
        self._logging_targets = tuple(wanted)

    def _close_targets(self) -> None:
        for handler in list(self.logger.handlers):
            self.logger.removeHandler(handler)
            handler.close()
