"""One YAML file that describes a whole system: its devices, their processes and parents."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from milonga.deploy._topology_checks import check_relations
from milonga.deploy._topology_commands import check_commands
from milonga.deploy._topology_models import (
    Controller,
    Device,
    External,
    Leaf,
    Member,
    PlanDevice,
    Planner,
    Subarray,
    TopologyFile,
)
from milonga.deploy._topology_words import expected_one_of, shape_problems
from milonga.deploy._yaml_marks import MarkedData, Problem, read_yaml
from milonga.errors import TopologyError

__all__ = ["DeviceEntry", "ServerEntry", "Topology", "TopologyProblems"]

_Child = Device | External


class TopologyProblems(TopologyError):
    """Everything that is wrong in a topology file.

    Parameters
    ----------
    problems : sequence of Problem
        All of them, in the order of their lines.
    """

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda found: (found.line or 0, found.path)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class DeviceEntry:
    """A device as the Tango database is told of it.

    Parameters
    ----------
    name : str
        The device's name in the topology, such as ``cbf-01``.
    device : str
        Its Tango name.
    class_name : str
        Its Tango class.
    server : str
        Name of the process that it runs in.
    properties : dict
        Device properties; each value is a list of texts.
    """

    name: str
    device: str
    class_name: str
    server: str
    properties: Mapping[str, list[str]]


@dataclass(frozen=True)
class ServerEntry:
    """A device server process.

    Parameters
    ----------
    name : str
        Its name in the topology, which is its Tango instance name.
    tango_name : str
        The server's Tango name, before the slash.
    command : tuple of str
        Program and arguments, without the instance name; empty for Milonga's own devices.
    environment : dict
        Variables to add to the process's environment.
    """

    name: str
    tango_name: str = "milonga-server"
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name that the Tango database knows the server by."""
        return f"{self.tango_name}/{self.name}"


