"""What wsmon does besides probing: what is in force, incidents, alerts, escalations, messages. Read this first.

Each part looks for itself whether there is anything to do, and goes on when another one fails: that an escalation
cannot be read must not keep messages back.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime

import structlog
from django.utils import timezone

from monitoring.alertrules import watch
from monitoring.critical import inforce, upkeep
from monitoring.escalation import oncall, running
from monitoring.forecasts import running as forecasts
from monitoring.incidents import connectivity, judging, vendorpages
from monitoring.notifications import deadman, inhibition, sender

log = structlog.get_logger(__name__)

Part = Callable[[datetime], object]

EACH_SECOND: Mapping[str, Part] = {
    "what is in force": inforce.refresh,
    "verdicts": judging.rejudge,
    "escalations": running.run_due,
}
EACH_FEW_SECONDS: Mapping[str, Part] = {
    "our own connectivity": connectivity.look,
    "rules": watch.run_due,
    "what was silenced": inhibition.refresh,
    "forecasts": forecasts.tick,
}
EACH_MINUTE: Mapping[str, Part] = {
    "calendars": upkeep.run,
    "calendars of rotations": oncall.read_feeds,
    "vendors' pages": vendorpages.read_due,
    "dead man's switch": deadman.ping,
}
"""These ask over the network, as the look at our own connectivity does."""

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def tick() -> None:
    """Each second."""
    sender.tick()
    _run(EACH_SECOND)


def look() -> None:
    """Each few seconds."""
    _run(EACH_FEW_SECONDS)


def ask() -> None:
    """Each minute; it may take long."""
    _run(EACH_MINUTE)


def _run(parts: Mapping[str, Part]) -> None:
    for name, part in parts.items():
        if not _locks[name].acquire(blocking=False):
            continue  # the one before is still at it
        try:
            part(timezone.now())
        except Exception:  # whatever it is, the other parts must go on
            log.exception("a part of alerting failed", part=name)
        finally:
            _locks[name].release()
