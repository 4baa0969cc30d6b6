"""Steps that plans are made of, beside bluesky's own.

Use them by ``yield from`` in a plan that a `milonga.engine.RunEngine` runs.
"""

from milonga.engine._stubs_children import declare_steps, invoke, invoke_all, step_done
from milonga.engine._stubs_devices import (
    clear_cache,
    describe,
    describe_collect,
    read_and_stash,
    set_property,
    stash,
)
from milonga.engine._stubs_waiting import ReadPace, read_while_waiting, wait_for_actions

__all__ = [
    "ReadPace",
    "clear_cache",
    "declare_steps",
    "describe",
    "describe_collect",
    "invoke",
    "invoke_all",
    "read_and_stash",
    "read_while_waiting",
    "set_property",
    "stash",
    "step_done",
    "wait_for_actions",
]
