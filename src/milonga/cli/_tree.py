"""`milonga tree`: a device's commands as trees, once or as they change."""

from milonga.cli._console import output
from milonga.cli._exit import ExitCode
from milonga.cli._finding import device_and_command, is_command_id
from milonga.cli._looking import full_trl
from milonga.cli._recorded import recorded_command
from milonga.cli._tree_following import Looking, code_of_command
from milonga.cli._tree_following import follow as run_follow
from milonga.cli._tree_view import is_over
from milonga.cli._trees import Document, read_trees, shown, write
from milonga.errors import CommandRejected
from milonga.lrc import task_tree as trees

__all__ = ["tree"]


def tree(
    trl: str,
    command_id: str | None,
    *,
    follow: bool,
    as_json: bool,
    tango_host: str | None,
    store: str | None = None,
) -> ExitCode:
    """Show the commands of a device, or one of them; one that is over, from the records.

    Parameters
    ----------
    trl : str
        The device; or the id of a command, of whichever device.
    command_id : str or None
        Which command; None for all that the device shows.
    follow : bool
        Whether to go on until Ctrl-C, or until the one command has ended.
    as_json : bool
        Whether to write JSON.
    tango_host : str or None
        ``host:port`` of the database; None for TANGO_HOST.
    store : str or None
        Path or URL of the records; None for the usual ones.

    Returns
    -------
    ExitCode
        OK; of one command that was followed, that of its outcome.
    """
    if command_id is None and is_command_id(trl):
        document = _over(trl, store)
        if document is not None:
            _show(document, as_json=as_json)
            return code_of_command(document["commands"][0]) if follow else ExitCode.OK
    trl, command_id = device_and_command(trl, command_id, tango_host, store)
    address = full_trl(trl, tango_host)
    document = _of_command(read_trees(address), command_id, store)
    if follow:
        return run_follow(Looking(address, document, command_id, store), as_json=as_json)
    _show(document, as_json=as_json)
    return ExitCode.OK


def _over(command_id: str, store: str | None) -> Document | None:
    """Return a command that is over as the records have it; None if they do not."""
    node = recorded_command(command_id, store)
    if node is None or not is_over(node):
        return None
    return {"device": str(node.get("device") or "the record store"), "commands": [node]}


def _show(document: Document, *, as_json: bool) -> None:
    if as_json:
        write(document)
    else:
        console = output()
        console.print(shown(document, console))


def _of_command(document: Document, command_id: str | None, store: str | None) -> Document:
    if command_id is None:
        return document
    node = trees.find_command(document, command_id)
    if node is None:
        over = _over(command_id, store)
        if over is not None:
            return over
        raise CommandRejected(
            f"{document['device']}: command: found no {command_id!r} among those that it shows"
        )
    return document | {"commands": [node]}
