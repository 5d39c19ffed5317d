"""Channels, alerts and sinks for tests of notifications."""

from __future__ import annotations

import itertools
import json
from datetime import timedelta
from typing import Any

from django.db.models import F

from monitoring import alerts
from monitoring.models import Alert, Channel, Notification
from monitoring.notifications import claims, sending
from tests.servers import Handler, Server, answering
from wsmon.secrets import encrypt

_numbers = itertools.count(1)


def make_channel(slug: str | None = None, address: str = "json://127.0.0.1:9/", **fields: Any) -> Channel:
    """A channel whose address is kept encrypted."""
    defaults: dict[str, Any] = {"encrypted": encrypt(address), "min_severity": "info"}
    return Channel.objects.create(slug=slug or f"channel-{next(_numbers)}", **defaults | fields)


def raised(key: str | None = None, severity: str = "critical", title: str = "", **fields: Any) -> Alert:
    """An alert that was just raised."""
    key = key or f"thing:{next(_numbers)}"
    return alerts.raise_alert(key, fields.pop("kind", "thing"), severity, title or f"{key} is broken", **fields)


def written(channel: Channel | None = None) -> list[tuple[str, str]]:
    """Kind and state of every message, oldest first."""
    rows = Notification.objects.order_by("created_at", "id")
    rows = rows if channel is None else rows.filter(channel=channel)
    return list(rows.values_list("kind", "state"))


def send_due(room: int = 50) -> list[str]:
    """Claim and send what is due, here and now; the titles of what was tried."""
    found = claims.claim(room)
    for one in found:
        sending.attempt(one)
    return [one.title for one in found]


class Sink(Server):
    """A receiver of Apprise's JSON messages."""

    def __init__(self, handler: Handler | None = None) -> None:
        super().__init__(handler or answering(b"ok"))

    def __enter__(self) -> Sink:
        super().__enter__()
        return self

    @property
    def address(self) -> str:
        """For a channel."""
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def got(self) -> list[dict[str, Any]]:
        """The bodies that came, in order."""
        return [json.loads(request.partition(b"\r\n\r\n")[2]) for request in self.requests]

    @property
    def titles(self) -> list[str]:
        """Their titles."""
        return [body["title"] for body in self.got]


def in_turn(*answers: bytes) -> Handler:
    """Answer each request, over all connections, with the next of some answers; the last one repeats."""
    left = itertools.chain(answers, itertools.repeat(answers[-1]))

    def handle(peer: Any) -> None:
        while peer.read_request():
            peer.send(next(left))

    return handle


def forwarded(seconds: float, *rows: Notification) -> None:
    """Let time pass for what waits: everything that is due by then is due now."""
    found = Notification.objects.filter(state="pending")
    found = found.filter(id__in=[row.id for row in rows]) if rows else found
    found.update(due_at=F("due_at") - timedelta(seconds=seconds))
