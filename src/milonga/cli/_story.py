"""The story that `milonga demo` plays: an observation, three failures, then plans, as data."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from milonga.cli._nudges import Nudge
from milonga.control_model import ResultCode, TaskStatus

__all__ = ["STORY", "Chapter", "Expected", "Step", "deviation", "expected_words"]


@dataclass(frozen=True)
class Expected:
    """How a step must end for the story to be true.

    Parameters
    ----------
    status, result_code : TaskStatus, ResultCode
        How the command ends.
    culprits : frozenset of str
        Names in the topology of the devices, or of plans, that the tree must show as the cause,
        and no others.
    named : bool
        Whether the result's message must name them too.
    """

    status: TaskStatus = TaskStatus.COMPLETED
    result_code: ResultCode = ResultCode.OK
    culprits: frozenset[str] = frozenset()
    named: bool = True


@dataclass(frozen=True)
class Step:
    """One command, and what must come of it.

    Parameters
    ----------
    device : str
        Name in the topology.
    command : str
        The command.
    argument : str, optional
        File with the argument, in the example's folder.
    expected : Expected
        How it must end.
    scripts : mapping
        For the time of this step, what leaves do with this command: name in the topology to the
        JSON of a script's entry.
    abort : Expected, optional
        Send Abort as soon as the command runs on the leaves, and expect this of the Abort.
    request : mapping, optional
        The argument as data, for RunPlan.
    nudges : sequence of Nudge
        What is done to the plan while it runs.
    """

    device: str
    command: str
    argument: str | None = None
    expected: Expected = Expected()
    scripts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    abort: Expected | None = None
    request: Mapping[str, object] = field(default_factory=dict)
    nudges: tuple[Nudge, ...] = ()

    @property
    def plan(self) -> str:
        """The plan that is run; empty if the command is another."""
        return str(self.request.get("plan", ""))

    @property
    def title(self) -> str:
        """The command, and the plan if it runs one."""
        return f"{self.command} {self.plan}".rstrip()


@dataclass(frozen=True)
class Chapter:
    """A part of the story that a person can follow."""

    title: str
    steps: tuple[Step, ...]


_CONTROLLER = "controller"
_SUBARRAY = "subarray-01"
_LEAVES = ("cbf-01", "pss-01", "pst-01", "vlbi-01")
_ASSIGN = Step(_SUBARRAY, "AssignResources", "assignresources.json")
_CONFIGURE = Step(_SUBARRAY, "Configure", "configure.json")


def _partly(*culprits: str) -> Expected:
    return Expected(TaskStatus.COMPLETED, ResultCode.FAILED, frozenset(culprits))


_SCAN = {
    "detectors": ["detector-01"],
    "motor": "motor-01",
    "start": -2.0,
    "stop": 2.0,
    "num": 41,
}


def _plan(
    name: str,
    arguments: Mapping[str, object],
    *nudges: Nudge,
    expected: Expected = Expected(),
    analysis: str | None = None,
) -> Step:
    request: dict[str, object] = {"plan": name, "arguments": arguments}
    if analysis is not None:
        request["analysis"] = analysis
    return Step(_SUBARRAY, "RunPlan", request=request, nudges=nudges, expected=expected)


STORY = (
    Chapter(
        "An observation on subarray 1",
        (
            Step(_CONTROLLER, "On"),
            _ASSIGN,
            _CONFIGURE,
            Step(_SUBARRAY, "Scan", "scan.json"),
            Step(_SUBARRAY, "EndScan"),
            Step(_SUBARRAY, "End"),
            Step(_SUBARRAY, "ReleaseResources", "releaseresources.json"),
            Step(_CONTROLLER, "Off"),
        ),
    ),
    Chapter(
        "A failure: the pulsar timing beam cannot be configured",
        (
            Step(_CONTROLLER, "On"),
            _ASSIGN,
            Step(
                _SUBARRAY,
                "Configure",
                "configure.json",
                expected=_partly("pst-01"),
                scripts={
                    "pst-01": {"duration": 0.3, "outcome": "failed", "message": "no beam weights"}
                },
            ),
        ),
    ),
    Chapter(
        "A rejection: the pulsar search does not want to be configured",
        (
            Step(
                _SUBARRAY,
                "Configure",
                "configure.json",
                expected=_partly("pss-01"),
                scripts={"pss-01": {"outcome": "rejected", "message": "busy with another search"}},
            ),
        ),
    ),
    Chapter(
        "An abort: the scan is stopped while it runs",
        (
            _CONFIGURE,
            Step(
                _SUBARRAY,
                "Scan",
                "scan.json",
                expected=Expected(
                    TaskStatus.ABORTED,
                    ResultCode.ABORTED,
                    frozenset(_LEAVES),
                    named=False,
                ),
                scripts={name: {"duration": 15.0, "steps": 60} for name in _LEAVES},
                abort=Expected(),
            ),
            Step(_SUBARRAY, "Restart"),
            Step(_CONTROLLER, "Off"),
        ),
    ),
    Chapter(
        "A plan: a scan of a detector over a motor, paused and resumed, and a peak fitted to it",
        (
            _plan(
                "scan",
                _SCAN,
                Nudge("Pause", progress=30),
                Nudge("Resume", state="paused"),
                analysis="fit_peak",
            ),
        ),
    ),
    Chapter(
        "A plan that goes on until it is stopped: an action says when it records",
        (
            _plan(
                "live",
                {"detectors": ["detector-01"], "period": 0.05},
                Nudge("ToggleAction", "record"),
                Nudge("ToggleAction", "record", events=8),
                Nudge("StopPlan"),
            ),
        ),
    ),
    Chapter(
        "An abort in the middle of a scan",
        (
            _plan(
                "scan",
                _SCAN,
                Nudge("AbortPlan", progress=30),
                expected=Expected(TaskStatus.ABORTED, ResultCode.ABORTED, frozenset({"scan"})),
            ),
        ),
    ),
)


def deviation(
    status: TaskStatus,
    result_code: ResultCode,
    message: str,
    found: Collection[str],
    expected: Expected,
    wanted: set[str],
) -> str:
    """Say what is not as the story expects; an empty text if all is.

    Parameters
    ----------
    status, result_code, message : TaskStatus, ResultCode, str
        How the command ended.
    found : sequence of str
        Devices that the tree shows as the cause.
    expected : Expected
        What the story says.
    wanted : set of str
        Tango names of the devices that the story says are the cause.
    """
    if (status, result_code) != (expected.status, expected.result_code):
        found_words = f"{status.name} {result_code.name}: {message}"
        return f"expected {expected_words(expected)}, found {found_words}"
    if set(found) != wanted:
        return f"expected culprits {_listed(wanted)}, found {_listed(found)}"
    missing = {name for name in wanted if expected.named and name not in message}
    return f"the message does not name {_listed(missing)}: {message}" if missing else ""


def expected_words(expected: Expected) -> str:
    """Say how a step is expected to end."""
    return f"{expected.status.name} {expected.result_code.name}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
