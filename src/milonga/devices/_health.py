"""How well a parent can do its work, from its children and from what commands achieved.

Pure bookkeeping: the device tells it what happens and asks for the verdict.
"""

import threading
from collections.abc import Collection, Iterable, Mapping

from milonga.control_model import HealthState
from milonga.tasks import ChildSpec

__all__ = ["HealthBoard"]

MAX_TEXTS = 8
"""How many causes are kept for one device."""

_NOT_ON = frozenset({"OFF", "STANDBY", "DISABLE"})
_BAD = {HealthState.DEGRADED, HealthState.FAILED}


class HealthBoard:
    """Keeps the causes of bad health by device. Safe across threads.

    Parameters
    ----------
    children : iterable of ChildSpec
        The children.
    critical : collection of str
        Names and groups of children without which nothing works.

    Examples
    --------
    >>> pst, cbf = ChildSpec(name="pst", trl="a/pst/1"), ChildSpec(name="cbf", trl="a/cbf/1")
    >>> board = HealthBoard([pst, cbf])
    >>> board.note_result({"devices": ["a/pst/1"], "failed_devices": ["a/pst/1"]}, "no power")
    >>> board.verdict()
    (<HealthState.DEGRADED: 1>, {'a/pst/1': ['no power']})
    """

    def __init__(self, children: Iterable[ChildSpec], critical: Collection[str] = ()) -> None:
        self._lock = threading.Lock()
        self._children = {_device(child.trl): child for child in children}
        self._critical = {
            device
            for device, child in self._children.items()
            if child.name in critical or not set(critical).isdisjoint(child.groups)
        }
        self._silent: dict[str, str] = {}
        self._healths: dict[str, HealthState] = {}
        self._states: dict[str, str | None] = {}
        self._expected = ""
        self._failures: dict[str, list[str]] = {}
        self._out: set[str] = set()
        self._severe = False
        self._heard = False

    def note_connection(self, trl: str, reason: str | None) -> None:
        """Take note that a child answers, or for which `reason` it does not."""
        with self._lock:
            self._heard = True
            if reason is None:
                self._silent.pop(_device(trl), None)
            else:
                self._silent[_device(trl)] = f"cannot be reached: {reason}"

    def note_health(self, trl: str, health: HealthState | None) -> None:
        """Take note of a child's own health; None if it tells none."""
        with self._lock:
            if health is None:
                self._healths.pop(_device(trl), None)
            else:
                self._heard = True
                self._healths[_device(trl)] = health

    def note_state(self, trl: str, state: str | None) -> None:
        """Take note of a child's operational state; None if it is not known."""
        with self._lock:
            self._states[_device(trl)] = state

    def expect(self, state: str) -> None:
        """Take note of the device's own operational state, which its children should share."""
        with self._lock:
            self._expected = state

    def note_result(self, payload: Mapping[str, object], text: str) -> None:
        """Take note of a command's end: what failed, and what did not any more."""
        failed = _names(payload.get("failed_devices"))
        with self._lock:
            self._heard = True
            for device in _names(payload.get("devices")):
                self._failures.pop(device, None)
            for device in failed:
                self._failures[device] = _causes(text, device)
            self._severe = payload.get("health_state") == "FAILED"

    def take_out(self, trl: str, out: bool) -> None:
        """Leave a child out of the account, or take it in again."""
        with self._lock:
            (self._out.add if out else self._out.discard)(_device(trl))

    def verdict(self) -> tuple[HealthState, dict[str, list[str]]]:
        """Return the health and its causes by device."""
        with self._lock:
            causes = self._causes()
            if not causes:
                return (HealthState.OK if self._heard else HealthState.UNKNOWN), {}
            in_service = self._children.keys() - self._out
            affected = causes.keys() & in_service
            hopeless = bool(in_service) and affected == in_service and len(in_service) > 1
            failed = self._severe or hopeless or not affected.isdisjoint(self._critical)
            return (HealthState.FAILED if failed else HealthState.DEGRADED), causes

    def _causes(self) -> dict[str, list[str]]:
        causes: dict[str, list[str]] = {}
        for device, text in self._silent.items():
            causes.setdefault(device, []).append(text)
        for device, health in self._healths.items():
            if health in _BAD and device not in self._silent:
                causes.setdefault(device, []).append(f"reports health {health.name}")
        for device, state in self._states.items():
            if state == "FAULT" or (self._expected == "ON" and state in _NOT_ON):
                causes.setdefault(device, []).append(f"is in {state} state")
        for device, texts in self._failures.items():
            causes.setdefault(device, []).extend(texts)
        return {
            device: texts[:MAX_TEXTS]
            for device, texts in sorted(causes.items())
            if device not in self._out
        }


def _device(trl: str) -> str:
    path = trl.partition("#")[0]
    return (path.partition("://")[2].partition("/")[2] if "://" in path else path).lower()


def _names(value: object) -> list[str]:
    return [_device(str(name)) for name in value] if isinstance(value, list | tuple) else []


def _causes(text: str, device: str) -> list[str]:
    """Find in a command's message what it says of one device."""
    mark = f"- {device}: "
    lines = text.splitlines()
    found = [line.strip()[len(mark) :] for line in lines if line.strip().lower().startswith(mark)]
    return found or [text]
