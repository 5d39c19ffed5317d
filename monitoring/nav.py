"""The main navigation, as ``settings.NAV`` lists it: pages of every room, some of them with a count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.module_loading import import_string


class Item:
    """One page of the navigation. Its number is asked for when somebody looks, once."""

    def __init__(self, told: Mapping[str, Any], here: str = "") -> None:
        self.name: str = told["name"]
        self.label: str = told["label"]
        self.icon: str = told["icon"]
        self.counted: str = told.get("counted", "")
        """What is counted, in words that follow the number; empty: nothing."""
        self.tab: bool = told.get("tab", True)
        """Whether phones show it at the lower edge; there is room for four."""
        self.current = here == self.name or bool(told.get("under") and here.startswith(told["under"]))
        self._count: str = told.get("count", "")

    @property
    def href(self) -> str:
        """Its address."""
        return reverse(self.name)

    @property
    def event(self) -> str:
        """The live event that carries its number to open pages."""
        return f"count-{self.name}"

    @cached_property
    def number(self) -> int:
        """How many there are now."""
        return _function(self._count)() if self._count else 0


@cache
def _function(path: str) -> Callable[[], int]:
    found: Callable[[], int] = import_string(path)
    return found


def items(here: str = "") -> list[Item]:
    """Every page; the one that the URL named ``here`` belongs to is marked."""
    return [Item(told, here) for told in settings.NAV]


def counts() -> dict[str, str]:
    """The numbers as live events."""
    return {item.event: render_to_string("_shared/count.html", {"item": item}) for item in items() if item.counted}
