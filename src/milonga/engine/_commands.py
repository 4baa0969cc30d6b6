"""Messages that the engine understands beside bluesky's own."""

# bluesky is annotated in parts only.
# mypy: disallow-untyped-calls=False

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, cast

from bluesky import protocols
from bluesky.run_engine import RunEngine as BlueskyRunEngine
from bluesky.utils import Msg, maybe_await

from milonga.engine._cache import HasCache
from milonga.engine._callbacks import blocking_threads
from milonga.engine._invocation import ChildCall, ChildCaller, InvocationStatus
from milonga.engine._latch import Direction, LatchWait, Mark, SRLatch
from milonga.engine._play import Play
from milonga.engine._replay import KeptAnswers
from milonga.engine._stage import Stage
from milonga.engine._status import Status

__all__ = ["CommandStage", "register_bound_command"]

Command = Callable[[Any, Msg], Awaitable[Any]]


def register_bound_command(
    engine: BlueskyRunEngine, command: Command, *, name: str | None = None, replace: bool = False
) -> None:
    """Teach an engine a message whose function gets the engine first.

    Parameters
    ----------
    engine : RunEngine
        The engine.
    command : coroutine function
        Takes the engine and the message.
    name : str, optional
        What the message is called; by default as the function.
    replace : bool, optional
        Whether a message of that name may be replaced.

    Raises
    ------
    ValueError
        If there is no name, or the name is taken.

    Examples
    --------
    >>> from milonga.engine import RunEngine
    >>> async def greet(engine, msg):
    ...     return f"hello {msg.obj}"
    >>> with RunEngine() as engine:
    ...     register_bound_command(engine, greet)
    ...     "greet" in engine.commands
    True
    """
    name = name or getattr(command, "__name__", None)
    if not name:
        raise ValueError(f"found {command!r}, which has no name; expected `name` to be given")
    if name in engine.commands and not replace:
        raise ValueError(f"command {name!r}: found one of that name, expected replace=True")

    async def bound(msg: Msg) -> Any:
        return await command(engine, msg)

    bound.__doc__ = inspect.getdoc(command) or name
    engine.register_command(name, bound)


