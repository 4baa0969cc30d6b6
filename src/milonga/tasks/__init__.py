"""Commands as trees of tasks: the command map, composition and execution.

`compose` turns a command of a `CommandMap` and the children that are there into a tree;
`BaseTask.start` runs it on one thread, and no node of it occupies a thread while it waits. What
reaches devices and keeps time is given from outside, by an `ExecutionContext`.
"""

from milonga.tasks._answers import Answers
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
from milonga.tasks._compose import compose
from milonga.tasks._confirm import PendingStep, StepAsker, StepRequest
from milonga.tasks._context import (
    Cancellable,
    DeviceCaller,
    ExecutionContext,
    Invocation,
    LeafAction,
    Looking,
    NoWork,
    Runtime,
    Subdivided,
    TimedCaller,
)
from milonga.tasks._internal import InternalCall, InternalMethod, internal_action
from milonga.tasks._kinds import MAX_DEPTH, MAX_NODES, TaskType, Tolerance
from milonga.tasks._late import AnalysisRequest, AnalysisStarter, analysis_leaf
from milonga.tasks._late_specs import AnalysisSpec, ConfirmSpec
from milonga.tasks._leaf import LeafTask
from milonga.tasks._node import BaseTask
from milonga.tasks._observer import TreeObserver
from milonga.tasks._parts import AllowedStates, ChildSpec, PolicySpec, UntilSpec
from milonga.tasks._payload import lrc_payload
from milonga.tasks._policy import policy_factory_for
from milonga.tasks._safety import MAX_SAFETY_COMMANDS, naming_problems
from milonga.tasks._tree import Task
from milonga.tasks._wants import PlanFactory

__all__ = [
    "MAX_DEPTH",
    "MAX_NODES",
    "MAX_SAFETY_COMMANDS",
    "AllowedStates",
    "AnalysisRequest",
    "AnalysisSpec",
    "AnalysisStarter",
    "Answers",
    "ArgumentRule",
    "BaseTask",
    "Cancellable",
    "ChildSpec",
    "CommandMap",
    "CommandSpec",
    "CompositeSpec",
    "ConfirmSpec",
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
    "Looking",
    "NoWork",
    "NodeSpec",
    "PendingStep",
    "PlanFactory",
    "PlanStepSpec",
    "PolicySpec",
    "Runtime",
    "StepAsker",
    "StepRequest",
    "Subdivided",
    "Task",
    "TaskType",
    "TimedCaller",
    "Tolerance",
    "TreeObserver",
    "UntilSpec",
    "ValueArgument",
    "analysis_leaf",
    "check_children",
    "check_command_map",
    "compose",
    "default_command_map",
    "internal_action",
    "lrc_payload",
    "naming_problems",
    "policy_factory_for",
]
