"""Commands as trees of tasks: the command map, composition and execution.

`compose` turns a command of a `CommandMap` and the children that are there into a tree;
`BaseTask.start` runs it on one thread, and no node of it occupies a thread while it waits. What
reaches devices and keeps time is given from outside, by an `ExecutionContext`.
"""

from milonga.tasks._arguments import ArgumentRule, KeysArgument, ValueArgument
from milonga.tasks._check import check_children, check_command_map
from milonga.tasks._command_map import (
    CommandMap,
    CommandSpec,
    CompositeSpec,
    DeviceSpec,
    InternalSpec,
    NodeSpec,
    PlanStepSpec,
    default_command_map,
)
from milonga.tasks._compose import PlanFactory, compose
from milonga.tasks._context import (
    Cancellable,
    DeviceCaller,
    ExecutionContext,
    Invocation,
    LeafAction,
    Runtime,
    Subdivided,
)
from milonga.tasks._internal import InternalCall, InternalMethod, internal_action
from milonga.tasks._kinds import MAX_DEPTH, MAX_NODES, TaskType, Tolerance
from milonga.tasks._leaf import LeafTask
from milonga.tasks._node import BaseTask
from milonga.tasks._parts import AllowedStates, ChildSpec, PolicySpec, UntilSpec
from milonga.tasks._payload import lrc_payload
from milonga.tasks._policy import policy_factory_for
from milonga.tasks._tree import Task

__all__ = [
    "MAX_DEPTH",
    "MAX_NODES",
    "AllowedStates",
    "ArgumentRule",
    "BaseTask",
    "Cancellable",
    "ChildSpec",
    "CommandMap",
    "CommandSpec",
    "CompositeSpec",
    "DeviceCaller",
    "DeviceSpec",
    "ExecutionContext",
    "InternalCall",
    "InternalMethod",
    "InternalSpec",
    "Invocation",
    "KeysArgument",
    "LeafAction",
    "LeafTask",
    "NodeSpec",
    "PlanFactory",
    "PlanStepSpec",
    "PolicySpec",
    "Runtime",
    "Subdivided",
    "Task",
    "TaskType",
    "Tolerance",
    "UntilSpec",
    "ValueArgument",
    "check_children",
    "check_command_map",
    "compose",
    "default_command_map",
    "internal_action",
    "lrc_payload",
    "policy_factory_for",
]
