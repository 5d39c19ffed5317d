"""The demo's calendar: whether today is a critical day, for those who cannot wait until Saturday."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from django.apps import apps

LASTS = timedelta(hours=2)
WHY = "the demo plays a Saturday"
NOT = "the demo plays a usual day"


def switch(on: bool | None) -> None:
    """Switch a critical day on or off for two hours, above the calendar; None: let the calendar decide again.

    For a thread beside wsmon's own. Raises whatever the database does.
    """
    from django.db import connection  # noqa: PLC0415  needs Django set up
    from django.utils import timezone  # noqa: PLC0415

    from monitoring.critical import actions  # noqa: PLC0415
    from wsmon.audit import Actor  # noqa: PLC0415

    actor = Actor.system("demo")
    try:
        if on is None:
            actions.end_override(actor, "the demo leaves it to the calendar")
        else:
            actions.override(on, timezone.now() + LASTS, WHY if on else NOT, actor)
    finally:
        connection.close()


def switch_soon(on: bool, stopping: threading.Event, patience: float = 60.0) -> threading.Thread:
    """The same as soon as wsmon's tables are there, in a thread of its own."""
    thread = threading.Thread(target=_try, args=(on, stopping, time.monotonic() + patience), daemon=True)
    thread.start()
    return thread


def _try(on: bool, stopping: threading.Event, until: float) -> None:
    while time.monotonic() < until and not stopping.wait(0.5):
        if not apps.ready:
            continue
        try:
            switch(on)
        except Exception:  # noqa: S112  the tables are not there yet
            continue
        return
