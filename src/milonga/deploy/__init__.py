"""Deployment: one topology file becomes a Tango database and running device servers."""

from milonga.deploy._chart_check import chart_values, check_values
from milonga.deploy._dashboards import dashboards, write_dashboards
from milonga.deploy._database import Database
from milonga.deploy._examples import examples_folder
from milonga.deploy._processes import Process
from milonga.deploy._registration import register
from milonga.deploy._serving import become_database, register_when_there, serve
from milonga.deploy._signals import ending_signals_interrupt
from milonga.deploy._system import System
from milonga.deploy._topology import DeviceEntry, ServerEntry, Topology, TopologyProblems
from milonga.deploy._values_schema import values_schema
from milonga.deploy._yaml_marks import Problem

__all__ = [
    "Database",
    "DeviceEntry",
    "Problem",
    "Process",
    "ServerEntry",
    "System",
    "Topology",
    "TopologyProblems",
    "become_database",
    "chart_values",
    "check_values",
    "dashboards",
    "ending_signals_interrupt",
    "examples_folder",
    "register",
    "register_when_there",
    "serve",
    "values_schema",
    "write_dashboards",
]
