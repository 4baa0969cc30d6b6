"""What a topology writes into a Tango database.

Registering twice changes nothing. Devices and properties are only ever taken out of the database if
an earlier registration put them there; the lists of these are kept in the database itself.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from milonga.deploy._topology import DeviceEntry, Topology
from milonga.errors import DeploymentError

if TYPE_CHECKING:
    import tango

__all__ = ["OUR_PROPERTIES", "register"]

OUR_PROPERTIES = (
    "AdminModeDefault",
    "Analyses",
    "Children",
    "CommandMap",
    "CommandTimeout",
    "DataFolder",
    "DocumentSink",
    "HaltAfter",
    "LoopLagLimit",
    "MaxQueuedPlans",
    "MaxQueuedTasks",
    "PlanDevices",
    "PlanTimeout",
    "Plans",
    "Policy",
    "Script",
    "SubID",
)
"""Device properties that a topology owns: those that it does not give a value are removed.

So are those below `properties` of an earlier version of it, whatever their names.
"""

_LEDGER = "milonga-topologies"

_NOTES = "milonga-properties"
"""Has the names of the properties that each device got here."""


def register(topology: Topology, database: "tango.Database", *, server: str | None = None) -> None:
    """Write servers, devices and their properties into a database.

    Parameters
    ----------
    topology : Topology
        The system.
    database : tango.Database
        Where to.
    server : str, optional
        Write only this server's devices, and take out only those. The servers of a system may do
        so at the same time. Default: everything.

    Raises
    ------
    DeploymentError
        If a device belongs to another server there, or one of our servers has devices that are not
        ours. Nothing was changed then.
    """
    servers = {entry.name: entry.full_name for entry in topology.servers}
    ledger = _ledger(topology, database)
    ours = set().union(*ledger.values())
    wanted = [entry for entry in topology.devices if server in {None, entry.server}]
    problems = [*_taken_devices(wanted, servers, database, ours)]
    problems += _strangers(
        topology, [servers[name] for name in _chosen(servers, server)], database, ours
    )
    if problems:
        raise DeploymentError(
            f"topology {topology.name} cannot be registered:\n" + "\n".join(problems)
        )
    kept = {entry.device.lower() for entry in topology.devices}
    here = {entry.device.lower() for entry in wanted}
    for name in _chosen(ledger, server):
        for device in ledger[name] - here:
            # one that now runs elsewhere may have been taken there already
            if device not in kept or _is_of(device, servers[name], database):
                database.delete_device(device)
                database.delete_property(_NOTES, [device])
    for name in _chosen(servers, server):
        # noted first: should this be interrupted, the next registration still knows what is ours;
        # what now runs elsewhere stays noted here until everything is registered
        names = {entry.device.lower() for entry in wanted if entry.server == name}
        names |= ledger.get(name, set()) & kept if server else set()
        database.put_property(_LEDGER, {_key(topology, name): sorted(names)})
    if server is None:
        gone = [_key(topology, name) for name in ledger if name not in servers]
        database.delete_property(_LEDGER, gone)
    notes = database.get_property(_NOTES, sorted(here)) if here else {}
    for entry in wanted:
        noted = [str(name) for name in notes[entry.device.lower()]]
        _register_device(entry, servers[entry.server], noted, database)


def _chosen(names: Iterable[str], server: str | None) -> list[str]:
    return [name for name in names if server in {None, name}]


def _key(topology: Topology, server: str) -> str:
    """Name the note of a server's devices: one each, so that no two servers write the same one."""
    return f"{topology.name}/{server}" if server else topology.name


def _ledger(topology: Topology, database: "tango.Database") -> dict[str, set[str]]:
    """Find the devices that this topology registered before, by server.

    The empty name stands for a note about all servers together, as older databases have it.
    """
    pattern = f"{topology.name}/*"
    names = [str(name) for name in database.get_object_property_list(_LEDGER, pattern)]
    notes = database.get_property(_LEDGER, [topology.name, *names])
    return {
        key.partition("/")[2]: {name.lower() for name in listed if name}
        for key, listed in notes.items()
    }


def _taken_devices(
    wanted: list[DeviceEntry],
    servers: dict[str, str],
    database: "tango.Database",
    ours: set[str],
) -> list[str]:
    problems = []
    for entry in wanted:
        owner = _owner(entry.device, database)
        expected = servers[entry.server]
        if owner and owner.lower() != expected.lower() and entry.device.lower() not in ours:
            problems.append(f"device {entry.device}: found in server {owner}, expected {expected}")
    return problems


def _strangers(
    topology: Topology, servers: list[str], database: "tango.Database", ours: set[str]
) -> list[str]:
    known = ours | {entry.device.lower() for entry in topology.devices}
    problems = []
    for server in servers:
        pairs = list(database.get_device_class_list(server))
        strangers = [
            device
            for device, class_name in zip(pairs[::2], pairs[1::2], strict=True)
            if class_name != "DServer" and device.lower() not in known
        ]
        if strangers:
            listed = ", ".join(strangers)
            problems.append(
                f"server {server}: found devices of somebody else ({listed}); "
                "expected a server name that nobody uses"
            )
    return problems


def _owner(device: str, database: "tango.Database") -> str | None:
    found = _found(device, database)
    return found[0] if found is not None else None


def _found(device: str, database: "tango.Database") -> tuple[str, str] | None:
    """Look for a device in the database: its server and its class."""
    import tango  # noqa: PLC0415 - slow to load, and the command line must not wait for it

    try:
        info = database.get_device_info(device)
    except tango.DevFailed:
        return None
    return str(info.ds_full_name), str(info.class_name)


def _is_of(device: str, server: str, database: "tango.Database") -> bool:
    return (_owner(device, database) or "").lower() == server.lower()


def _register_device(
    entry: DeviceEntry, server: str, noted: list[str], database: "tango.Database"
) -> None:
    import tango  # noqa: PLC0415 - as above

    found = _found(entry.device, database)
    if found is None or _lower(found) != _lower((server, entry.class_name)):
        info = tango.DbDevInfo()
        info.name = entry.device
        info._class = entry.class_name  # noqa: SLF001 - pytango's name for it
        info.server = server
        database.add_device(info)
    given = _lower(entry.properties)
    stale = [name for name in {*OUR_PROPERTIES, *noted} if name.lower() not in given]
    database.delete_device_property(entry.device, stale)
    if set(noted) != set(entry.properties):
        # between the two: should this be interrupted, nothing of ours is ever left without a note
        database.put_property(_NOTES, {entry.device.lower(): sorted(entry.properties)})
    database.put_device_property(entry.device, dict(entry.properties))


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)
