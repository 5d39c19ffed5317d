"""The server's side of static/wsmon/asks.js (panels that ask before an action) and webhooks.js (live parts)."""

from __future__ import annotations

import re

from django.http import HttpRequest

LIVE_HEADER = "X-Wsmon-Live"
"""Sent by static/wsmon/webhooks.js when it looks for news: only what changes is answered."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


def is_live(request: HttpRequest) -> bool:
    """Whether only the live parts of a page are wanted."""
    return request.headers.get(LIVE_HEADER) == "1"


def box_of(request: HttpRequest, default: str) -> str:
    """The id of the element that shows the panel; ``default`` on a page of its own."""
    return _id(request.htmx.target, default)  # type: ignore[attr-defined]


def opener_of(request: HttpRequest) -> str:
    """The id of the link or button that opened it, to which the focus returns; empty for none."""
    return _id(request.POST.get("asked") or request.htmx.trigger, "")  # type: ignore[attr-defined]


def _id(text: str | None, default: str) -> str:
    return text if text and _ID.fullmatch(text) else default
