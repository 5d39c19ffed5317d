"""What a finished call counts as: from an exception, an HTTP answer, or a probe's outcome."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any

from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind, Policy
from providers.base import NOT_A_CALL, ProbeOutcome
from wsmon.vocabulary import Category, Outcome

CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
STATUS_NAMES = ("status_code", "http_status", "status")
"""Under which HTTP libraries and vendors' SDKs keep an answer's status (requests and httpx, Stripe, aiohttp)."""


def of_exception(error: BaseException, policy: Policy) -> Ending:
    """What a call that raised counts as.

    An exception that carries an HTTP answer counts by its status, so that a 404 or a declined card is no
    outage. Cancelling a call, and whatever is not an ``Exception``, says nothing about the other side.
    """
    if isinstance(error, CANCELLED) or not isinstance(error, Exception):
        return NEUTRAL
    answer = getattr(error, "response", None)
    for source in (error, answer):
        status = status_of(source)
        if status is not None:
            wait = retry_after_of(error) if answer is None else retry_after_of(answer)
            ending = policy.of_status(status, wait)
            return FAIL if ending.kind is Kind.OK else ending  # 200, and yet it raised: a broken answer
    return FAIL


def of_answer(answer: Any, policy: Policy) -> Ending:
    """What a call that returned ``answer`` counts as: by its HTTP status, if it has one."""
    status = status_of(answer)
    return OK if status is None else policy.of_status(status, retry_after_of(answer))


def of_probe(kind: str, outcome: ProbeOutcome) -> Ending:
    """What a probe counts as. A fault of wsmon's own (its configuration, a bug) says nothing about the service."""
    if kind in NOT_A_CALL:
        return NEUTRAL
    if outcome.category is Category.RATE_LIMITED:
        return Ending(Kind.LIMITED) if outcome.outcome is not Outcome.HEALTHY else OK
    if outcome.outcome in (Outcome.HEALTHY, Outcome.DEGRADED):
        return OK
    if outcome.outcome is Outcome.CRITICAL:
        return FAIL
    return Ending(Kind.CREDENTIAL) if outcome.category is Category.AUTHENTICATION_ERROR else NEUTRAL


def status_of(answer: Any) -> int | None:
    """The HTTP status that an answer or an exception carries, if any."""
    for name in STATUS_NAMES:
        status = getattr(answer, name, None)
        if isinstance(status, int) and 100 <= status <= 599:
            return status
    return None


def retry_after_of(answer: Any) -> float | None:
    """Seconds of an answer's ``Retry-After`` (RFC 9110, 10.2.3), where it is a number."""
    headers = getattr(answer, "headers", None)
    try:
        seconds = float(headers.get("Retry-After"))  # type: ignore[union-attr]
    except (AttributeError, TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None
