"""The heartbeat check: judged from calls, as a sequence in time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.base import HeartbeatFacts
from providers.heartbeat import HeartbeatOptions, judge
from tests.providers.generic import NOW, refusal, run
from wsmon.vocabulary import Category, Outcome

OPTIONS = {"period": "1h", "grace": "5m"}


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def probe(options: Any = None, **minutes_ago: float) -> Any:
    """Judge calls that were made so many minutes ago."""
    facts = HeartbeatFacts(
        created_at=ago(minutes_ago.get("created", 10_000)),
        last_success_at=ago(minutes_ago["success"]) if "success" in minutes_ago else None,
        last_start_at=ago(minutes_ago["start"]) if "start" in minutes_ago else None,
        last_fail_at=ago(minutes_ago["fail"]) if "fail" in minutes_ago else None,
        watching_since=ago(minutes_ago["watching"]) if "watching" in minutes_ago else None,
    )
    return run("heartbeat", OPTIONS | (options or {}), heartbeat=facts)


@pytest.mark.parametrize(
    ("calls", "outcome", "says"),
    [
        ({"success": 10}, Outcome.HEALTHY, "last success 10m ago"),
        ({"success": 64}, Outcome.HEALTHY, "last success 64m ago"),
        ({"success": 66}, Outcome.CRITICAL, "1m late, last success 66m ago"),
        ({"success": 60 * 50}, Outcome.CRITICAL, "late, last success 2d ago"),
        ({"created": 10}, Outcome.HEALTHY, "waiting for the job's first call"),
        ({"created": 66}, Outcome.CRITICAL, "late, it never called"),
        # A call may have been lost while wsmon could not listen.
        ({"success": 300, "watching": 30}, Outcome.HEALTHY, "last success 5h ago"),
        ({"success": 300, "watching": 66}, Outcome.CRITICAL, "late"),
        ({"success": 10, "watching": 300}, Outcome.HEALTHY, "last success"),
        # But not one that was expected only after wsmon listened again.
        ({"success": 66, "watching": 20}, Outcome.CRITICAL, "1m late"),
        # A failure counts at once, until the next success.
        ({"success": 10, "fail": 1}, Outcome.CRITICAL, "reported a failure 1m ago"),
        ({"success": 1, "fail": 10}, Outcome.HEALTHY, "last success"),
        ({"fail": 3}, Outcome.CRITICAL, "reported a failure 3m ago"),
        ({"success": 10, "fail": 3, "start": 1}, Outcome.CRITICAL, "reported a failure"),
        ({"created": 5, "fail": 30}, Outcome.HEALTHY, "waiting"),
        # Starts.
        ({"success": 30, "start": 2}, Outcome.HEALTHY, "the job is running, started 2m ago"),
        ({"success": 2, "start": 30}, Outcome.HEALTHY, "last success"),
        ({"success": 66, "start": 2}, Outcome.CRITICAL, "late"),
    ],
)
def test_calls_are_judged(calls: dict[str, float], outcome: Outcome, says: str) -> None:
    found = probe(**calls)
    assert found.outcome is outcome
    assert says in found.message
    expected = None if outcome is Outcome.HEALTHY else found.category
    assert found.category is expected


def test_late_and_failed_have_their_categories() -> None:
    assert probe(success=100).category is Category.TIMEOUT_ERROR
    assert probe(success=10, fail=1).category is Category.SERVER_ERROR


@pytest.mark.parametrize(
    ("calls", "outcome"),
    [
        ({"success": 50, "start": 9}, Outcome.HEALTHY),
        ({"success": 50, "start": 11}, Outcome.DEGRADED),
        ({"success": 5, "start": 11}, Outcome.HEALTHY),
        ({"success": 50, "start": 11, "watching": 5}, Outcome.HEALTHY),
        ({"success": 50, "start": 20, "watching": 15}, Outcome.DEGRADED),
    ],
)
def test_a_job_that_runs_too_long_is_degraded(calls: dict[str, float], outcome: Outcome) -> None:
    found = probe({"max_runtime": "10m"}, **calls)
    assert found.outcome is outcome
    if outcome is Outcome.DEGRADED:
        assert "has not finished" in found.message


def test_details_tell_the_times() -> None:
    details = probe(success=10, start=12).details
    assert details["last_success"] == ago(10).isoformat(timespec="seconds")
    assert details["last_start"] == ago(12).isoformat(timespec="seconds")
    assert details["expected_by"] == (ago(10) + timedelta(minutes=65)).isoformat(timespec="seconds")
    assert "last_fail" not in details


def test_a_job_gone_through_in_time_order() -> None:
    """waiting -> running -> done -> failed -> done again -> late -> done."""
    options = HeartbeatOptions.model_validate(OPTIONS)
    facts: dict[str, datetime] = {"created_at": NOW}
    seen = []
    for minute, call in [
        (1, None),
        (2, "start"),
        (5, "success"),
        (30, "fail"),
        (40, "success"),
        (106, None),
        (107, "success"),
    ]:
        now = NOW + timedelta(minutes=minute)
        if call:
            facts[f"last_{call}_at"] = now
        seen.append(judge(options, HeartbeatFacts(**facts), now).outcome.value)
    assert seen == ["healthy", "healthy", "healthy", "critical", "healthy", "critical", "healthy"]


times = st.none() | st.integers(-100_000, 100_000).map(lambda seconds: NOW + timedelta(seconds=seconds))


@settings(deadline=None)
@given(times, times, times, times)
def test_no_combination_of_calls_breaks_it(
    success: datetime | None, start: datetime | None, fail: datetime | None, watching: datetime | None
) -> None:
    options = HeartbeatOptions.model_validate(OPTIONS | {"max_runtime": 60})
    facts = HeartbeatFacts(NOW - timedelta(days=1), success, start, fail, watching)
    found = judge(options, facts, NOW)
    assert found.message
    if success and success >= NOW and not (fail and fail > success):
        assert found.outcome in (Outcome.HEALTHY, Outcome.DEGRADED)


def test_without_facts_it_is_our_error() -> None:
    found = run("heartbeat", OPTIONS)
    assert (found.outcome, found.category) == (Outcome.ERROR, Category.CONFIGURATION_ERROR)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "period"),
        ({"period": "soon"}, "is not a duration"),
        ({"period": 0}, "period"),
        ({"period": "1h", "grace": -1}, "grace"),
        ({"period": "1h", "max_runtime": 0}, "max_runtime"),
        ({"period": "1h", "gracee": 1}, "gracee"),
    ],
)
def test_bad_options_are_refused_with_the_key(options: dict[str, Any], says: str) -> None:
    assert says in refusal("heartbeat", options)


def test_durations_may_be_seconds() -> None:
    options = HeartbeatOptions.model_validate({"period": 90, "grace": "1m30s"})
    assert (options.period, options.grace) == (90.0, 90.0)
