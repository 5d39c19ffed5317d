"""Axe-core's judgement of a page: WCAG 2 A and AA, 2.1, 2.2 AA and best practices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


LOOKS = ["color-contrast", "target-size", "link-in-text-block"]
"""The rules of these that another theme may break, where the elements are the same."""
WIDTHS = (1440, 1100, 390)
ENDS = (1440, 390)


def everywhere(page: Page, widths: Sequence[int] = WIDTHS) -> list[str]:
    """What axe finds at each width and in both themes, and where the page scrolls sideways.

    The page is loaded once: what is open stays open. Between its ends only the width is judged, in the dark only
    what a theme can change, and no colour is on its way to another one.
    """
    found = []
    for width in widths:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("scrollTo(0, 0)")  # or the header stands over a part of a link
        for theme, rules in (("light", RULES), ("dark", LOOKS)) if width in ENDS else ():
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            found += [f"{width} {theme}: {line}" for line in violations(page, rules)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{width}: it scrolls sideways")
    page.set_viewport_size({"width": widths[0], "height": 900})
    page.emulate_media(color_scheme="light")
    return found


def looks(page: Page) -> Iterator[str]:
    """The open page at both widths and in both themes, in turn."""
    for width in ENDS:
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            yield f"{width} {theme}"


def violations(page: Page, rules: Sequence[str] = RULES) -> list[str]:
    """What axe finds on the page as it is now: one line per rule and element."""
    if not page.evaluate("Boolean(window.axe?.run)"):  # half a megabyte: once for each page
        page.evaluate(AXE_SCRIPT)
    options = json.dumps({"runOnly": list(rules), "resultTypes": ["violations"]})
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}"
        for rule in page.evaluate(f"axe.run({options}).then((found) => found.violations)")
        for node in rule["nodes"]
    ]
