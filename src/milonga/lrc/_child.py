"""A device that another one commands, whatever kind of device it is."""

import threading
from collections.abc import Callable, Mapping
from enum import StrEnum, auto
from types import TracebackType
from typing import Self

from milonga.control_model import ResultCode, TaskStatus
from milonga.errors import ProtocolError, Unreachable
from milonga.lrc._confirming import confirm
from milonga.lrc._expectation import Expectation
from milonga.lrc._invocation import Invocation, OnUpdate
from milonga.lrc._link import Link
from milonga.lrc._network import Network, network
from milonga.lrc._resuming import Resumption
from milonga.lrc._traces import Trace
from milonga.lrc._urgent import let_aborts_pass
from milonga.lrc._watched import Sighting, Watch

__all__ = ["ChildDevice", "ChildKind", "child_device"]


class ChildKind(StrEnum):
    """How the commands of a device are followed."""

    AUTO = auto()
    """Found out when the device is reached."""
    LRC = auto()
    """By the long-running-command protocol, version 2 or 1."""
    STATE = auto()
    """The command returns; the work is over when an attribute has reached a value."""
    PLAIN = auto()
    """The work is over when the command returns."""


class ChildDevice:
    """A device that is commanded and watched; made by `child_device`. Safe across threads.

    It is connected in the background, and again after the device was away, until it is closed.
    """

    def __init__(
        self,
        trl: str,
        kind: ChildKind,
        expectations: Mapping[str, Expectation],
        *,
        skip_when_reached: bool,
        timeout: float,
        period: float,
        stay_connected: bool,
        abort_all: bool,
        owner: Network | None,
    ) -> None:
        self.kind = kind
        self._abort_all = abort_all
        self._expectations = dict(expectations)
        self._skip_when_reached = skip_when_reached
        self._timeout = timeout
        self._period = period
        self._network = owner or network()
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._closed = False
        self._leaving = False
        self._under_way: set[Invocation] = set()
        self._link = self._network.acquire(trl, lambda trl: Link(trl, self._network))
        self._stays_connected = stay_connected
        if stay_connected:
            if kind in {ChildKind.AUTO, ChildKind.LRC}:
                self._link.lrc.want()
            self._link.watches.keep()

    @property
    def trl(self) -> str:
        """The device's Tango resource locator."""
        return self._link.trl

    @property
    def name(self) -> str:
        """The device's name: domain, family, member."""
        return self._link.name

    @property
    def is_connected(self) -> bool:
        """Whether the device answered when it was last looked at."""
        return self._link.watches.is_connected

    @property
    def reason(self) -> str:
        """Why the device is not connected; empty if it is."""
        return self._link.watches.reason

    @property
    def server_start(self) -> str:
        """Since when the device's server runs, as far as that is known; else empty."""
        return self._link.start_known

    @property
    def is_busy(self) -> bool:
        """Whether commands of this process are on their way at the device."""
        figures = self._link.statistics()
        with self._lock:
            if self._under_way:  # those as well that are being sent
                return True
        return bool(figures["outstanding"] or figures["foreign_outstanding"])

    @property
    def is_closed(self) -> bool:
        """Whether the link has been given back."""
        return self._closed

    @property
    def has_children(self) -> bool:
        """Whether the device commands others and shows the trees of its commands."""
        return "CommandTree" in self._link.commands()

    def offers(self, attribute: str) -> bool:
        """Tell whether the device has an attribute, as far as is known."""
        return attribute.casefold() in {name.casefold() for name in self._link.attributes()}

    def kind_of(self, command: str) -> ChildKind:
        """Return how a command is followed; AUTO as long as the device has not been reached."""
        if self.kind is ChildKind.AUTO and self._link.proxy() is None:
            return ChildKind.AUTO
        return self._choose(self.kind, command, self._expectations.get(command))

    def connect(self) -> None:
        """Connect now, rather than soon in the background; may wait for the network.

        Raises
        ------
        Unreachable
            If the device does not answer.
        ProtocolError
            If its kind is given as `ChildKind.LRC`, and it offers no long-running commands.
        """
        self._link.connect()
        if self.kind is ChildKind.LRC or (
            self.kind is ChildKind.AUTO and self._link.lrc.is_offered()
        ):
            self._link.lrc.connect()

    def start(
        self,
        command: str,
        argument: str | None = None,
        on_update: OnUpdate | None = None,
        *,
        timeout: float | None = None,
        within: float | None = None,
        signs: bool = False,
        urgent: bool = False,
        kind: ChildKind | None = None,
        until: Expectation | None = None,
    ) -> Invocation:
        """Send a command and return at once, from any thread.

        A command that the device does not take is told to `on_update` as REJECTED or FAILED.

        Parameters
        ----------
        command : str
            The command.
        argument : str, optional
            Its argument: the text for a command that takes a string, else JSON.
        on_update : callable, optional
            Called from any thread with what is new, until the final status.
        timeout : float, optional
            Seconds that a plain command may take; as given to `child_device` otherwise.
        within : float, optional
            Seconds that the command may take, to be told to a device that can be told.
        signs : bool, optional
            Whether `on_update` is also told of signs of life and of answers to aborts; see
            `OnUpdate`.
        urgent : bool, optional
            Whether it is a safety command: it waits for no call that hangs, be it to this device
            or to another; only, where the device cannot end one command by its id, for those that
            it is to end.
        kind, until : optional
            For this one command, in the place of what was given to `child_device`.
        """
        invocation = Invocation(self._link.lrc, command, argument, on_update)
        invocation.seconds, invocation.signs = within, signs
        self._note(invocation)
        limit = self._timeout if timeout is None else timeout
        expectation = until or self._expectations.get(command)
        run = self._network.run_abort if urgent else self._network.run

        def send() -> None:
            self._send(invocation, limit, kind, expectation, urgent=urgent)

        if run(lambda: invocation.send_by(send)) is None:
            invocation.shut_out()
        return invocation

    def invoke(
        self,
        command: str,
        argument: str | None = None,
        on_update: OnUpdate | None = None,
        *,
        timeout: float | None = None,
    ) -> Invocation:
        """Send a command and wait until the device has taken it; parameters as for `start`.

        A plain command counts as taken when it is about to be called.

        Raises
        ------
        CommandRejected
            If the device refused it.
        Unreachable
            If the device does not answer.
        ProtocolError
            If it does not speak the long-running-command protocol, but should.
        """
        invocation = self.start(command, argument, on_update, timeout=timeout)
        return invocation.taken(4 * Link.CALL_TIMEOUT)

    def resume(
        self,
        trace: Trace,
        on_update: OnUpdate | None = None,
        *,
        command_id: str | None = None,
        claim: Callable[[str], bool] = lambda _command_id: True,
    ) -> Invocation:
        """Follow a command that another process sent before it ended; returns at once.

        Nothing is sent. What became of the command is told to `on_update`; ABORTED if the device
        certainly never got it, FAILED with `ResultCode.UNKNOWN` if nobody can know.

        Parameters
        ----------
        trace : Trace
            The command, since when, and who sent it.
        on_update : callable, optional
            As for `start`.
        command_id : str, optional
            The id that the device gave. Without it the device's tables are searched.
        claim : callable, optional
            Called with an id that was found; tells whether it belongs to nobody else.
        """
        invocation = Invocation(self._link.lrc, trace.command, None, on_update)
        invocation.signs = True
        self._note(invocation)
        expectation = self._expectations.get(trace.command)
        if expectation is not None and self.kind is not ChildKind.STATE:
            confirm(self._link, invocation, expectation, self._period)
        Resumption(self._link, invocation, command_id, trace, claim).begin()
        return invocation

    def watch(
        self, attribute: str, callback: Callable[[Sighting], None], period: float | None = None
    ) -> Watch:
        """Be told an attribute's value, now and whenever it changes, and whether the device is up.

        Parameters
        ----------
        attribute : str
            Its name. It need not send events: then it is read every `period` seconds.
        callback : callable
            Called with a `Sighting` from any thread, also Tango's event threads: it must be quick.
            Calls come one at a time, in order, and the first after this method has returned or
            while it does.
        period : float, optional
            Seconds; as given to `child_device` otherwise.

        Returns
        -------
        Watch
            To be closed when the value is of no more interest; closed with the device otherwise.
        """
        watch = self._link.watches.watch(attribute, callback, period or self._period)
        with self._lock:
            self._watches.append(watch)
            closed = self._closed
        if closed:
            watch.close()
        return watch

    def statistics(self) -> dict[str, int]:
        """Return what was received from the device, looked for, found, read and lost."""
        return self._link.statistics()

    def leave(self) -> None:
        """Watch no more, and close once the commands that were sent have ended. Returns soon."""
        with self._lock:
            self._leaving = True
            watches, self._watches = self._watches, []
            busy = bool(self._under_way)
        for watch in watches:
            watch.close()
        if not busy:
            self.close()

    def close(self) -> None:
        """Watch no more and give the link back; its last user ends the subscriptions."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            watches, self._watches = self._watches, []
        for watch in watches:
            watch.close()
        if self._stays_connected:
            self._link.watches.release()
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

    def _note(self, invocation: Invocation) -> None:
        """Remember a command until it is not followed any more, and how it may be aborted."""
        invocation.abort_all = self._abort_all
        with self._lock:
            self._under_way.add(invocation)
        invocation.when_over(lambda: self._forget(invocation))

    def _forget(self, invocation: Invocation) -> None:
        with self._lock:
            self._under_way.discard(invocation)
            last = self._leaving and not self._under_way
        if last:  # on another thread, as the end of a link may have to be waited for
            self._network.run(self.close)

    def _send(
        self,
        invocation: Invocation,
        timeout: float,
        kind: ChildKind | None,
        expectation: Expectation | None,
        *,
        urgent: bool,
    ) -> None:
        try:
            self._link.connect()
        except Unreachable as error:
            text = f"{self.name}: {error}"
            invocation.refused(TaskStatus.FAILED, ResultCode.FAILED, text, error)
            return
        if urgent:
            let_aborts_pass(self._link, invocation)
        kind = self._choose(kind or self.kind, invocation.command, expectation)
        if kind is ChildKind.LRC:
            self._send_confirmed(invocation, expectation, urgent=urgent)
        elif kind is ChildKind.STATE and expectation is None:
            text = f"{self.name}: nothing says when {invocation.command} is over"
            why = ProtocolError(f"{text}; expected an expectation for it, or the kind plain")
            invocation.refused(TaskStatus.REJECTED, ResultCode.REJECTED, str(why), why)
        else:
            invocation.carrier = self._link.foreign
            self._link.foreign.send(
                invocation,
                timeout,
                expectation if kind is ChildKind.STATE else None,
                skip_when_reached=self._skip_when_reached and not urgent,
                period=self._period,
                urgent=urgent,
            )

    def _send_confirmed(
        self, invocation: Invocation, expectation: Expectation | None, *, urgent: bool
    ) -> None:
        """Send a command whose success counts when the attribute agrees, if one is to tell."""
        if expectation is not None:
            if not self.offers(expectation.attribute):
                text = f"{self.name} has no attribute {expectation.attribute}"
                why = ProtocolError(f"{text}, which is to confirm {invocation.command}")
                invocation.refused(TaskStatus.REJECTED, ResultCode.REJECTED, str(why), why)
                return
            confirmation = confirm(self._link, invocation, expectation, self._period)
            confirmation.before_call(may_read=not urgent)
        self._link.lrc.send(invocation)

    def _choose(self, kind: ChildKind, command: str, expectation: Expectation | None) -> ChildKind:
        if kind is not ChildKind.AUTO:
            return kind
        if self._link.lrc.carries(command):
            return ChildKind.LRC
        return ChildKind.PLAIN if expectation is None else ChildKind.STATE


def child_device(
    trl: str,
    kind: ChildKind | str = ChildKind.AUTO,
    expectations: Mapping[str, Expectation] | None = None,
    *,
    skip_when_reached: bool = False,
    timeout: float = 60.0,
    period: float = 0.5,
    stay_connected: bool = True,
    abort_all: bool = False,
    owner: Network | None = None,
) -> ChildDevice:
    """Return a device of any kind, to be commanded and watched. Returns at once.

    Parameters
    ----------
    trl : str
        Its Tango resource locator.
    kind : ChildKind or str, optional
        How its commands are followed. AUTO decides for each command when the device is reached:
        LRC if it offers the protocol for it, else STATE if there is an expectation for the
        command, else PLAIN.
    expectations : mapping, optional
        Command name to what its end looks like. A command that is followed by the protocol ends
        well only if its result and this agree.
    skip_when_reached : bool, optional
        Whether a command whose wanted value is there already is not sent, and COMPLETED at once.
    timeout : float, optional
        Seconds that a plain command may take.
    period : float, optional
        Seconds between reads of attributes that send no events.
    stay_connected : bool, optional
        Whether to look after the connection also when no command is on its way and nothing is
        watched: a device that was away is then found again ahead of the next command.
    abort_all : bool, optional
        Whether the device is told to Abort when it does not take the abort of a command by its
        id. That ends everything there, also what others have started.
    owner : Network, optional
        Lends threads and connections; the process's own by default.

    Raises
    ------
    ValueError
        If the kind is unknown, or a time is not positive.

    Examples
    --------
    ::

        done = Expectation("State", reached=("ON",), failed=("FAULT",), timeout=20.0)
        with child_device("lab/pump/1", expectations={"On": done}) as pump:
            outcome = pump.start("On").wait(25.0)
    """
    for what, seconds in (("timeout", timeout), ("period", period)):
        if not seconds > 0:
            raise ValueError(f"{what}: found {seconds!r}, expected seconds > 0")
    return ChildDevice(
        trl,
        ChildKind(kind),
        expectations or {},
        skip_when_reached=skip_when_reached,
        timeout=timeout,
        period=period,
        stay_connected=stay_connected,
        abort_all=abort_all,
        owner=owner,
    )
