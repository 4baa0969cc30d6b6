"""How a server process is: counters for Prometheus, and honest answers to probes.

A `Monitor` gathers what devices tell of themselves; a `MonitorServer` shows it over HTTP. Nothing
is measured ahead of a question, except for what ends: commands.
"""

from milonga.monitoring._http import PORT_VARIABLE, MonitorServer, serve_if_wanted
from milonga.monitoring._monitor import Check, Monitor, Sample, process_monitor
from milonga.monitoring._pulse import Pulse

__all__ = [
    "PORT_VARIABLE",
    "Check",
    "Monitor",
    "MonitorServer",
    "Pulse",
    "Sample",
    "process_monitor",
    "serve_if_wanted",
]
