"""The tree of exceptions: everything that Milonga raises on purpose.

Each message says what was asked, what was found and what was expected.
"""

__all__ = [
    "ArgumentError",
    "CommandMapError",
    "CommandRejected",
    "CompositionError",
    "DeploymentError",
    "MilongaError",
    "ProtocolError",
    "StateModelError",
    "TopologyError",
    "Unreachable",
]


class MilongaError(Exception):
    """Anything that Milonga raises on purpose."""


class ArgumentError(MilongaError):
    """A command's argument is not what the command takes."""


class StateModelError(MilongaError):
    """A state machine has no such move from where it stands."""


class CommandMapError(MilongaError):
    """A command map is not valid."""


class CompositionError(MilongaError):
    """A command cannot be turned into a task tree for the children that are present."""


class TopologyError(MilongaError):
    """A topology file does not describe a system that can work."""


class DeploymentError(MilongaError):
    """A system could not be started or stopped."""


class Unreachable(MilongaError):
    """A device, or the Tango database, does not answer."""


class CommandRejected(MilongaError):
    """A device refused a command when it was called."""


class ProtocolError(MilongaError):
    """A device answered with something that is not the long-running-command protocol."""
