"""The cycle of a check, to read first: due check -> probe -> verdict -> stored and shown.

1. `claims.claim` leases due checks to this process, one SQL statement.
2. `probe` runs the provider and gets a :class:`ProbeOutcome`; whatever goes wrong on our side becomes an
   ``error``, never "the vendor is down".
3. `store.settle` judges a batch of outcomes (`verdict.judge`, pure), stores results and rollups, records
   confirmed changes and tells the browsers, all in one transaction.

`prober.Prober` runs these steps on threads; nothing here knows of threads, and nothing in `probe` needs
the database to be up.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

import providers
from monitoring import storable, variables
from monitoring.claims import Claim
from monitoring.store import Finished
from monitoring.verdict import with_threshold
from providers.base import HeartbeatFacts, NotConfigured, ProbeContext, ProbeOutcome
from wsmon.http import http_client
from wsmon.secrets import Unresolvable
from wsmon.vocabulary import Category, Outcome

logger = structlog.get_logger(__name__)


def probe(claim: Claim, started: float, claimed: float, watching_since: datetime | None) -> Finished:
    """Probe a claimed check. ``started`` and ``claimed`` are monotonic times in seconds.

    The result's time is the database's time of the claim plus what the monotonic clock counted since, so
    that this host's clock may jump.
    """
    heartbeat = claim.heartbeat and replace(claim.heartbeat, watching_since=watching_since)
    missing: tuple[str, ...] = ()
    now = claim.claimed_at + timedelta(seconds=started - claimed)
    try:
        found = run(claim.provider, claim.kind, claim.options, claim.credentials, claim.timeout, now, heartbeat)
        outcome: ProbeOutcome | None = with_threshold(found, claim.policy)
    except NotConfigured as absent:
        outcome, missing = None, absent.variables
    except Exception:
        logger.exception("probe failed inside wsmon", check=claim.check_id)
        outcome = ProbeOutcome(Outcome.ERROR, Category.UNKNOWN_ERROR, "wsmon failed to probe; see its log")
    return Finished(
        check_id=claim.check_id,
        service_id=claim.service_id,
        token=claim.token,
        policy=claim.policy,
        interval=claim.interval,
        due_at=claim.due_at,
        at=claim.claimed_at + timedelta(seconds=time.monotonic() - claimed),
        outcome=outcome,
        missing=missing,
    )


def run(
    provider_slug: str,
    kind_name: str,
    options: str,
    credentials: str,
    timeout: float,
    now: datetime,
    heartbeat: HeartbeatFacts | None = None,
) -> ProbeOutcome:
    """Make one probe; ``options`` and ``credentials`` are JSON.

    Raises :class:`NotConfigured` when a variable it needs is absent.
    """
    try:
        provider = providers.get(provider_slug)
        kind = providers.kind(provider, kind_name)
        values = variables.resolve(provider, credentials)
        missing = [name for name in kind.needs if not values.get(name)]
        if missing:
            raise NotConfigured(*missing)
        context = ProbeContext(
            http=http_client(),
            timeout=timeout,
            now=now,
            variables=values,
            options=variables.resolve_options(provider, kind_name, options),
            heartbeat=heartbeat,
        )
    except Unresolvable as problem:
        return _ours(str(problem))
    except ValidationError as problem:
        return _ours(f"the check's options are invalid: {problem.errors()[0]['msg']}")
    except LookupError as problem:
        return _ours(f"no provider or kind named {problem}")
    outcome = providers.run(provider, kind_name, context)
    return replace(outcome, details=storable.details(outcome.details))


def _ours(message: str) -> ProbeOutcome:
    return ProbeOutcome(Outcome.ERROR, Category.CONFIGURATION_ERROR, message)
