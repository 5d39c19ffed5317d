"""Looking: every rule in its time, and the open alerts of its kind made to agree with what it finds.

Each rule is one transaction of one process at a time; one that fails keeps no other from its turn.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from monitoring import alerts, storable
from monitoring.alertmodels import RANKS, Alert
from monitoring.alertrules import (
    breakers,
    budget,
    expiry,
    flapping,
    headroom,
    inhibition,
    lateness,
    probeerrors,
    slowness,
    thresholds,
)
from monitoring.alertrules.finding import Context, Finding, Rule
from monitoring.alerts import News
from monitoring.escalation import gaps
from monitoring.models import Service
from wsmon.locks import alone
from wsmon.redact import redact

logger = structlog.get_logger(__name__)

OWN: tuple[Rule, ...] = (
    breakers.RULE,
    flapping.RULE,
    lateness.RULE,
    probeerrors.RULE,
    expiry.CERTIFICATE,
    expiry.CREDENTIAL,
    headroom.RULE,
    slowness.RULE,
    budget.RULE,
    gaps.RULE,
)
REFRESH = timedelta(minutes=10)
"""The words of an alert that is open follow the newest numbers so often; its severity and title at once."""
MOST = 200
"""Findings of one kind that get an alert each; the others are one together."""

_turns: dict[str, float] = {}


def run_due(now: datetime | None = None) -> int:
    """Every few seconds: look by the rules whose time has come; return how many."""
    due = [rule for rule in rules() if _turns.get(rule.kind, 0.0) <= time.monotonic()]
    if due:
        moment, present = now or timezone.now(), thresholds.present()
        for rule in due:
            _turns[rule.kind] = time.monotonic() + rule.every - 0.5  # a little less, or each second look is late
            _try(rule, present, moment)
    return len(due)


def rules() -> list[Rule]:
    """Those of this room, and those that other rooms have named in ``settings.ALERT_RULES``."""
    named = getattr(settings, "ALERT_RULES", [])
    return [*OWN, *(rule for path in named for rule in import_string(path))]


def forget() -> None:
    """Every rule is due again: for tests."""
    _turns.clear()


def run(rule: Rule, present: thresholds.Thresholds, now: datetime) -> bool:
    """Look by one rule and reconcile; False when another process is at it."""
    with transaction.atomic():
        if not alone(f"wsmon alert rule {rule.kind}"):
            return False
        open_ = {alert.key: alert for alert in alerts.open_alerts([rule.kind])}
        found: Sequence[Finding] = ()
        if rule.kind not in present.disabled:
            found = rule.look(Context(now, present, frozenset(open_)))
        _agree(rule, found, open_, now)
    return True


def plan(
    findings: Sequence[Finding], open_: Mapping[str, Alert], now: datetime, echoes: Mapping[int, str] | None = None
) -> tuple[list[tuple[Finding, str | None]], list[str]]:
    """What to raise, with why nobody is told (None: as it is), and which keys to resolve. Pure.

    What is open in nearly the same words is left alone. ``echoes``: by service, the incident that says it already.
    """
    raised: list[tuple[Finding, str | None]] = []
    wanted = {finding.key: finding for finding in findings}
    for finding in wanted.values():
        alert = open_.get(finding.key)
        reason = inhibition.reason((echoes or {}).get(finding.service or 0), alert.inhibited_by if alert else "")
        if alert is None or reason is not None or _news(finding, alert, now):
            raised.append((finding, reason))
    return raised, [key for key in open_ if key not in wanted]


def _news(finding: Finding, alert: Alert, now: datetime) -> bool:
    if (finding.severity, _kept(finding.title, 200)) != (alert.severity, alert.title):
        return True
    return _kept(finding.detail, 2000) != alert.detail and not timedelta(0) <= now - alert.last_at < REFRESH


def _agree(rule: Rule, findings: Sequence[Finding], open_: Mapping[str, Alert], now: datetime) -> None:
    """Raise what is found, and resolve what is open of this kind and is not found any more."""
    ids = {one.service for one in findings if one.service is not None}
    echoes = inhibition.echoes(ids, now) if rule.echo else {}
    raised, over = plan(capped(rule.kind, findings, open_), open_, now, echoes)
    wanted = {one.service for one, _reason in raised if one.service is not None}
    known = set(Service.objects.filter(id__in=wanted).values_list("id", flat=True))  # one may be gone meanwhile
    alerts.raise_alerts(
        News(
            key=one.key,
            kind=rule.kind,
            severity=one.severity,
            title=one.title,
            detail=one.detail,
            url=one.url,
            service_id=one.service if one.service in known else None,
            inhibited_by=reason,
        )
        for one, reason in raised
    )
    alerts.resolve_all(over)


def capped(kind: str, findings: Sequence[Finding], open_: Collection[str] = ()) -> list[Finding]:
    """The findings, the worst first, then those that are open already; those beyond ``MOST`` as one."""
    ordered = sorted(findings, key=lambda one: (-RANKS[one.severity], one.key not in open_))
    rest = len(ordered) - MOST
    if rest <= 0:
        return ordered
    worst = ordered[MOST].severity
    more = Finding(f"{kind}:more", kind, worst, f"{rest:,} more of the kind {kind.replace('_', ' ')}")
    return [*ordered[:MOST], more]


def _try(rule: Rule, present: thresholds.Thresholds, now: datetime) -> None:
    try:
        run(rule, present, now)
    except Exception:
        logger.exception("an alert rule failed", rule=rule.kind)


def _kept(text: str, limit: int) -> str:
    """As ``raise_alert`` keeps it: otherwise what it masks or cuts would be news each time."""
    return storable.text(redact(text), limit)