class CommandStage(Stage):
    """A stage that knows latches, caches, children and steps."""

    caller: ChildCaller | None = None

    def _learn_commands(self) -> None:
        self._answers = KeptAnswers()
        self._tasks: set[asyncio.Future[Any]] = set()
        for name, command in {
            "wait_for_actions": self._wait_for_actions,
            "stash": self._stash,
            "clear_cache": self._clear_cache,
            "describe": self._describe,
            "describe_collect": self._describe_collect,
            "invoke": self._invoke,
            "declare_steps": self._declare_steps,
            "step_done": self._step_done,
            "forget_group": self._forget_group,
        }.items():
            self.register_command(name, command)

    def _needed_play(self) -> Play:
        if self._play is None:
            raise RuntimeError("found no plan in the engine, expected one to be running")
        return self._play

    # Latches

    async def _wait_for_actions(self, msg: Msg) -> Any:
        """Wait until one of several latches is set, or reset.

        Expected message object is:

            Msg('wait_for_actions', None, {name: latch}, timeout=None, wait_for='set', all=False)
        """
        (events,) = msg.args
        direction = _checked(events, msg.kwargs.get("wait_for", "set"))
        timeout = msg.kwargs.get("timeout")
        every = bool(msg.kwargs.get("all", False))
        deadline = None if timeout is None else self.loop.time() + timeout
        play = self._needed_play()
        place = len(self._plan_stack) - 1
        for latch in events.values():
            _claim(play, latch)
        try:
            while True:
                found = _fired(play, events, direction, every)
                if found:
                    return found if every else found[0]
                left = None if deadline is None else deadline - self.loop.time()
                if left is not None and left <= 0:
                    return None
                marks = {latch: play.latches[latch] for latch in events.values()}
                await LatchWait(marks, direction).wait(left)
        except asyncio.CancelledError:
            self._broken_off = (msg, place)  # so that the plan gets the answer to its repetition
            raise

    async def _wait_for(self, msg: Msg) -> Any:
        """Wait for futures, as bluesky does; see the original.

        A suspender waits so where nothing is repeated after a pause. If its wait were not, a pause
        and a resume would let the plan go on although the beam is still lost.
        """
        place = len(self._plan_stack) - 1
        try:
            return await super()._wait_for(msg)
        except asyncio.CancelledError:
            if not self._rewindable_flag:
                self._broken_off = (msg, place)
            raise

    # Things that are done once, also when their message is repeated after a pause

    def _reset_checkpoint_state_meth(self) -> None:
        super()._reset_checkpoint_state_meth()
        self._answers.checkpoint()

    def _full(self) -> bool:
        made = super()._full()
        if made:
            self._answers.checkpoint()
        return made

    def _set_up(self, play: Play) -> None:
        self._answers.clear()
        super()._set_up(play)

    def _once(self, msg: Msg, start: Callable[[], Any]) -> Any:
        """Return what `start` makes, or what it made before if the message is repeated."""
        if self._repeating is msg:
            return self._answers.repeated(msg, start)
        if self._msg_cache is None or not self._rewindable_flag:
            return start()
        return self._answers.answer(msg, start)

    def _as_status(self, answer: Any, name: str) -> Any:
        """Return a status for what a device's method returned: a status, awaitable or nothing."""
        if isinstance(answer, protocols.Status):
            return answer
        if inspect.isawaitable(answer):
            task = asyncio.ensure_future(answer)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return Status.from_future(task, name=name)
        status = Status(name=name)
        status.set_finished()
        return status

    async def _stash(self, msg: Msg) -> Any:
        """Have a device keep readings.

        Expected message object is:

            Msg('stash', obj, readings, group=<GROUP>)
        """
        device, group = _cache_of(msg)
        if len(msg.args) != 1:
            found = len(msg.args)
            raise RuntimeError(f"stash: found {found} positional arguments, expected the readings")
        status = self._once(
            msg, lambda: self._as_status(device.stash(msg.args[0]), f"stash of {device!r}")
        )
        self._add_status_to_group(device, status, group, "stash")
        return status

    async def _clear_cache(self, msg: Msg) -> Any:
        """Have a device drop what it keeps.

        Expected message object is:

            Msg('clear_cache', obj, group=<GROUP>)
        """
        device, group = _cache_of(msg)
        status = self._once(msg, lambda: self._as_status(device.clear(), f"clear of {device!r}"))
        self._add_status_to_group(device, status, group, "clear_cache")
        return status

    def _add_status_to_group(self, obj: Any, status_object: Any, group: Any, action: str) -> None:
        """Wait for a status as bluesky does, with another mind about which failures count."""
        for_all = self._pardon_failures
        if self._play is not None:
            self._pardon_failures = self._pardon(self._play)  # type: ignore[assignment]
        try:
            super()._add_status_to_group(obj, status_object, group, action)
        finally:
            self._pardon_failures = for_all

    def _pardon(self, play: Play) -> "_Pardon":
        return _Pardon(self, play, cast("asyncio.Event", self._pardon_failures))

    # Descriptions

    async def _describe(self, msg: Msg) -> Any:
        """Return what a device says about its readings.

        Expected message object is:

            Msg('describe', obj, in_thread=False)
        """
        return await self._asked(msg, msg.obj.describe)

    async def _describe_collect(self, msg: Msg) -> Any:
        """Return what a flyer says about what it collects.

        Expected message object is:

            Msg('describe_collect', obj, in_thread=False)
        """
        return await self._asked(msg, msg.obj.describe_collect)

    async def _asked(self, msg: Msg, method: Callable[[], Any]) -> Any:
        if msg.kwargs.get("in_thread"):
            answer = await blocking_threads.call(method)
        else:
            answer = method()
        return await maybe_await(answer)

    # Children

    async def _invoke(self, msg: Msg) -> InvocationStatus:
        """Give a command to a child.

        Expected message object is:

            Msg('invoke', child, command, argument, group=<GROUP>, timeout=None)
        """
        command, argument = msg.args
        play = self._needed_play()
        status: InvocationStatus = self._once(
            msg, lambda: self._call_child(play, msg.obj, command, argument, msg.kwargs)
        )
        future = self.loop.create_future()
        pardon = self._pardon(play)

        def ended(_: Any) -> None:
            self._soon(self._status_object_completed, status, future, pardon)

        status.add_callback(ended)
        group = msg.kwargs.get("group")
        self._groups[cast("str", group)].add(lambda: future)
        self._status_objs[group].add(status)
        return status

    def _call_child(
        self,
        play: Play,
        child: str,
        command: str,
        argument: str | None,
        options: Mapping[str, Any],
    ) -> InvocationStatus:
        if self.caller is None:
            raise RuntimeError(
                f"invoke {command!r} at {child!r}: found no way to children, expected the engine "
                "to be made with `caller`"
            )
        status = InvocationStatus(
            *(child, command),
            timeout=options.get("timeout"),
            when_over=lambda: self._soon(self._call_is_over, play, status),
        )
        invocation = self.caller.invoke(child, command, argument, status.on_update)
        call = play.calls[status] = ChildCall(status, invocation)
        # A status that ran out is done, and the child works on: nobody waits for that any more.
        status.add_callback(lambda _: self._soon(call.abandon))
        return status

    def _call_is_over(self, play: Play, status: InvocationStatus) -> None:
        """Let go of a command that is over: a plan may go on for days and give thousands."""
        if call := play.calls.pop(status, None):
            self.guarded(call.let_go)

    def _soon(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the event loop, from any thread; children may outlive the loop."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *arguments)

    # Steps and groups

    async def _declare_steps(self, msg: Msg) -> None:
        """Announce how many steps the plan has.

        Expected message object is:

            Msg('declare_steps', None, total)
        """
        (total,) = msg.args
        self._needed_play().handle.steps.declare(total)

    async def _step_done(self, msg: Msg) -> None:
        """Count steps of the plan as done.

        Expected message object is:

            Msg('step_done', None, count)
        """
        (count,) = msg.args
        self._once(msg, lambda: self._needed_play().handle.steps.step(count))

    async def _forget_group(self, msg: Msg) -> None:
        """Drop a group that nobody will wait for any more.

        Expected message object is:

            Msg('forget_group', None, group)
        """
        (group,) = msg.args
        self._groups.pop(group, None)
        self._status_objs.pop(group, None)

    # What the handle shows

    async def _open_run(self, msg: Msg) -> Any:
        uid = await super()._open_run(msg)
        if self._play is not None:
            self._play.handle.opened(tuple(self._run_start_uids))
        return uid

    def emit_sync(self, name: Any, doc: Any) -> None:
        """Give a document to those who subscribed, and count it as progress."""
        super().emit_sync(name, doc)
        if self._play is not None:
            self._play.handle.steps.on_document(name.name, doc)


class _Pardon:
    """Set when a failure is no news: the plan is over, or was told to end since this began.

    What the plan's clean-up begins is not pardoned. What went on before must not break it off: a
    device whose move is replaced by that of the clean-up may well call the first one failed.
    """

    def __init__(self, engine: Stage, play: Play, is_over: asyncio.Event) -> None:
        self._engine = engine
        self._play = play
        self._is_over = is_over
        self._verb = play.verb

    def is_set(self) -> bool:
        told_to_end = self._play.verb is not self._verb
        return told_to_end or self._is_over.is_set() or not self._engine.is_on(self._play)


def _checked(events: object, direction: object) -> Direction:
    if direction not in {"set", "reset"}:
        raise ValueError(f"wait_for: found {direction!r}, expected 'set' or 'reset'")
    if not isinstance(events, Mapping) or not events:
        raise ValueError(f"events: found {events!r}, expected at least one latch by its name")
    for name, latch in events.items():
        if not isinstance(latch, SRLatch):
            raise TypeError(f"events[{name!r}]: found {latch!r}, expected an SRLatch")
    return direction


def _claim(play: Play, latch: SRLatch) -> None:
    """Bind a latch to the run; what happened to it since the run began is still news."""
    if latch in play.latches:
        return
    latch.claim(play, play.begun)
    now = latch.mark()
    sets = now.sets - latch.changed_since("set", play.begun)
    resets = now.resets - latch.changed_since("reset", play.begun)
    play.latches[latch] = Mark(sets, resets)


def _fired(
    play: Play, events: Mapping[Any, SRLatch], direction: Direction, every: bool
) -> list[tuple[Any, SRLatch]]:
    """Return the latches that fired, in the order of `events`; the first one unless `every`."""
    fired: list[tuple[Any, SRLatch]] = []
    for name, latch in events.items():
        mark = latch.consume(direction, play.latches[latch])
        if mark is not None:
            play.latches[latch] = mark
            fired.append((name, latch))
            if not every:
                break  # those behind it are seen by the next wait
    return fired


def _cache_of(msg: Msg) -> tuple[HasCache, str]:
    if not isinstance(msg.obj, HasCache):
        text = f"{msg.command}: found {msg.obj!r}, expected an object that has stash() and clear()"
        raise TypeError(text)
    group = msg.kwargs.get("group")
    if group is None:
        raise RuntimeError(f"{msg.command}: found no group, expected one to wait for")
    return msg.obj, group