class Topology:
    """A system that can be deployed: valid as a whole.

    Made by `load` or `from_text`, which raise `TopologyError` with all problems at once.

    Parameters
    ----------
    file : TopologyFile
        The validated content.
    """

    def __init__(self, file: TopologyFile) -> None:
        self._file = file

    @classmethod
    def load(cls, path: str | Path) -> "Topology":
        """Read and check a topology file.

        Parameters
        ----------
        path : str or Path
            The file.

        Raises
        ------
        TopologyError
            Each line names the file, the line in it, the field, what was found and expected.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            problem = Problem(str(path), None, "", f"cannot be read: {reason}")
            raise TopologyProblems([problem]) from error
        return cls.from_text(text, str(path))

    @classmethod
    def from_text(cls, text: str, name: str = "topology") -> "Topology":
        """Check a topology given as text.

        Parameters
        ----------
        text : str
            YAML or JSON.
        name : str
            What to call the text in problems.

        Examples
        --------
        >>> topology = Topology.from_text('''
        ... name: small
        ... subarrays: [{device: lab/sub/1, id: 1, server: one, children: [a]}]
        ... leaves: [{name: a, device: lab/leaf/a, server: one}]
        ... ''')
        >>> [entry.device for entry in topology.devices]
        ['lab/leaf/a', 'lab/sub/1']
        """
        return cls.from_marked(read_yaml(text, name))

    @classmethod
    def from_marked(cls, marked: MarkedData) -> "Topology":
        """Check a topology that was read already.

        Parameters
        ----------
        marked : MarkedData
            Its data and their lines.
        """
        problems = list(marked.problems)
        file: TopologyFile | None = None
        if not isinstance(marked.data, dict):
            if not problems:
                found = "nothing" if marked.data is None else type(marked.data).__name__
                problems.append(marked.problem((), f"found {found}, expected a mapping"))
        else:
            try:
                file = TopologyFile.model_validate(marked.data)
            except ValidationError as error:
                problems += shape_problems(error, marked)
            problems += check_relations(marked)
            problems += check_commands(marked)
        if problems or file is None:
            raise TopologyProblems(problems)
        return cls(file)

    @property
    def name(self) -> str:
        """The system's name."""
        return self._file.name

    @property
    def description(self) -> str:
        """What the system is, in the words of its author."""
        return self._file.description

    @property
    def devices(self) -> tuple[DeviceEntry, ...]:
        """All devices, children before their parents."""
        return tuple(self.device_properties().values())

    @property
    def servers(self) -> tuple[ServerEntry, ...]:
        """All device server processes, those of children before those of parents."""
        names = dict.fromkeys(entry.server for entry in self.devices)
        return tuple(self._server(name) for name in names)

    def device(self, name: str) -> DeviceEntry:
        """Find a device by its name in the topology.

        Raises
        ------
        TopologyError
            If there is none of this name.
        """
        by_name = {entry.name: entry for entry in self.devices}
        if name not in by_name:
            raise TopologyError(f"topology {self.name}: {expected_one_of(name, list(by_name))}")
        return by_name[name]

    def device_properties(self) -> dict[str, DeviceEntry]:
        """Give what the Tango database has to know, by Tango device name."""
        file = self._file
        listed: tuple[_Child, ...] = (*file.leaves, *file.subarrays, *file.external)
        members = {child.name: child for child in listed}
        entries = [self._plan_device(entry) for entry in file.plan_devices if entry.server]
        entries += [self._leaf(leaf) for leaf in self._file.leaves]
        subarrays = sorted(self._file.subarrays, key=self._height)
        entries += [self._subarray(subarray, members) for subarray in subarrays]
        if self._file.controller is not None:
            entries.append(self._controller(self._file.controller, members))
        return {entry.device: entry for entry in entries}

    def _height(self, subarray: Subarray) -> int:
        below = {entry.name: entry for entry in self._file.subarrays}
        return 1 + max(
            (self._height(below[name]) for name in subarray.children if name in below), default=0
        )

    def _server(self, name: str) -> ServerEntry:
        options = self._file.servers.get(name)
        records = self._file.records.environment()
        if options is None:
            return ServerEntry(name, environment=records)
        environment = records | options.environment
        return ServerEntry(name, options.tango_name, options.command, environment)

    @staticmethod
    def _plan_device(entry: PlanDevice) -> DeviceEntry:
        own = {key: _property_texts(value) for key, value in entry.properties.items()}
        return DeviceEntry(entry.name, entry.device, entry.class_name, entry.server or "", own)

    def _plans(self, device: Planner, commands: Mapping[str, Any]) -> dict[str, list[str]]:
        """Give the properties of a device that runs plans."""
        known = {entry.name: entry for entry in self._file.plan_devices}
        names = device.plan_devices
        if names is None:
            names = tuple(known) if device.plans or _has_plan(commands) else ()
        properties = {
            "Plans": list(device.plans),
            "PlanDevices": [
                json.dumps({"name": name, "type": known[name].type, "trl": known[name].device})
                for name in names
            ],
            "DataFolder": [device.data_folder] if device.data_folder else [],
            "DocumentSink": [device.document_sink] if device.document_sink else [],
            "PlanTimeout": [repr(device.plan_timeout)] if device.plan_timeout else [],
            "HaltAfter": [repr(device.halt_after)] if device.halt_after else [],
            "MaxQueuedPlans": [repr(device.max_queued_plans)] if device.max_queued_plans else [],
            "LoopLagLimit": [repr(device.loop_lag_limit)] if device.loop_lag_limit else [],
            "Analyses": [entry.model_dump_json(exclude_defaults=True) for entry in device.analyses],
        }
        return {name: lines for name, lines in properties.items() if lines}

    def _leaf(self, leaf: Leaf) -> DeviceEntry:
        properties = self._common(leaf)
        if leaf.script:
            script = {
                command: step.model_dump(exclude_none=True) for command, step in leaf.script.items()
            }
            properties["Script"] = [json.dumps(script)]
        return self._entry(leaf.name, leaf.class_, leaf, properties)

    def _subarray(self, subarray: Subarray, members: Mapping[str, _Child]) -> DeviceEntry:
        commands = self._file.command_map.subarray
        properties = self._common(subarray) | self._plans(subarray, commands)
        properties["SubID"] = [str(subarray.id)]
        properties["Children"] = [_child_text(name, members[name]) for name in subarray.children]
        properties |= _commands(commands, self._file.policies.subarray)
        return self._entry(subarray.name, subarray.class_, subarray, properties)

    def _controller(self, controller: Controller, members: Mapping[str, _Child]) -> DeviceEntry:
        listed = controller.children
        if listed is None:
            adopted = {name for entry in self._file.subarrays for name in entry.children}
            subarrays = (entry.name for entry in self._file.subarrays)
            listed = tuple(name for name in subarrays if name not in adopted)
        commands = self._file.command_map.controller
        properties = self._common(controller) | self._plans(controller, commands)
        properties["Children"] = [_child_text(name, members[name]) for name in listed]
        properties |= _commands(commands, self._file.policies.controller)
        return self._entry(controller.name, controller.class_, controller, properties)

    def _common(self, device: Device) -> dict[str, list[str]]:
        defaults = self._file.defaults
        timeout = defaults.timeout if device.timeout is None else device.timeout
        return {
            "AdminModeDefault": ["ONLINE"],
            "CommandTimeout": [repr(timeout)],
            "MaxQueuedTasks": [str(defaults.max_queued)],
        }

    @staticmethod
    def _entry(
        name: str, class_name: str, device: Device, properties: dict[str, list[str]]
    ) -> DeviceEntry:
        own = {key: _property_texts(value) for key, value in device.properties.items()}
        return DeviceEntry(name, device.device, class_name, device.server, properties | own)


def _child_text(name: str, child: _Child) -> str:
    spec: dict[str, Any] = {"name": name, "trl": child.device}
    spec["groups"] = list(getattr(child, "groups", ()))
    if isinstance(child, Member):
        treatment = {"kind", "until", "skip_when_reached", "timeouts", "abort_all"}
        spec |= child.model_dump(mode="json", include=treatment, exclude_defaults=True)
    return json.dumps(spec)


def _commands(command_map: Mapping[str, Any], policy: Mapping[str, Any]) -> dict[str, list[str]]:
    named = {"CommandMap": command_map, "Policy": policy}
    return {name: [json.dumps(value)] for name, value in named.items() if value}


def _has_plan(step: object) -> bool:
    """Tell whether a step of a command map, or any below it, is a plan."""
    if not isinstance(step, Mapping):
        return False
    return "plan" in step or any(_has_plan(below) for below in step.values())


def _property_texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _property_texts(item)]
    return [value if isinstance(value, str) else json.dumps(value)]
