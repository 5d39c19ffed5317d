"""The outbox: what is to be told is written down in the transaction of what it tells of.

Each message has a key, ``once``, so that telling twice writes once. A NOTIFY wakes the senders when (and only if)
the transaction commits; whatever it misses, their next look finds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from monitoring.models import Alert, Notification
from monitoring.notifications import messages, quiet
from monitoring.notifications.messages import Story
from monitoring.notifications.routing import AlertFacts, ChannelFacts, Planned, Told, What, decide
from wsmon.ids import uuid7

NOTIFY = "wsmon_outbox"
CHANNEL_KIND = "channel"
"""The kind of an alert about a channel, whose key is ``channel:<slug>``."""

_MOST_ROWS = 2_000
"""Messages written by one statement."""

_WRITE = """
WITH written AS (
INSERT INTO monitoring_notification (id, channel_id, alert_id, incident_id, kind, once, severity, title, body, url,
    recipient, state, due_at, tries, created_at, problem)
SELECT x.id, x.channel_id, x.alert_id, x.incident_id, x.kind, x.once, x.severity, x.title, x.body, x.url,
    x.recipient, 'pending', statement_timestamp() + make_interval(secs => x.wait), 0, clock_timestamp(), x.held
FROM jsonb_to_recordset(%(rows)s::jsonb) AS x(id uuid, channel_id bigint, alert_id bigint, incident_id bigint,
    kind text, once text, severity text, title text, body text, url text, recipient text, wait float8, held text)
ON CONFLICT (once) DO UPDATE SET state = 'pending', due_at = excluded.due_at, severity = excluded.severity,
    title = excluded.title, body = excluded.body, problem = excluded.problem
WHERE monitoring_notification.state = 'dropped'
RETURNING 1
), told AS (
UPDATE service_alerts a SET told_severity = n.severity
FROM unnest(%(alerts)s::bigint[], %(severities)s::text[]) AS n(id, severity) WHERE a.id = n.id
)
SELECT count(*), CASE WHEN count(*) > 0 THEN pg_notify(%(notify)s, '') END FROM written
"""

_TOLD = """
SELECT alert_id, channel_id,
    bool_or(state IN ('sent', 'sending', 'gathered')
        OR (state = 'pending' AND (tries > 0 OR due_at <= statement_timestamp()))),
    bool_or(state = 'pending')
FROM monitoring_notification WHERE alert_id = ANY(%s) GROUP BY 1, 2
"""

# Without a channel: those of all.
_DROP = """
UPDATE monitoring_notification n SET state = 'dropped', problem = x.why
FROM unnest(%(alerts)s::bigint[], %(channels)s::bigint[], %(whys)s::text[]) AS x(alert_id, channel_id, why)
WHERE n.alert_id = x.alert_id AND (x.channel_id IS NULL OR n.channel_id = x.channel_id)
  AND n.state = 'pending' AND n.tries = 0 AND n.due_at > statement_timestamp()
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom an escalation is for: a channel by its slug, and who that is, in words ("Ana, on call")."""

    channel: str
    recipient: str = ""


def tell_all(news: Sequence[tuple[Alert, What]], now: datetime | None = None) -> int:
    """Write down what the channels are to be told of alerts, in the caller's transaction; return how many messages.

    By a few statements however many they are. What happened is opened, worse or resolved. To whom and when is
    ``routing``'s; an inhibited alert is told to nobody.
    """
    if not news:
        return 0
    moment = now or timezone.now()
    channels = _channels(news)
    plans = [
        _Plan(alert, plan)
        for alert, what in news
        for plan in decide(_facts(alert), what, channels.knowing(alert.id), moment)
    ]
    fresh = [
        alert
        for alert, what in news
        if what is not What.RESOLVED and not alert.inhibited_by and alert.told_severity != alert.severity
    ]
    written = _write(plans, moment, fresh)
    for alert in fresh:
        alert.told_severity = alert.severity
    return written


def tell_named(
    alert: Alert | int, what: What, targets: Sequence[Target], turn: str, now: datetime | None = None
) -> list[str]:
    """Write down an escalation's or reminder's messages to named channels; return the slugs that were written.

    ``turn`` tells one such step of an alert from the next ("step:2"): the same one is written once. What is not
    among the slugs is archived or unknown, was written before, or belongs to an inhibited alert.
    """
    if not isinstance(alert, Alert):
        alert = Alert.objects.select_related("service").get(id=alert)
    moment = now or timezone.now()
    named = {one.channel: one.recipient for one in targets}
    channels = {one.id: one for one in _channels([(alert, what)], named).knowing(alert.id)}
    plans = decide(_facts(alert), what, channels.values(), moment, frozenset(named))
    written = []
    for plan in plans:
        slug = channels[plan.channel_id].slug
        if _write([_Plan(alert, plan, turn, named[slug])], moment):
            written.append(slug)
    return written


def drop_held(alert_id: int, why: str) -> int:
    """Forget what waits on purpose (quiet hours, a digest) and is not needed any more; return how many."""
    return _drop([(alert_id, None, why[:300])])


def wake() -> None:
    """Wake every sender when the transaction commits."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [NOTIFY])


def story_of(alert: Alert) -> Story:
    """What is told of an alert."""
    service = alert.service.label if alert.service else ""
    return Story(alert.severity, alert.title, alert.detail, service, alert.opened_at, alert.resolved_at, alert.count)


