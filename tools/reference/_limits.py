"""Limits that somebody may run into, with what the code itself says of them."""

import ast
import inspect
from importlib import import_module
from itertools import pairwise

from tools.reference._markdown import one_line

__all__ = ["limits"]

_LIMITS = (
    "milonga.lrc._wire:FINISHED_KEPT",
    "milonga.lrc._table:LEGACY_RETENTION",
    "milonga.lrc._network:MAX_CALLERS",
    "milonga.lrc._network:MAX_LOOKERS",
    "milonga.lrc.client:PATIENCE",
    "milonga.lrc.task_tree:MAX_TREE_DEPTH",
    "milonga.tasks._kinds:MAX_DEPTH",
    "milonga.tasks._kinds:MAX_NODES",
    "milonga.tasks._confirm:CONFIRM_TIMEOUT",
    "milonga.deploy._topology_models:MAX_DEVICES",
    "milonga.records._rows:MAX_TEXT",
    "milonga.records._rows:MAX_PARAMETERS",
    "milonga.records._query:MAX_PAGE",
    "milonga.records._state_model:MAX_BLOB_BYTES",
    "milonga.records._payloads:MAX_SUBSCRIPTIONS",
    "milonga.records._log_view:MAX_ENTRIES",
    "milonga.tasks._leaf:MAX_SHOWN",
    "milonga.devices._record_settings:LINGER",
    "milonga.devices._record_settings:DEFAULT_MAX_BYTES",
    "milonga.devices._monitoring:STUCK_AFTER",
    "milonga.devices._monitoring:DEAD_AFTER",
)


def limits() -> list[tuple[str, str, str]]:
    """Return name, value, and what it is, of each limit."""
    return [_limit(*place.split(":")) for place in _LIMITS]


def _limit(module_name: str, name: str) -> tuple[str, str, str]:
    module = import_module(module_name)
    value = f"{getattr(module, name):,}".replace(",", " ")
    package = module_name.split(".")[1]
    return f"`{package}.{name}`", value, one_line(_doc_below(inspect.getsource(module), name))


def _doc_below(source: str, name: str) -> str:
    """Return the string that stands below the assignment of a module's constant."""
    for statement, below in pairwise(ast.parse(source).body):
        is_meant = isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == name for target in statement.targets
        )
        if is_meant and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            return str(below.value.value)
    raise ValueError(f"{name}: found no text below it, expected what it limits")
