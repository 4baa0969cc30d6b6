"""The page on what Milonga's devices look like to a Tango client."""

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Any

from milonga.control_model import (
    ADMIN_MODE_TRANSITIONS,
    COMMAND_STATES,
    OBS_COMMANDS,
    OBS_TRANSITIONS,
    AdminMode,
    ControlMode,
    HealthState,
    LoggingLevel,
    ObsMode,
    ObsState,
    ResultCode,
    SimulationMode,
    TaskStatus,
    TestMode,
    is_final,
)
from milonga.devices import (
    DEVICE_CLASSES,
    SERVER_NAME,
    MilongaController,
    MilongaDevice,
    MilongaSubarray,
)
from milonga.devices._lrc_attributes import add_table_attributes, capacity
from milonga.lrc import FINISHED_KEPT
from tools.reference._limits import limits
from tools.reference._markdown import MADE, one_line, page, summary, table

__all__ = ["wire_page"]

Rows = list[tuple[str, ...]]

_INTRODUCTION = f"""\
# On the wire

What a Tango client sees of the devices that `{SERVER_NAME}` serves, beside Tango's own `State`,
`Status` and `Init`. A reply of type *LRC reply* is `DevVarLongStringArray`: one `ResultCode`, and
one text, which is the command's id if the code is `QUEUED` or `STARTED`, and else says why not.

The protocol of long-running commands is that of ska-tango-base, versions 1 and 2. An id is
`<seconds since 1970>_<number>_<command>`.

| what is read | what it is |
|---|---|
| `lrcQueue`, `lrcExecuting`, `lrcFinished` | JSON objects with `uid`, `name`, \
`submitted_time`, and as far as known `started_time`, `progress`, `finished_time`, `status`, \
`result` |
| event of `_lrcEvent` | two texts: an id, and a JSON object with any of `status` (a number), \
`progress`, `result` |
| `extend`, there and in `lrcExecuting` | seconds more than it was given that a command asks for, \
in all; for Milonga's own clients, others pass it over |
| `result` | `[ResultCode, text]` |
| times | UTC, ISO 8601 |

`lrcFinished` holds the last {FINISHED_KEPT} commands, the newest last.
"""

_ENUMERATIONS: tuple[type[IntEnum], ...] = (
    AdminMode,
    HealthState,
    ControlMode,
    SimulationMode,
    TestMode,
    LoggingLevel,
    ObsMode,
)


def wire_page() -> str:
    """Write the page."""
    parts = [MADE, _INTRODUCTION, *_codes(), *_states()]
    known: list[tuple[type, _Members]] = []
    for device_class, title, text in _layers():
        members = _Members.of(device_class)
        if device_class is MilongaDevice:
            members |= _Members.of_tables()
        own = members
        for base, of_base in known:
            own = own - of_base if issubclass(device_class, base) else own
        known.append((device_class, members))
        parts += [f"## {title}\n", f"{text}\n", *own.sections(3)]
    head = ("limit", "value", "what it is")
    return page([*parts, "## Limits\n", table(head, limits())])


def _layers() -> Iterator[tuple[type, str, str]]:
    yield MilongaDevice, "What commanded devices have in common", ""
    text = "Beside what all commanded devices have."
    parent = next(c for c in MilongaController.__mro__ if issubclass(MilongaSubarray, c))
    yield parent, "What devices with children have in common", text
    for device_class in DEVICE_CLASSES:
        bases = "commanded devices" if issubclass(device_class, MilongaDevice) else ""
        bases = "devices with children" if issubclass(device_class, parent) else bases
        more = f" Has, beside this, what {bases} have in common." if bases else ""
        yield device_class, device_class.__name__, f"{summary(device_class)}{more}"


def _codes() -> Iterator[str]:
    yield "\n## Codes\n"
    yield "What a command achieved, or how its submission was answered:\n"
    yield table(("ResultCode", "number"), [(code.name, code.value) for code in ResultCode])
    yield "How far a command is. `COMPLETED` says only that it ran to its end:\n"
    rows = [(s.name, s.value, "yes" if is_final(s) else "") for s in TaskStatus]
    yield table(("TaskStatus", "number", "final"), rows)
    rows_of = [(e.__name__, ", ".join(f"{m.name} {m.value}" for m in e)) for e in _ENUMERATIONS]
    yield table(("enumeration", "labels and numbers"), rows_of)


def _states() -> Iterator[str]:
    yield "\n## The observing state\n"
    yield "`Abort` is allowed in every obsState and leads to `ABORTED`.\n"
    yield table(
        ("command", "allowed in", "leads to"),
        [
            (f"`{name}`", _named(spec.allowed), spec.commanded.name)
            for name, spec in OBS_COMMANDS.items()
        ],
    )
    yield table(("ObsState", "number", "what leads away, and where to"), list(_moves()))
    yield "\n## The operational state and the admin mode\n"
    states = [(f"`{name}`", ", ".join(sorted(where))) for name, where in COMMAND_STATES.items()]
    yield table(("command", "allowed in State"), states)
    modes = [(mode.name, _named(origins)) for mode, origins in ADMIN_MODE_TRANSITIONS.items()]
    yield table(("adminMode that is written", "allowed from"), modes)


