"""What is known of a process, for whoever asks."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Flag, auto

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Check", "Monitor", "Sample", "process_monitor"]

_log = logging.getLogger(__name__)

DURATIONS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper bounds of the histogram of commands' durations, in seconds."""


class Check(Flag):
    """What an answer to a check speaks for."""

    LIVE = auto()
    """Whether the process can be helped only by a restart."""
    READY = auto()
    """Whether the process can do its work now."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A number that is read when somebody asks.

    Parameters
    ----------
    name : str
        Of the metric, such as ``milonga_children_up``; those of counters get ``_total``.
    help : str
        What it says.
    value : float
        The number.
    labels : tuple of pairs of str, optional
        Name and value of each label.
    is_counter : bool, optional
        Whether the number only grows.
    """

    name: str
    help: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    is_counter: bool = False


Source = Callable[[], Iterable[Sample]]
Question = Callable[[], str]
"""Returns what is wrong; an empty text if nothing is."""


class Monitor(Collector):
    """Gathers what the parts of a process tell of themselves. Safe across threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._sources: dict[object, Source] = {}
        self._checks: dict[tuple[object, str, Check], Question] = {}
        self._commands = Counter(
            "milonga_commands",
            "Commands that have ended, by how they ended.",
            ("device", "command", "outcome"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "milonga_command_seconds",
            "Time from the start of a command to its end.",
            ("device", "command"),
            buckets=DURATIONS,
            registry=self.registry,
        )
        self.registry.register(self)

    def command_ended(
        self, device: str, command: str, outcome: str, seconds: float | None = None
    ) -> None:
        """Count a command.

        Parameters
        ----------
        device, command : str
            Names.
        outcome : str
            How it ended, such as ``ok``, ``failed`` or ``aborted``.
        seconds : float, optional
            How long it took; None if it never started.
        """
        self._commands.labels(device, command, outcome).inc()
        if seconds is not None:
            self._seconds.labels(device, command).observe(seconds)

    def add_source(self, owner: object, source: Source) -> None:
        """Ask `source` for samples whenever somebody wants metrics; one for each owner."""
        with self._lock:
            self._sources[owner] = source

    def add_check(self, owner: object, name: str, check: Check, question: Question) -> None:
        """Ask `question` whenever a probe of that kind comes.

        Parameters
        ----------
        owner : object
            Who can be removed again.
        name : str
            What the answer is about, such as ``lab/a/1 worker``.
        check : Check
            What it speaks for.
        question : callable
            Returns what is wrong; an empty text if nothing is.
        """
        with self._lock:
            self._checks[owner, name, check] = question

    def remove(self, owner: object) -> None:
        """Ask this owner nothing any more."""
        with self._lock:
            self._sources.pop(owner, None)
            for key in [key for key in self._checks if key[0] == owner]:
                del self._checks[key]

    def problems(self, check: Check) -> list[str]:
        """Return what is wrong, one text for each check that says so."""
        with self._lock:
            asked = [
                (name, question)
                for (_, name, kind), question in self._checks.items()
                if check in kind
            ]
        found = []
        for name, question in asked:
            try:
                problem = question()
            except Exception as error:  # noqa: BLE001 - a check is anybody's code
                _log.exception("the check of %s failed", name)
                problem = f"the check failed: {type(error).__name__}"
            if problem:
                found.append(f"{name}: {problem}")
        return found

    def collect(self) -> Iterator[Metric]:
        """Yield the samples of all sources, as Prometheus' client wants them."""
        with self._lock:
            sources = list(self._sources.values())
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for source in sources:
            try:
                samples = list(source())
            except Exception:  # noqa: BLE001 - a source is anybody's code
                _log.exception("a source of metrics failed")
                continue
            for sample in samples:
                family = families.get(sample.name)
                if family is None:
                    kind = CounterMetricFamily if sample.is_counter else GaugeMetricFamily
                    names = [name for name, _ in sample.labels]
                    family = families[sample.name] = kind(sample.name, sample.help, labels=names)
                family.add_metric([value for _, value in sample.labels], sample.value)
        yield from families.values()

    def describe(self) -> list[Metric]:
        """Return nothing: what there is to tell is known when somebody asks."""
        return []


_process = Monitor()


def process_monitor() -> Monitor:
    """Return the monitor of this process."""
    return _process
