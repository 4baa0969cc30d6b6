"""The trees of a device's commands, of those that run and of the last that have ended."""

from collections import OrderedDict
from collections.abc import Callable

from milonga.control_model import TaskStatus, is_final
from milonga.tasks import BaseTask

__all__ = ["CommandTrees"]


class CommandTrees:
    """Trees by command id. Safe across threads, as far as a dictionary is.

    Parameters
    ----------
    status_of : callable
        Returns the status of a command by its id; NOT_FOUND if it is not known any more.
    """

    KEPT = 100
    """Of how many commands the tree is remembered; of those that have not ended always."""

    def __init__(self, status_of: Callable[[str], TaskStatus]) -> None:
        self._status_of = status_of
        self._trees: OrderedDict[str, BaseTask] = OrderedDict()

    def add(self, uid: str, task: BaseTask) -> None:
        """Remember a tree; forget the oldest of a command that has ended if there are too many."""
        self._trees[uid] = task
        while len(self._trees) > self.KEPT:
            oldest = next(
                (key for key, known in self._trees.items() if self._is_over(key, known)), ""
            )
            if not oldest:
                return
            self._trees.pop(oldest, None)

    def get(self, uid: str) -> BaseTask | None:
        """Return the tree of a command; None if it is not remembered."""
        return self._trees.get(uid)

    def running(self) -> tuple[BaseTask, ...]:
        """Return the trees that have not ended, with those that have not begun."""
        return tuple(task for task in list(self._trees.values()) if not task.ended)

    def _is_over(self, uid: str, task: BaseTask) -> bool:
        """Tell whether a tree has ended; one whose command ended in the queue never begins."""
        status = self._status_of(uid)
        gone = is_final(status) or status is TaskStatus.NOT_FOUND
        return task.ended or (gone and not task.has_begun)
