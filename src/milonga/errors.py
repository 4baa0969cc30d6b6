"""The tree of exceptions: everything that Milonga raises on purpose.

Each message says what was asked, what was found and what was expected.
"""

__all__ = [
    "ArgumentError",
    "BlueskyException",
    "CommandMapError",
    "CommandRejected",
    "CommandTimeout",
    "CompositionError",
    "DeploymentError",
    "EngineBlockedError",
    "EngineBusyError",
    "EngineClosedError",
    "FileRefused",
    "InvalidState",
    "InvocationFailed",
    "MilongaError",
    "MonitoringError",
    "PlanNotFound",
    "ProtocolError",
    "QuotaExceeded",
    "RecordNotFound",
    "RecordsError",
    "StateModelError",
    "StatusTimeoutError",
    "StoreVersionError",
    "TopologyError",
    "UnknownStatusFailure",
    "Unreachable",
    "UnresolvableAnnotationError",
    "WaitTimeoutError",
    "WebhookRefused",
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


class BlueskyException(MilongaError):
    """Base of what goes wrong with statuses; the name that plans written for bluesky expect."""


class InvalidState(RuntimeError, BlueskyException):
    """A status was finished or failed a second time."""


class StatusTimeoutError(TimeoutError, BlueskyException):
    """Nobody reported the end of an operation before the deadline of its status."""


class UnknownStatusFailure(BlueskyException):
    """An operation failed and nobody said why."""


class WaitTimeoutError(TimeoutError, BlueskyException):
    """A status was not done in the time that a caller wanted to wait."""


class EngineBlockedError(MilongaError):
    """An engine cannot be made, as the event loop that all engines share does not answer."""


class EngineBusyError(MilongaError):
    """A plan was refused because the engine has another one, or its queue is full."""


class EngineClosedError(MilongaError):
    """An engine that was shut down was given work."""


class InvocationFailed(MilongaError):
    """A command that a plan gave to a child did not end well."""


class PlanNotFound(MilongaError):
    """No plan of that name is on the list of allowed plans."""


class UnresolvableAnnotationError(TypeError, MilongaError):
    """A parameter of a plan has a type for which no value can be asked.

    Parameters
    ----------
    plan_name, param_name : str
        Where the parameter is.
    annotation : object
        What it is annotated with.
    """

    def __init__(self, plan_name: str, param_name: str, annotation: object) -> None:
        super().__init__(
            f"plan {plan_name!r}, parameter {param_name!r}: found {annotation!r}, expected a type "
            "that has a text form, an Enum, a Literal, or a device type of which one is registered"
        )
        self.plan_name = plan_name
        self.param_name = param_name
        self.annotation = annotation


class MonitoringError(MilongaError):
    """Metrics and probes cannot be served as the environment says."""


class RecordsError(MilongaError):
    """The record store cannot do what it was asked for."""


class StoreVersionError(RecordsError):
    """The tables of a record store are not those that this release works with."""


class RecordNotFound(RecordsError, KeyError):
    """There is no such record."""

    __str__ = Exception.__str__  # that of KeyError puts quotes around the text


class FileRefused(RecordsError, ValueError):
    """A file must not be stored under this name, or with this content."""


class QuotaExceeded(RecordsError):
    """There is no room left for what was to be stored."""


class WebhookRefused(MilongaError, ValueError):
    """A webhook must not be called at this address."""


class CommandTimeout(MilongaError, TimeoutError):
    """A command had not ended in the time that a caller wanted to wait."""
