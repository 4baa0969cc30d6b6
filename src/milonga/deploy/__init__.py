"""Deployment: one topology file becomes a Tango database and running device servers."""

from milonga.deploy._database import Database
from milonga.deploy._examples import examples_folder
from milonga.deploy._processes import Process
from milonga.deploy._registration import register
from milonga.deploy._signals import ending_signals_interrupt
from milonga.deploy._system import System
from milonga.deploy._topology import DeviceEntry, ServerEntry, Topology, TopologyProblems
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
    "ending_signals_interrupt",
    "examples_folder",
    "register",
]
