"""What a command in the queue waits for: the one of its own device that runs."""

from collections.abc import Sequence
from typing import Any

from milonga.devices._tree_document import has_ended

__all__ = ["note_queue"]

Node = dict[str, Any]


def note_queue(device: str, commands: Sequence[Node]) -> None:
    """Note in each command that has not begun what runs before it, and how many are ahead.

    Parameters
    ----------
    device : str
        Whose commands they are.
    commands : sequence of dict
        The nodes of its commands, in the order in which they were accepted; they are changed.

    Examples
    --------
    >>> running = {"command": "Off", "status": "IN_PROGRESS", "started": "12:00"}
    >>> queued = {"command": "On", "status": "QUEUED"}
    >>> note_queue("lab/a/1", [running, queued])
    >>> queued["waits_for"], queued["waiting"]
    ([{'device': 'lab/a/1', 'command': 'Off', 'since': '12:00'}], 1)
    """
    ahead: list[Node] = []
    for node in commands:
        if has_ended(node):
            continue
        running = next((other for other in ahead if other.get("started")), None)
        if running is not None and not node.get("started"):
            wait = {"device": device, "command": running["command"], "since": running["started"]}
            node["waits_for"] = [wait]
            node["waiting"] = len(ahead)
        ahead.append(node)
