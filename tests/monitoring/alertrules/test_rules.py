"""What each rule finds: facts in, findings out; no database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.alertrules import breakers, budget, expiry, flapping, headroom, lateness, probeerrors, slowness
from monitoring.alertrules.breakers import NotClosed
from monitoring.alertrules.budget import Burning, Share
from monitoring.alertrules.expiry import Held
from monitoring.alertrules.finding import number, rate_words
from monitoring.alertrules.flapping import Changes
from monitoring.alertrules.headroom import Headroom
from monitoring.alertrules.probeerrors import Probes
from monitoring.alertrules.slowness import Times
from monitoring.alertrules.thresholds import (
    Ending,
    ErrorBudget,
    Flapping,
    OfService,
    ProbeErrors,
    RateLimit,
    Thresholds,
)
from monitoring.selfwatch import SelfWatch

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


# Breakers -----------------------------------------------------------------------------------------


def test_an_open_breaker_is_a_warning_with_its_page() -> None:
    [found] = breakers.find([NotClosed(7, "stripe", "Stripe", "", True, False, ago(60), "5 of 8 calls failed")])
    assert (found.key, found.severity, found.service) == ("breaker:stripe", "warning", 7)
    assert found.title == "Stripe: its breaker is open"
    assert found.detail == "No call goes out since 11:59 UTC: 5 of 8 calls failed."
    assert found.url == "/services/stripe/"


def test_that_of_a_destination_is_nobodys_service() -> None:
    [found] = breakers.find([NotClosed(9, "destination:app", "app", "/webhooks/", False, False, None, "")])
    assert (found.key, found.service, found.url, found.detail) == (
        "breaker:destination:app",
        None,
        "/webhooks/",
        "No call goes out.",
    )
    [other] = breakers.find([NotClosed(9, "destination:app", "app", "", False, False, None, "")])
    assert other.url == "/breakers/"


def test_one_that_a_person_holds_open_is_only_for_information() -> None:
    [found] = breakers.find([NotClosed(7, "stripe", "Stripe", "", True, True, ago(60), "we test.", by="ana")])
    assert (found.severity, found.title) == ("info", "Stripe: its breaker is held open by ana")
    assert found.detail == "No call goes out since 11:59 UTC: we test."


# Flapping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        # Looks one after another: how many changes the window holds; whether it is found.
        ([0, 2, 4, 5, 6], [0, 0, 0, 1, 1]),
        ([5, 4, 3, 2, 3, 4, 5], [1, 1, 1, 0, 0, 0, 1]),  # it lasts until it is down to half
        ([4, 4, 4], [0, 0, 0]),
    ],
)
def test_a_check_flaps_from_five_changes_on_until_it_settles(numbers: list[int], found: list[int]) -> None:
    open_: frozenset[str] = frozenset()
    seen = []
    for number_ in numbers:
        findings = flapping.find([Changes(1, "stripe", "api", number_, NOW)], Flapping(), open_)
        open_ = frozenset(one.key for one in findings)
        seen.append(len(findings))
    assert seen == found


def test_people_read_the_name_of_a_service_and_keys_are_made_of_its_slug() -> None:
    [flaps] = flapping.find([Changes(1, "stripe", "api", 6, NOW, "Stripe")], Flapping())
    [slow] = slowness.find([Times(1, "stripe", "api", 800, 99, 900, 900, "Stripe")], 900)
    [ends] = expiry.find("certificate", "its TLS certificate", [Held(1, "stripe", "api", 2, "", "Stripe")], Ending())
    found = {one.key: one.title for one in (flaps, slow, ends)}
    assert found == {
        "flapping:stripe/api": "Stripe api flaps",
        "slow:stripe/api": "Stripe api: p95 above its budget of 800 ms",
        "certificate:stripe/api": "Stripe: its TLS certificate ends in 2 days",
    }


def test_flapping_says_which_and_what_follows() -> None:
    [found] = flapping.find([Changes(1, "stripe", "api", 6, NOW)], Flapping())
    assert (found.key, found.title, found.severity) == ("flapping:stripe/api", "stripe api flaps", "warning")
    assert found.detail.startswith("It changed its status 6 times within 30m, last at 12:00 UTC.")


# Certificates and credentials ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("days", "severity", "words"),
    [
        (90, None, ""),
        (15, None, ""),
        (14, "warning", "ends in 14 days"),
        (4, "warning", "ends in 4 days"),
        (3, "critical", "ends in 3 days"),
        (1, "critical", "ends in 1 day"),
        (0, "critical", "ends today"),
        (-2, "critical", "has ended"),
    ],
)
def test_what_ends_soon(days: float, severity: str | None, words: str) -> None:
    found = expiry.find("certificate", "its TLS certificate", [Held(1, "site", "tls", days)], Ending())
    assert [one.severity for one in found] == ([severity] if severity else [])
    if found:
        assert found[0].title == f"site: its TLS certificate {words}"


def test_two_checks_that_see_the_same_certificate_are_one_finding() -> None:
    held = [
        Held(1, "site", "tls", 5),
        Held(1, "site", "health", 5),
        Held(1, "site", "other", 6),
        Held(2, "b", "tls", 5),
    ]
    found = expiry.find("certificate", "its TLS certificate", held, Ending())
    assert [one.key for one in found] == ["certificate:b/tls", "certificate:site/health", "certificate:site/other"]


def test_limits_can_be_set_and_a_subject_is_told() -> None:
    held = [Held(1, "graph", "auth", 20, "client secret of wsmon")]
    [found] = expiry.find("credential", "a credential", held, Ending(warning=30 * 86_400.0, critical=20 * 86_400.0))
    assert (found.severity, found.detail) == ("critical", "Found by the check auth: client secret of wsmon.")


def test_a_vendors_details_may_hold_anything() -> None:
    row = {name: value for name, value in ROW.items() if name != "checked_at"}
    assert expiry.held_of(row | {"details": {"tls_days_left": "soon"}}, expiry.CERTIFICATE_KEYS) is None
    assert expiry.held_of(row | {"details": []}, expiry.CERTIFICATE_KEYS) is None
    found = expiry.held_of(row | {"details": {"days_left": "9", "subject": "x"}}, expiry.CREDENTIAL_KEYS)
    assert found == Held(1, "a", "b", 9.0, "x", "A")


@pytest.mark.parametrize(
    ("value", "found"),
    [(5, 5.0), ("5.5", 5.5), (True, None), (None, None), ("nan", None), ("1e99", None), ([], None)],
)
def test_numbers_of_vendors(value: object, found: float | None) -> None:
    assert number(value) == found


# Rate limits --------------------------------------------------------------------------------------


def course(*left: float, every: float = 60) -> tuple[tuple[datetime, float], ...]:
    return tuple((ago(every * (len(left) - 1 - place)), value) for place, value in enumerate(left))


HOUR, QUARTER = NOW + timedelta(hours=1), NOW + timedelta(minutes=15)


@pytest.mark.parametrize(
    ("one", "severity"),
    [
        (Headroom(1, "github", "auth", 5000, 4000, NOW, HOUR), None),
        (Headroom(1, "github", "auth", 5000, 501, NOW, HOUR), None),
        (Headroom(1, "github", "auth", 5000, 499, NOW, HOUR), "warning"),
        (Headroom(1, "github", "auth", 5000, 0, NOW, HOUR), "critical"),
        # At 100 a minute 2,000 last for 20 minutes, the reset is in an hour; 900 last for 9.
        (Headroom(1, "github", "auth", 5000, 2000, NOW, HOUR, history=course(2300, 2200, 2100, 2000)), "warning"),
        (Headroom(1, "github", "auth", 5000, 900, NOW, HOUR, history=course(1200, 1100, 1000, 900)), "critical"),
        # Refilled before it is used up.
        (
            Headroom(
                1, "g", "a", 5000, 2000, NOW, NOW + timedelta(minutes=15), history=course(2300, 2200, 2100, 2000)
            ),
            None,
        ),
        # Used up in 20 h: that is not soon.
        (Headroom(1, "github", "auth", 5000, 2000, NOW, None, history=course(2005, 2003, 2002, 2000)), None),
        # A limit of a second, of a minute, one that leaks back, one that makes no sense, one that is old.
        (Headroom(1, "resend", "auth", 2, 0, NOW, None), None),
        (Headroom(1, "x", "auth", 100, 0, NOW, NOW + timedelta(seconds=30)), None),
        (Headroom(1, "shopify", "auth", 2000, 100, NOW, None, per_second=100), None),
        (Headroom(1, "shopify", "auth", 2000, 100, NOW, None, per_second=1), "warning"),
        (Headroom(1, "x", "auth", 100, 5000, NOW, None), None),
        (Headroom(1, "x", "auth", 100, 1, NOW, ago(60)), None),
    ],
)
def test_how_much_is_left_of_a_limit(one: Headroom, severity: str | None) -> None:
    assert [found.severity for found in headroom.find([one], RateLimit(), NOW)] == ([severity] if severity else [])


def test_it_says_how_long_it_lasts() -> None:
    one = Headroom(1, "github", "auth", 5000, 400, NOW, HOUR, history=course(430, 420, 410, 400))
    [found] = headroom.find([one], RateLimit(), NOW)
    assert found.title == "github: its rate limit is nearly used up"
    assert found.detail == "400 of 5,000 requests (8%) are left until 13:00 UTC; at the present pace they last 40m."
    [used] = headroom.find([Headroom(1, "github", "auth", 5000, 0, NOW, HOUR)], RateLimit(), NOW)
    assert used.title == "github: its rate limit is used up"


def test_a_service_has_one_finding_of_the_check_with_the_least_left() -> None:
    rows = [Headroom(1, "github", name, 5000, left, NOW, HOUR) for name, left in (("a", 300), ("b", 0), ("c", 100))]
    [found] = headroom.find(rows, RateLimit(), NOW)
    assert (found.key, found.severity) == ("rate-limit:github", "critical")


@pytest.mark.parametrize(
    ("history", "per_minute"),
    [
        (course(100, 90, 80), 10),
        (course(20, 10, 100, 90, 80), 10),  # only since it was filled again
        (course(100, 90), None),
        (course(100, 90, 80, every=10), None),  # too short a time
        (course(100, 100, 100), None),
        ((), None),
    ],
)
def test_the_pace_is_that_since_the_last_reset(
    history: tuple[tuple[datetime, float], ...], per_minute: float | None
) -> None:
    found = headroom.pace(history)
    assert found == (None if per_minute is None else pytest.approx(per_minute / 60))


ROW = {
    "check_ref__service_id": 1,
    "check_ref__service__slug": "a",
    "check_ref__service__name": "A",
    "check_ref__name": "b",
    "checked_at": NOW,
}


def test_what_a_vendor_said_of_its_limit() -> None:
    details = {
        "rate_limit_limit": 5000,
        "rate_limit_remaining": "12",
        "rate_limit_reset": "2026-11-28T13:00:00+00:00",
    }
    assert headroom.reading(ROW | {"details": details}) == Headroom(1, "a", "b", 5000, 12, NOW, HOUR, label="A")
    for bad in ({}, {"rate_limit_limit": 0, "rate_limit_remaining": 1}, {"rate_limit_limit": 5}, None):
        assert headroom.reading(ROW | {"details": bad}) is None
    for reset in ("soon", 5, "2026-11-28T13:00:00"):
        found = headroom.reading(ROW | {"details": details | {"rate_limit_reset": reset}})
        assert found is not None
        assert found.reset_at is None
    assert headroom.reading(ROW | {"details": details, "checked_at": None}) is None


# Our own errors, slowness -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "errors", "found"), [(10, 3, True), (10, 2, False), (9, 9, False), (100, 20, False), (100, 21, True)]
)
def test_our_own_errors_among_the_probes(total: int, errors: int, found: bool) -> None:
    findings = probeerrors.find([Probes(1, "stripe", total, errors, "no route")], ProbeErrors())
    assert bool(findings) == found
    if findings:
        assert findings[0].detail.endswith("within 10m failed by our own fault. Last: no route")


@pytest.mark.parametrize(
    ("results", "p95", "now", "found"),
    [
        (10, 900.0, 900.0, True),
        (9, 900.0, 900.0, False),
        (10, 900.0, 700.0, False),  # it is over
        (10, 700.0, 900.0, False),  # a moment
        (10, None, None, False),
    ],
)
def test_the_95th_percentile_above_its_budget(
    results: int, p95: float | None, now: float | None, found: bool
) -> None:
    findings = slowness.find([Times(1, "stripe", "api", 800, results, p95, now)], 900)
    assert bool(findings) == found
    if findings:
        assert findings[0].title == "stripe api: p95 above its budget of 800 ms"
        assert findings[0].detail == "95% of its answers took up to 900 ms within 15m."


def test_a_budget_is_the_services_own_or_the_checks() -> None:
    limits = Thresholds(services={"stripe": OfService(p95=0.5)})
    assert limits.p95_ms("stripe", 0.8) == 500
    assert limits.p95_ms("resend", 0.8) == 800
    assert limits.p95_ms("resend", None) is None
    assert Thresholds(services={"stripe": OfService(slo=99.0)}).slo("stripe") == pytest.approx(0.99)
    assert limits.slo("stripe") == pytest.approx(0.999)


# The scheduler ------------------------------------------------------------------------------------


def seen(late: float = 0, workers: int = 1, beat: float | None = 1.0) -> SelfWatch:
    return SelfWatch(None, late, workers, beat, 10.0, 1.0)


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ([], False),
        ([(0, seen(99))], False),  # as after a start
        ([(5, seen(99)), (0, seen(99))], False),
        ([(10, seen(99)), (5, seen(99)), (0, seen(99))], True),
        ([(10, seen(99)), (5, seen(1)), (0, seen(99))], False),
        ([(10, seen(99)), (5, seen(99)), (0, seen(1))], False),
        ([(10, seen(workers=0)), (0, seen(workers=0))], True),
        ([(10, seen(beat=None)), (0, seen(beat=20))], True),
        ([(10, seen(15)), (0, seen(15))], False),
        ([(600, seen(99)), (0, seen(99))], False),  # nobody looked meanwhile
    ],
)
def test_the_scheduler_is_late_when_it_was_for_a_while(looks: list[tuple[float, SelfWatch]], found: bool) -> None:
    findings = lateness.find([(ago(back), one) for back, one in looks], 15)
    assert bool(findings) == found
    if findings:
        assert (findings[0].key, findings[0].severity) == ("scheduler", "critical")


# The error budget ---------------------------------------------------------------------------------


def burning(**windows: tuple[int, int]) -> Burning:
    return Burning(1, "stripe", {name.lstrip("w"): Share(*share) for name, share in windows.items()})


@pytest.mark.parametrize(
    ("one", "severity"),
    [
        # 99.9%: 14.4 times is 1.44%, 6 times is 0.6%.
        (burning(w1h=(1000, 15), w5m=(83, 2)), "critical"),
        (burning(w1h=(1000, 14), w5m=(83, 2)), None),
        (burning(w1h=(1000, 15), w5m=(83, 1)), None),  # over, or too few to tell
        (burning(w1h=(1000, 500), w5m=(83, 0)), None),
        (burning(w6h=(6000, 36), w30m=(500, 3)), "warning"),
        (burning(w6h=(6000, 36), w30m=(500, 0)), None),
        (burning(w6h=(6000, 35), w30m=(500, 3)), None),
        (burning(w1h=(120, 60), w5m=(10, 10), w6h=(700, 60), w30m=(60, 60)), "critical"),
        (burning(w1h=(60, 4), w5m=(5, 2)), None),  # four failed probes are no statistics
        (burning(), None),
        (burning(w1h=(0, 0), w5m=(0, 0)), None),
    ],
)
def test_how_fast_the_budget_burns(one: Burning, severity: str | None) -> None:
    assert [found.severity for found in budget.find([one], Thresholds())] == ([severity] if severity else [])


def test_it_says_how_fast_and_how_long_it_lasts() -> None:
    [found] = budget.find([burning(w1h=(1000, 20), w5m=(80, 4))], Thresholds())
    assert found.title == "stripe burns its error budget fast"
    assert found.detail == (
        "2% of its probes failed within 1h and 5% within 5m: 20 times what 99.9% allows."
        " At this pace a month's budget lasts 36 h."
    )


def test_a_softer_slo_takes_more() -> None:
    one = burning(w1h=(1000, 20), w5m=(80, 4))
    assert not budget.find([one], Thresholds(error_budget=ErrorBudget(slo=99.0)))
    assert not budget.find([one], Thresholds(services={"stripe": OfService(slo=95.0)}))
    assert budget.find([one], Thresholds(services={"other": OfService(slo=95.0)}))


@given(
    total=st.integers(1, 10_000), failed=st.integers(0, 10_000), slo=st.floats(50, 99.99), times=st.floats(0.1, 100)
)
def test_more_failures_never_burn_less(total: int, failed: int, slo: float, times: float) -> None:
    failed = min(failed, total - 1)
    fewer = Burning(1, "a", dict.fromkeys(budget.FAST, Share(total, failed)))
    more = Burning(1, "a", dict.fromkeys(budget.FAST, Share(total, failed + 1)))
    assert budget.burns(more, budget.FAST, slo / 100, times) >= budget.burns(fewer, budget.FAST, slo / 100, times)


@pytest.mark.parametrize(
    ("share", "words"), [(0.021, "2.1%"), (0.0004, "0.04%"), (0.5, "50%"), (1.0, "100%"), (0, "0%")]
)
def test_shares_in_words(share: float, words: str) -> None:
    assert rate_words(share) == words
