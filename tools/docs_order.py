"""The order of the documentation's menu; called by mkdocs.

The menu is made of the folders, so that no page can be forgotten in it.
"""

from typing import Any

ORDER = ("Home", "Tutorial", "How to", "Reference", "Explanation")
"""The kinds of pages, from the first that a newcomer reads to the last."""


def on_nav(nav: Any, **_: Any) -> Any:
    """Put the kinds of pages into order."""
    nav.items.sort(key=_place)
    return nav


def _place(item: Any) -> int:
    title = "Home" if getattr(item, "is_homepage", False) else str(item.title)
    return ORDER.index(title) if title in ORDER else len(ORDER)
