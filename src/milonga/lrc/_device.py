"""A device as its client sees it: call a command and follow it to its end."""

from types import TracebackType
from typing import Self

from milonga.lrc._invocation import Invocation, OnUpdate
from milonga.lrc._link import Link
from milonga.lrc._network import Network, network

__all__ = ["LrcDevice", "invoke"]


class LrcDevice:
    """A device with long-running commands, Milonga's or anybody's. Safe across threads.

    Parameters
    ----------
    trl : str
        Its Tango resource locator, such as ``mid-csp/control/0`` or
        ``tango://127.0.0.1:10000/mid-csp/control/0``.

    Examples
    --------
    Call a command and wait for its end::

        with LrcDevice("mid-csp/control/0") as controller:
            outcome = controller.invoke("On").wait(timeout=30.0)
    """

    def __init__(self, trl: str, *, owner: Network | None = None) -> None:
        self._network = owner or network()
        self._link = self._network.acquire(trl, lambda trl: Link(trl, self._network))

    @property
    def trl(self) -> str:
        """The device's Tango resource locator."""
        return self._link.trl

    @property
    def name(self) -> str:
        """The device's name: domain, family, member."""
        return self._link.name

    def connect(self) -> None:
        """Connect now rather than at the first command; may wait for the network.

        Raises
        ------
        Unreachable
            If the device does not answer.
        ProtocolError
            If it does not offer long-running commands.
        """
        self._link.lrc.connect()

    def start(
        self,
        command: str,
        argument: str | None = None,
        on_update: OnUpdate | None = None,
        *,
        signs: bool = False,
    ) -> Invocation:
        """Send a command and return at once, from any thread.

        A command that the device does not take is told to `on_update` as REJECTED or FAILED; with
        `signs`, it is told signs of life and answers to aborts as well.
        """
        invocation = Invocation(self._link.lrc, command, argument, on_update)
        invocation.signs = signs
        self._link.lrc.submit(invocation)
        return invocation

    def invoke(
        self, command: str, argument: str | None = None, on_update: OnUpdate | None = None
    ) -> Invocation:
        """Send a command and wait until the device has taken it.

        Raises
        ------
        CommandRejected
            If the device refused it.
        Unreachable
            If the device does not answer.
        ProtocolError
            If it does not speak the long-running-command protocol.
        """
        invocation = self.start(command, argument, on_update)
        return invocation.taken(4 * Link.CALL_TIMEOUT)

    def statistics(self) -> dict[str, int]:
        """Return what was received from the device, looked for, found and lost."""
        return self._link.statistics()

    def close(self) -> None:
        """Give the link back; its last user ends the subscriptions."""
        self._network.release(self._link)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def invoke(
    trl: str, command: str, argument: str | None = None, on_update: OnUpdate | None = None
) -> Invocation:
    """Call one command of one device; see `LrcDevice.invoke`.

    The subscriptions stay until the process ends, for the next call.
    """
    return LrcDevice(trl).invoke(command, argument, on_update)
