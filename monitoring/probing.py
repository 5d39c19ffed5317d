"""Probing on request: "test connectivity now"."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.utils import timezone

import providers
from monitoring import cycle, store, variables
from monitoring.models import Check, Service
from monitoring.verdict import Policy, with_threshold
from providers.base import HeartbeatFacts, ProbeOutcome

VENDOR_KINDS = ("connectivity", "authentication", "functionality")


@dataclass(frozen=True, slots=True)
class Tested:
    """What a probe on request found. ``check`` is the configured check's name, None without one."""

    check: str | None
    kind: str
    outcome: ProbeOutcome
    at: datetime


def probe_now(service: Service, kind: str, timeout: float, check: Check | None = None) -> Tested:
    """Probe at once, for at most ``timeout`` seconds; keep the result in the log if a check is configured.

    Without ``check``, the service's first check of that kind lends its options; for a generic provider
    ``connectivity`` means its first check. Raises :class:`providers.UnknownKind` or
    :class:`providers.base.NotConfigured`. No transaction may be open: this talks to the vendor.
    """
    check = check or configured(service, kind)
    used = check.kind if check else kind
    provider = providers.get(service.provider)
    providers.kind(provider, used)
    options = json.dumps(check.options if check else {})
    now = timezone.now()
    credentials = variables.credentials_of(service.id)
    facts = _heartbeat(check)
    if not connection.in_atomic_block:
        connection.close()  # back to the pool: a dozen slow tests would leave none for pages and workers
    outcome = cycle.run(service.provider, used, options, credentials, timeout, now, facts)
    if check is not None:
        policy = Policy.of(check.confirm_down, check.confirm_up, check.degraded_over)
        outcome = with_threshold(outcome, policy)
        store.record_manual(check.id, now, outcome)
    return Tested(check.name if check else None, used, outcome, now)


def configured(service: Service, kind: str) -> Check | None:
    """The service's check that answers for a kind."""
    checks = list(service.checks.filter(archived_at=None).order_by("id"))
    same = next((check for check in checks if check.kind == kind), None)
    if same is None and kind == "connectivity" and providers.get(service.provider).generic:
        return checks[0] if checks else None
    return same


def _heartbeat(check: Check | None) -> HeartbeatFacts | None:
    row = getattr(check, "heartbeat", None)
    if row is None:
        return None
    return HeartbeatFacts(row.created_at, row.last_success_at, row.last_start_at, row.last_fail_at)
