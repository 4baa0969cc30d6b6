"""What a topology writes into a Tango database.

Registering twice changes nothing. Devices are only ever taken out of the database if an earlier
registration of the same topology put them there; the list of these is kept in the database itself.
"""

from typing import TYPE_CHECKING

from milonga.deploy._topology import DeviceEntry, Topology
from milonga.errors import DeploymentError

if TYPE_CHECKING:
    import tango

__all__ = ["OUR_PROPERTIES", "register"]

OUR_PROPERTIES = (
    "AdminModeDefault",
    "Children",
    "CommandMap",
    "CommandTimeout",
    "DataFolder",
    "MaxQueuedTasks",
    "PlanDevices",
    "PlanTimeout",
    "Plans",
    "Policy",
    "Script",
    "SubID",
)
"""Device properties that a topology owns: those that it does not give a value are removed."""

_LEDGER = "milonga-topologies"


def register(topology: Topology, database: "tango.Database") -> None:
    """Write servers, devices and their properties into a database.

    Parameters
    ----------
    topology : Topology
        The system.
    database : tango.Database
        Where to.

    Raises
    ------
    DeploymentError
        If a device belongs to another server there, or one of our servers has devices that are not
        ours. Nothing was changed then.
    """
    servers = {entry.name: entry.full_name for entry in topology.servers}
    ours = _ledger(topology, database)
    problems = [*_taken_devices(topology, servers, database, ours)]
    problems += _strangers(topology, servers, database, ours)
    if problems:
        raise DeploymentError(
            f"topology {topology.name} cannot be registered:\n" + "\n".join(problems)
        )
    for name in ours - {entry.device.lower() for entry in topology.devices}:
        database.delete_device(name)
    # noted first: should this be interrupted, the next registration still knows what is ours
    names = sorted(entry.device for entry in topology.devices)
    database.put_property(_LEDGER, {topology.name: names})
    for entry in topology.devices:
        _register_device(entry, servers[entry.server], database)


def _ledger(topology: Topology, database: "tango.Database") -> set[str]:
    """Find the devices that this topology registered before."""
    found = database.get_property(_LEDGER, topology.name)[topology.name]
    return {name.lower() for name in found if name}


def _taken_devices(
    topology: Topology, servers: dict[str, str], database: "tango.Database", ours: set[str]
) -> list[str]:
    problems = []
    for entry in topology.devices:
        owner = _owner(entry.device, database)
        wanted = servers[entry.server]
        if owner and owner.lower() != wanted.lower() and entry.device.lower() not in ours:
            problems.append(f"device {entry.device}: found in server {owner}, expected {wanted}")
    return problems


def _strangers(
    topology: Topology, servers: dict[str, str], database: "tango.Database", ours: set[str]
) -> list[str]:
    known = ours | {entry.device.lower() for entry in topology.devices}
    problems = []
    for server in servers.values():
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
    import tango  # noqa: PLC0415 - slow to load, and the command line must not wait for it

    try:
        return str(database.get_device_info(device).ds_full_name)
    except tango.DevFailed:
        return None


def _register_device(entry: DeviceEntry, server: str, database: "tango.Database") -> None:
    import tango  # noqa: PLC0415 - as above

    if (_owner(entry.device, database) or "").lower() != server.lower():
        info = tango.DbDevInfo()
        info.name = entry.device
        info._class = entry.class_name  # noqa: SLF001 - pytango's name for it
        info.server = server
        database.add_device(info)
    stale = [name for name in OUR_PROPERTIES if name not in entry.properties]
    database.delete_device_property(entry.device, stale)
    database.put_device_property(entry.device, dict(entry.properties))