def _named(members: Any) -> str:
    return ", ".join(member.name for member in sorted(members))


def _moves() -> Iterator[tuple[str, int, str]]:
    for state in ObsState:
        moves: dict[str, list[str]] = {}
        for (origin, action), target in OBS_TRANSITIONS.items():
            to = target.partition("_")[0]
            if origin.partition("_")[0] == state.name and to != state.name:
                actions = moves.setdefault(to, [])
                if action not in actions:
                    actions.append(action)
        told = "; ".join(f"{to}: {', '.join(actions)}" for to, actions in moves.items())
        yield state.name, state.value, told


class _Members:
    """Attributes, commands and properties, as rows by name."""

    def __init__(
        self, attributes: dict[str, Any], commands: dict[str, Any], properties: dict[str, Any]
    ) -> None:
        self.kinds = {"Attributes": attributes, "Commands": commands, "Properties": properties}

    @classmethod
    def of(cls, device_class: Any) -> "_Members":
        """Return those of a device class."""
        tango_class = device_class.TangoClassClass
        return cls(
            {name: _attribute_row(name, a) for name, a in tango_class.attr_list.items()},
            {
                name: _command_row(name, spec, getattr(device_class, name))
                for name, spec in tango_class.cmd_list.items()
            },
            {
                name: _property_row(name, *spec)
                for name, spec in tango_class.device_property_list.items()
            },
        )

    @classmethod
    def of_tables(cls) -> "_Members":
        """Return the attributes that are added when a device starts, with their usual sizes."""
        added: dict[str, Any] = {}

        class Device:
            def add_attribute(self, data: Any) -> None:
                added[data.attr_name] = _attribute_row(data.attr_name, data)

            def set_change_event(self, *_: object) -> None:
                """Take note of nothing."""

            set_archive_event = set_change_event

        size = MilongaDevice.TangoClassClass.device_property_list["MaxQueuedTasks"][2]
        add_table_attributes(Device(), lambda _name: (), capacity(size, 2), 2)  # type: ignore[arg-type]
        return cls(added, {}, {})

    def __or__(self, other: "_Members") -> "_Members":
        return _Members(*(rows | other.kinds[kind] for kind, rows in self.kinds.items()))

    def __sub__(self, other: "_Members") -> "_Members":
        return _Members(
            *(
                {name: row for name, row in rows.items() if other.kinds[kind].get(name) != row}
                for kind, rows in self.kinds.items()
            )
        )

    def sections(self, level: int) -> Iterator[str]:
        """Yield headings and tables."""
        heads: Mapping[str, tuple[str, ...]] = {
            "Attributes": ("attribute", "type", "access", "what it says"),
            "Commands": ("command", "takes", "returns", "what it does"),
            "Properties": ("property", "type", "default", "what it is for"),
        }
        for kind, rows in self.kinds.items():
            if rows:
                yield f"\n{'#' * level} {kind}\n"
                yield table(heads[kind], rows.values())


def _attribute_row(name: str, data: Any) -> tuple[str, ...]:
    kind = str(data.attr_type)
    if kind == "DevEnum":
        kind += f" {_enumerated(data)}"
    if str(data.attr_format) == "SPECTRUM":
        kind += f"[{data.dim_x}]"
    access = {"READ": "R", "WRITE": "W"}.get(str(data.attr_write), "RW")
    return f"`{name}`", kind, access, _about(data)


def _about(data: Any) -> str:
    text = data.att_prop.description if data.att_prop is not None else ""
    return one_line(text.partition("\n\n")[0] or summary(data.fget))


def _enumerated(data: Any) -> str:
    return str(data._kwargs["dtype"].__name__)  # noqa: SLF001 - pytango keeps it nowhere else


def _command_row(name: str, spec: Any, function: Any) -> tuple[str, ...]:
    (takes, _), (returns, _), *_ = spec
    words = {"DevVoid": ""}, {"DevVoid": "", "DevVarLongStringArray": "LRC reply"}
    taken, returned = (w.get(str(k), str(k)) for w, k in zip(words, (takes, returns), strict=True))
    return f"`{name}`", taken, returned, summary(function)


def _property_row(name: str, kind: Any, doc: str, default: Any, *_: Any) -> tuple[str, ...]:
    shown = ", ".join(map(str, default)) if isinstance(default, tuple | list) else str(default)
    return f"`{name}`", str(kind), f"`{shown}`" if shown not in {"", "None"} else "", one_line(doc)
