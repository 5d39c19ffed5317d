"""Heartbeat check: a job that must call wsmon in time. Judged from its calls; nothing is sent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from providers.base import HeartbeatFacts, Kind, ProbeContext, ProbeOutcome, Provider
from providers.options import Options
from wsmon.durations import Duration, format_duration
from wsmon.vocabulary import JSON, Category, Outcome

_LONGEST = 366 * 86_400.0


class HeartbeatOptions(Options):
    """The options of kind ``heartbeat``; durations in seconds."""

    period: Annotated[Duration, Field(ge=1, le=_LONGEST)]
    """The job calls at least once in this time."""
    grace: Annotated[Duration, Field(ge=0, le=_LONGEST)] = 60.0
    """How much later it may be."""
    max_runtime: Annotated[Duration, Field(gt=0, le=_LONGEST)] | None = None
    """Degraded when a start is not followed by a finish in this time."""


def probe(context: ProbeContext) -> ProbeOutcome:
    """Judge the job's calls at ``context.now``."""
    facts = context.heartbeat
    if facts is None:
        message = "a heartbeat is judged by the calls it gets; this check has none recorded yet"
        return ProbeOutcome(Outcome.ERROR, Category.CONFIGURATION_ERROR, message)
    return judge(context.options, facts, context.now)


def judge(options: HeartbeatOptions, facts: HeartbeatFacts, now: datetime) -> ProbeOutcome:
    """What the calls say about the job at ``now`` (all times aware).

    Lateness counts from the last success, but never from before the check was made. A call that was expected
    before wsmon could listen again may have been lost to our own absence: then it counts from there.
    """
    expected = _latest(facts.created_at, facts.last_success_at) + _seconds(options.period)
    if facts.watching_since and expected <= facts.watching_since:
        expected = facts.watching_since + _seconds(options.period)
    due = expected + _seconds(options.grace)
    details = _details(facts, due)
    if facts.last_fail_at and facts.last_fail_at > _latest(facts.created_at, facts.last_success_at):
        message = f"the job reported a failure {_ago(facts.last_fail_at, now)}"
        return ProbeOutcome(Outcome.CRITICAL, Category.SERVER_ERROR, message, details=details)
    if now > due:
        last = f"last success {_ago(facts.last_success_at, now)}" if facts.last_success_at else "it never called"
        message = f"the job is {_round(now - due)} late, {last}"
        return ProbeOutcome(Outcome.CRITICAL, Category.TIMEOUT_ERROR, message, details=details)
    started = _running_since(facts)
    if started and options.max_runtime is not None:
        # A finish that came while wsmon could not listen is not held against the job.
        end = _latest(started, facts.watching_since) + _seconds(options.max_runtime)
        if now > end:
            message = f"the job started {_ago(started, now)} and has not finished"
            return ProbeOutcome(Outcome.DEGRADED, Category.TIMEOUT_ERROR, message, details=details)
    return ProbeOutcome(Outcome.HEALTHY, None, _good_news(facts, started, now), details=details)


def _good_news(facts: HeartbeatFacts, started: datetime | None, now: datetime) -> str:
    if started:
        return f"the job is running, started {_ago(started, now)}"
    if facts.last_success_at is None:
        return "waiting for the job's first call"
    return f"last success {_ago(facts.last_success_at, now)}"


def _running_since(facts: HeartbeatFacts) -> datetime | None:
    started = facts.last_start_at
    finished = [at for at in (facts.last_success_at, facts.last_fail_at) if at]
    return started if started and all(started > at for at in finished) else None


def _details(facts: HeartbeatFacts, due: datetime) -> dict[str, JSON]:
    times = {
        "last_success": facts.last_success_at,
        "last_start": facts.last_start_at,
        "last_fail": facts.last_fail_at,
        "expected_by": due,
    }
    return {name: at.isoformat(timespec="seconds") for name, at in times.items() if at}


def _latest(certain: datetime, *others: datetime | None) -> datetime:
    return max([certain, *(at for at in others if at)])


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _ago(at: datetime, now: datetime) -> str:
    return f"{_round(now - at)} ago"


def _round(span: timedelta) -> str:
    """Two figures are enough: 45s, 12m, 3h, 2d."""
    seconds = max(0, round(span.total_seconds()))
    for unit in (86_400, 3_600, 60):
        if seconds >= 2 * unit:
            return format_duration(seconds // unit * unit)
    return format_duration(seconds)


PROVIDER = Provider(
    slug="heartbeat",
    label="Heartbeat",
    kinds={
        "heartbeat": Kind(
            probe, HeartbeatOptions, default_interval=10, help="a job calls a URL of wsmon's in time, or it is late"
        )
    },
    generic=True,
)
