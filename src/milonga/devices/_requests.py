"""What a client may say beside a command's argument: a key, a transaction id, a time limit.

Each may be a key of a JSON object argument (`lrc_key`, `transaction_id`, `lrc_timeout`), or of what
`SubmitCommand` takes. Key and limit are taken out of what the children get, because they belong to
this call and not to theirs, which get the time that is left; the transaction id is left in.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from milonga.control_model import ResultCode
from milonga.devices._callers import Caller
from milonga.errors import ArgumentError
from milonga.lrc import Origin, Reply

__all__ = ["KEYS_KEPT", "Request", "RequestKeys", "read_request"]

KEYS_KEPT = 1000
"""How many idempotency keys a device remembers."""

MAX_KEY_LENGTH = 200
"""How many characters an idempotency key or transaction id may have."""

LONGEST = 86400.0
"""Most seconds that a client may allow a command."""

_TAKEN_OUT: dict[str, type | tuple[type, ...]] = {"lrc_key": str, "lrc_timeout": (int, float)}
_KEYS = (*_TAKEN_OUT, "transaction_id")

KEY_WAIT = 2.5
"""Seconds that a repeated call waits for the first; less than a Tango client's patience."""


class _Envelope(BaseModel):
    """What `SubmitCommand` takes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: str
    argument: JsonValue = None
    lrc_key: str | None = None
    transaction_id: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A call of a command."""

    command: str = ""
    argument: str | None = None
    lrc_key: str | None = None
    transaction_id: str | None = None
    timeout: float | None = None

    @classmethod
    def from_json(cls, text: str, commands: tuple[str, ...]) -> Self:
        """Read what `SubmitCommand` got.

        Raises
        ------
        ArgumentError
            If it is no such object, or names a command that is none of `commands`.
        """
        try:
            envelope = _Envelope.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "value"
            raise ArgumentError(
                f"SubmitCommand: {where}: found {problem['input']!r}; {problem['msg']}"
            ) from error
        if envelope.command not in commands:
            raise ArgumentError(
                f"SubmitCommand: command: found {envelope.command!r}; expected one of"
                f" {', '.join(commands)}"
            )
        argument = envelope.argument
        if isinstance(argument, dict) and envelope.transaction_id is not None:
            argument = {"transaction_id": envelope.transaction_id, **argument}
        if argument is not None and not isinstance(argument, str):
            argument = json.dumps(argument)
        inner = read_request(argument)
        return cls(
            envelope.command,
            inner.argument,
            _bounded("lrc_key", _first(envelope.lrc_key, inner.lrc_key)),
            _bounded("transaction_id", _first(envelope.transaction_id, inner.transaction_id)),
            inner.timeout if envelope.timeout is None else _seconds("timeout", envelope.timeout),
        )

    def origin(self, caller: Caller | None) -> Origin:
        """Return where the command comes from."""
        return Origin(
            host=caller.host if caller else None,
            pid=caller.pid if caller else None,
            transaction_id=self.transaction_id,
            timeout=self.timeout,
        )


def read_request(argument: str | None) -> Request:
    """Find key and transaction id in a command's argument; what is no JSON object has neither."""
    if argument is None or not any(f'"{key}"' in argument for key in _KEYS):
        return Request(argument=argument)  # the usual case, without reading it twice
    try:
        value = json.loads(argument)
    except (ValueError, RecursionError):
        return Request(argument=argument)
    if not isinstance(value, dict):
        return Request(argument=argument)
    key, transaction = value.get("lrc_key"), value.get("transaction_id")
    taken = [name for name, kind in _TAKEN_OUT.items() if isinstance(value.get(name), kind)]
    timeout = value.get("lrc_timeout") if "lrc_timeout" in taken else None
    if taken:
        argument = json.dumps({name: value[name] for name in value if name not in taken})
    return Request(
        argument=argument,
        lrc_key=_bounded("lrc_key", key if isinstance(key, str) else None),
        transaction_id=_bounded(
            "transaction_id", transaction if isinstance(transaction, str) else None
        ),
        timeout=None if timeout is None else _seconds("lrc_timeout", timeout),
    )


class RequestKeys:
    """Remembers which calls were made under which key. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: OrderedDict[str, _Call] = OrderedDict()

    def once(self, name: str, request: Request, submit: Callable[[], Reply]) -> Reply:
        """Submit a call, or return what the same call was answered before.

        A call that was refused is not remembered, so that it may be tried again.

        Raises
        ------
        ArgumentError
            If the key was used for another command or argument.
        """
        key = request.lrc_key
        if key is None:
            return submit()
        content = hashlib.sha256(f"{name} {request.argument}".encode()).digest()
        with self._lock:
            call = self._calls.get(key)
            first = call is None
            if call is None:
                call = self._calls[key] = _Call(content)
                while len(self._calls) > KEYS_KEPT:
                    self._calls.popitem(last=False)
        if call.content != content:
            raise ArgumentError(
                f"{name}: lrc_key: found {key!r}, which was used for another command or argument;"
                " expected a new key"
            )
        if not first:
            return call.reply_of_first(key)
        return self._make(key, call, submit)

    def _make(self, key: str, call: "_Call", submit: Callable[[], Reply]) -> Reply:
        answer: Reply | None = None
        try:
            answer = submit()
        finally:
            if answer is None or answer[0] not in {ResultCode.QUEUED, ResultCode.STARTED}:
                with self._lock:
                    self._calls.pop(key, None)
            call.answer = answer
            call.done.set()
        return answer


class _Call:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.done = threading.Event()
        self.answer: Reply | None = None

    def reply_of_first(self, key: str) -> Reply:
        if not self.done.wait(KEY_WAIT) or self.answer is None:
            return ResultCode.REJECTED, f"The first call with lrc_key {key!r} was not answered yet"
        return self.answer


def _bounded(name: str, value: str | None) -> str | None:
    if value is not None and not 0 < len(value) <= MAX_KEY_LENGTH:
        raise ArgumentError(
            f"{name}: found {len(value)} characters; expected 1 to {MAX_KEY_LENGTH}"
        )
    return value


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not 0 < value <= LONGEST:
        raise ArgumentError(f"{name}: found {value!r}; expected seconds, up to {LONGEST:g}")
    return float(value)


def _first(outer: str | None, inner: str | None) -> str | None:
    return inner if outer is None else outer