def _facts(alert: Alert) -> AlertFacts:
    return AlertFacts(
        severity=alert.severity,
        service=alert.service.slug if alert.service else "",
        inhibited_by=alert.inhibited_by,
        not_to=alert.key.removeprefix(f"{CHANNEL_KIND}:") if alert.kind == CHANNEL_KIND else "",
    )


# By hand: it is asked for each alert, and Django would take longer to ask than PostgreSQL to answer.
_CHANNELS = """
SELECT id, slug, min_severity, services, quiet_hours, digest, direct FROM monitoring_channel
WHERE archived_at IS NULL AND (%(named)s::text[] IS NULL OR slug = ANY(%(named)s)) ORDER BY id
"""


@dataclass(frozen=True, slots=True)
class _Channels:
    """The channels in use, and what they know: by alert and channel."""

    all: Sequence[ChannelFacts]
    told: Mapping[tuple[int, int], Told]

    def knowing(self, alert_id: int) -> list[ChannelFacts]:
        """The channels with what they know of an alert."""
        if not self.told:
            return list(self.all)
        return [replace(one, told=self.told.get((alert_id, one.id), Told.NOTHING)) for one in self.all]


def _channels(news: Iterable[tuple[Alert, What]], named: Collection[str] | None = None) -> _Channels:
    """The channels in use, with what they know of some alerts; of a new alert none knows anything."""
    with connection.cursor() as cursor:
        cursor.execute(_CHANNELS, {"named": None if named is None else list(named)})
        rows = cursor.fetchall()
    if not rows:
        return _Channels([], {})
    windows = _windows(row[0] for row in rows if row[5])
    found = [
        ChannelFacts(
            id=number,
            slug=slug,
            min_severity=severity,
            services=frozenset(services),
            quiet=quiet.read(json.loads(hours)),
            digest=digest,
            direct=direct,
            window_ends=windows.get(number),
        )
        for number, slug, severity, services, hours, digest, direct in rows
    ]
    return _Channels(found, _told([alert.id for alert, what in news if what is not What.OPENED]))


def _told(alert_ids: Sequence[int]) -> dict[tuple[int, int], Told]:
    if not alert_ids:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_TOLD, [list(alert_ids)])
        rows = cursor.fetchall()
    words = {(True, True): Told.TOLD, (True, False): Told.TOLD, (False, True): Told.WAITING}
    return {(alert, channel): words.get((went, waits), Told.NOTHING) for alert, channel, went, waits in rows}


def _windows(channel_ids: Iterable[int]) -> dict[int, datetime]:
    """When the digests that are being gathered go out."""
    ids = list(channel_ids)
    if not ids:
        return {}
    waiting = Notification.objects.filter(
        channel__in=ids, state="pending", tries=0, due_at__gt=timezone.now(), problem=_held_words("digest")
    )
    rows = waiting.order_by("channel_id", "due_at").distinct("channel_id").values_list("channel_id", "due_at")
    return dict(rows)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A message that was decided on. ``turn`` and ``recipient`` are an escalation's."""

    alert: Alert
    planned: Planned
    turn: str = ""
    recipient: str = ""

    @property
    def why(self) -> str:
        """For a message that is dropped."""
        return "over before it was due" if self.alert.resolved_at else "something worse is told"


def _write(plans: Sequence[_Plan], now: datetime, news: Sequence[Alert] = ()) -> int:
    """Write messages, and how urgent the alerts are that they bring ``news`` of; return how many are new."""
    rows = [_row(plan, now) for plan in plans if not plan.planned.drop]
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        _drop([(plan.alert.id, plan.planned.channel_id, plan.why) for plan in plans if plan.planned.drop])
        written = 0
        for first in range(0, max(len(rows), bool(news)), _MOST_ROWS):
            values: dict[str, Any] = {
                "rows": json.dumps(rows[first : first + _MOST_ROWS]),
                "alerts": [alert.id for alert in news] if not first else [],
                "severities": [alert.severity for alert in news] if not first else [],
                "notify": NOTIFY,
            }
            cursor.execute(_WRITE, values)
            written += cursor.fetchone()[0]
    return written


def _drop(held: Sequence[tuple[int, int | None, str]]) -> int:
    """Forget what is held back: alert, channel (None: all) and why."""
    if not held:
        return 0
    alerts, channels, whys = (list(column) for column in zip(*held, strict=True))
    with connection.cursor() as cursor:
        cursor.execute(_DROP, {"alerts": alerts, "channels": channels, "whys": whys})
        return int(cursor.rowcount)


def _row(plan: _Plan, now: datetime) -> dict[str, Any]:
    alert, planned = plan.alert, plan.planned
    title, body = messages.compose(planned.what, story_of(alert), timezone.get_default_timezone())
    turn = plan.turn or (alert.severity if planned.what is What.WORSE else "")
    return {
        "id": str(uuid7()),
        "channel_id": planned.channel_id,
        "alert_id": alert.id,
        "incident_id": alert.incident_id,
        "kind": planned.what.value,
        "once": f"alert:{alert.id}:{planned.channel_id}:{planned.what.value}:{turn}"[:200],
        "severity": alert.severity,
        "title": title,
        "body": body,
        "url": alert.url,
        "recipient": plan.recipient[:200],
        "wait": max(0.0, (planned.due_at - now).total_seconds()),
        "held": _held_words(planned.held),
    }


def _held_words(held: str) -> str:
    return f"held back: {held}" if held else ""


__all__ = ["NOTIFY", "Target", "drop_held", "tell_all", "tell_named", "wake"]
