"""Plans: bluesky's run engine without its waits, and what plans need beside it.

`RunEngine` runs plans one at a time, in one event loop that all engines of a process share; its
`call` returns a `PlanHandle`, and nothing that controls a plan keeps its caller waiting. `actions`,
`plan_stubs` and `plan_spec` are for those who write plans and those who offer them to clients;
`PlanRegistry` says which plans clients may run, and `PlanAction` runs one as the leaf of a tree.
bluesky is imported here and nowhere else.
"""

from bluesky.run_engine import RunEngineResult

from milonga.engine import actions, plan_spec, plan_stubs
from milonga.engine._cache import CacheOverflow, CacheStatistics, DropPolicy, HasCache, RingCache
from milonga.engine._commands import register_bound_command
from milonga.engine._documents import BridgeStatistics, DocumentBridge, JsonLinesWriter
from milonga.engine._foresight import Foreseen, ForeseenCall, foresee
from milonga.engine._forwarder import DocumentSink, Forwarder, ForwarderStatistics
from milonga.engine._handle import PlanFuture, PlanHandle, PlanState
from milonga.engine._interruptions import (
    PauseFailed,
    PlanAborted,
    PlanHalted,
    PlanPaused,
    PlanStopped,
    PlanTimedOut,
    RunEngineInterrupted,
)
from milonga.engine._invocation import ChildCaller, ChildInvocation, InvocationStatus
from milonga.engine._leaf import PlanAction, PlanInvocation
from milonga.engine._loop import LoopLease, hold_event_loop
from milonga.engine._outbox import Outbox, OutboxStatistics
from milonga.engine._outcome import (
    SITUATIONS,
    Meaning,
    Situation,
    meaning_of,
    situation_from,
    situation_of,
)
from milonga.engine._registry import PlanRegistry, PreparedPlan
from milonga.engine._run_engine import EngineStatistics, RunEngine
from milonga.engine._shutdown import shutdown
from milonga.engine._stage import TransitionError
from milonga.engine._status import Status
from milonga.engine._status_leaf import report_status
from milonga.engine._tiled import TiledSink, tiled_sink
from milonga.engine._watchdog import LagStatistics, LoopWatchdog
from milonga.errors import (
    BlueskyException,
    EngineBlockedError,
    EngineBusyError,
    EngineClosedError,
    InvalidState,
    InvocationFailed,
    PlanNotFound,
    StatusTimeoutError,
    UnknownStatusFailure,
    WaitTimeoutError,
)

__all__ = [
    "SITUATIONS",
    "BlueskyException",
    "BridgeStatistics",
    "CacheOverflow",
    "CacheStatistics",
    "ChildCaller",
    "ChildInvocation",
    "DocumentBridge",
    "DocumentSink",
    "DropPolicy",
    "EngineBlockedError",
    "EngineBusyError",
    "EngineClosedError",
    "EngineStatistics",
    "Foreseen",
    "ForeseenCall",
    "Forwarder",
    "ForwarderStatistics",
    "HasCache",
    "InvalidState",
    "InvocationFailed",
    "InvocationStatus",
    "JsonLinesWriter",
    "LagStatistics",
    "LoopLease",
    "LoopWatchdog",
    "Meaning",
    "Outbox",
    "OutboxStatistics",
    "PauseFailed",
    "PlanAborted",
    "PlanAction",
    "PlanFuture",
    "PlanHalted",
    "PlanHandle",
    "PlanInvocation",
    "PlanNotFound",
    "PlanPaused",
    "PlanRegistry",
    "PlanState",
    "PlanStopped",
    "PlanTimedOut",
    "PreparedPlan",
    "RingCache",
    "RunEngine",
    "RunEngineInterrupted",
    "RunEngineResult",
    "Situation",
    "Status",
    "StatusTimeoutError",
    "TiledSink",
    "TransitionError",
    "UnknownStatusFailure",
    "WaitTimeoutError",
    "actions",
    "foresee",
    "hold_event_loop",
    "meaning_of",
    "plan_spec",
    "plan_stubs",
    "register_bound_command",
    "report_status",
    "shutdown",
    "situation_from",
    "situation_of",
    "tiled_sink",
]
