"""Looking and reconciling in the database: what was stored in, alerts out."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from monitoring import alerting, alerts
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
    watch,
)
from monitoring.alertrules.finding import Context, Finding, Rule
from monitoring.alertrules.inhibition import Parent
from monitoring.alertrules.thresholds import Flapping, OfService, Thresholds
from monitoring.models import (
    Alert,
    AlertThresholds,
    Breaker,
    CheckState,
    Incident,
    ProbeResult,
    Process,
    Rollup,
    Service,
    StateChange,
)
from tests.monitoring.factories import make_check, make_service
from wsmon.locks import alone

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


def finding(
    key: str = "thing:a", severity: str = "warning", title: str = "A", detail: str = "", **more: Any
) -> Finding:
    return Finding(key, "thing", severity, title, detail, **more)


class Fake:
    """A rule that finds what it is told to."""

    def __init__(self, *, echo: bool = False) -> None:
        self.found: list[Finding] = []
        self.given: list[Context] = []
        self.rule = Rule("thing", 60.0, self.look, echo=echo)

    def look(self, context: Context) -> list[Finding]:
        self.given.append(context)
        return self.found

    def run(self, *found: Finding, now: datetime | None = None, present: Thresholds | None = None) -> list[Alert]:
        self.found = list(found)
        assert watch.run(self.rule, present or Thresholds(), now or timezone.now())
        return alerts.open_alerts(["thing"])


@pytest.mark.django_db
class TestReconciling:
    def test_a_sequence_of_looks(self) -> None:
        """What is found at each look -> what is open afterwards, with how often it was raised."""
        fake = Fake()
        a, b = finding("thing:a"), finding("thing:b", "critical")
        worse = finding("thing:a", "critical", "A is worse")
        for found, open_ in [
            ([], []),
            ([a], [("thing:a", "warning", 1)]),
            ([a], [("thing:a", "warning", 1)]),  # still so: nothing is raised again
            ([a, b], [("thing:a", "warning", 1), ("thing:b", "critical", 1)]),
            ([worse, b], [("thing:a", "critical", 2), ("thing:b", "critical", 1)]),
            ([b], [("thing:b", "critical", 1)]),
            ([], []),
            ([a], [("thing:a", "warning", 1)]),  # another one
        ]:
            rows = fake.run(*found)
            assert sorted((one.key, one.severity, one.count) for one in rows) == open_
        assert Alert.objects.filter(key="thing:a").count() == 2

    def test_words_follow_the_numbers_now_and_then(self) -> None:
        fake, later = Fake(), timezone.now() + watch.REFRESH + timedelta(minutes=1)
        fake.run(finding(detail="5 of 10"))
        assert fake.run(finding(detail="6 of 10"))[0].detail == "5 of 10"
        assert fake.run(finding(detail="7 of 10"), now=later)[0].detail == "7 of 10"

    def test_words_that_are_masked_or_cut_are_not_news_each_time(self) -> None:
        fake = Fake()
        long = finding(title="t" * 500, detail="Bearer abcdefghijklmnop")
        fake.run(long)
        [alert] = fake.run(long, now=timezone.now() + timedelta(hours=1))
        assert alert.count == 1
        assert "abcdefghijklmnop" not in alert.detail

    def test_it_knows_its_service_and_its_page(self) -> None:
        service = make_service("stripe")
        [alert] = Fake().run(finding(url="/services/stripe/", service=service.id))
        assert (alert.service, alert.url, alert.kind) == (service, "/services/stripe/", "thing")
        assert Fake().run(finding(service=10**9))[0].service == service, "one that is gone meanwhile is no error"

    def test_other_kinds_are_left_alone(self) -> None:
        alerts.raise_alert("other", "other", "warning", "Other")
        Fake().run()
        assert [one.key for one in alerts.open_alerts()] == ["other"]

    def test_a_rule_is_told_what_is_open_and_when(self) -> None:
        fake = Fake()
        fake.run(finding())
        fake.run(finding())
        assert [one.open_keys for one in fake.given] == [frozenset(), frozenset({"thing:a"})]

    def test_one_that_is_disabled_finds_nothing_and_what_is_open_is_resolved(self) -> None:
        fake = Fake()
        fake.run(finding())
        disabled = Thresholds.model_construct(disabled=["thing"])
        assert fake.run(finding(), present=disabled) == []

    def test_a_storm_is_a_number(self) -> None:
        many = [finding(f"thing:{number}", "warning" if number else "critical") for number in range(5000)]
        rows = Fake().run(*many)
        assert len(rows) == watch.MOST + 1
        assert rows[0].key == "thing:0", "the worst have alerts of their own"
        [more] = [one for one in rows if one.key == "thing:more"]
        assert more.title == "4,800 more of the kind thing"


@pytest.mark.django_db
class TestEchoes:
    def incident(self, service: Service, closed_at: datetime | None = None) -> Incident:
        return Incident.objects.create(
            service=service, began_at=NOW, opened_at=NOW, closed_at=closed_at, status="critical", worst="critical"
        )

    def test_nobody_is_told_of_what_an_incident_says_until_it_cannot_be_seen_any_more(self) -> None:
        service, fake = make_service("stripe"), Fake(echo=True)
        incident = self.incident(service)
        one, echo = finding(service=service.id), f"echo of incident:{incident.id}"
        for closed, now, reason in [
            (None, NOW, echo),
            (None, NOW + timedelta(hours=2), echo),
            (NOW, NOW + timedelta(minutes=29), echo),
            (NOW, NOW + timedelta(minutes=31), ""),
            (NOW, NOW + timedelta(minutes=32), ""),
        ]:
            Incident.objects.update(closed_at=closed)
            [alert] = fake.run(one, now=now)
            assert alert.inhibited_by == reason
        assert alert.count == 2, "raised, and told after all"

    def test_rules_that_look_at_the_present_are_none(self) -> None:
        service = make_service("stripe")
        self.incident(service, NOW - timedelta(minutes=5))
        assert Fake().run(finding(service=service.id), now=NOW)[0].inhibited_by == ""

    def test_what_somebody_else_said_is_left_alone(self) -> None:
        assert inhibition.reason(None, "maintenance: planned") is None
        assert inhibition.reason(None, "") is None
        assert inhibition.reason(None, "echo of incident:1") == ""
        assert inhibition.reason("incident:2", "echo of incident:1") == "echo of incident:2"
        assert inhibition.reason("incident:1", "echo of incident:1") is None

    def test_the_newest_incident_is_named(self) -> None:
        parents = [Parent(1, 5), Parent(1, 4, NOW), Parent(2, 3, NOW - timedelta(hours=1))]
        assert inhibition.by_incident(parents, NOW + timedelta(minutes=1)) == {1: "incident:5"}
        assert inhibition.echoes([], NOW) == {}


@pytest.fixture
def rested() -> None:
    watch.forget()
    lateness.forget()


@pytest.mark.django_db
@pytest.mark.usefixtures("rested")
class TestTurns:
    def test_every_rule_has_a_kind_that_can_be_disabled(self) -> None:
        assert sorted(rule.kind for rule in watch.rules()) == sorted(thresholds.KINDS)

    def test_each_looks_in_its_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [1000.0]
        monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
        often = sum(rule.every <= 5 for rule in watch.rules())
        numbers = []
        for _look in range(13):
            numbers.append(watch.run_due())
            clock[0] += 5
        assert numbers == [len(watch.rules()), *[often] * 11, len(watch.rules())]

    def test_one_that_fails_keeps_no_other_from_its_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(_context: Context) -> list[Finding]:
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column")
            return []

        fake = Fake()
        fake.found = [finding()]
        monkeypatch.setattr(watch, "rules", lambda: [Rule("broken", 5, broken), fake.rule])
        assert watch.run_due() == 2
        assert alerts.open_alerts(["thing"])

    def test_with_nothing_wrong_nothing_is_found(self) -> None:
        make_check(make_service("stripe"))
        Process.objects.create(role="worker", host="here", pid=1, beat_at=timezone.now())
        assert watch.run_due() == len(watch.rules())
        assert alerts.open_alerts() == []

    def test_not_twice_at_once_in_one_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = Fake()
        monkeypatch.setattr(watch, "rules", lambda: [fake.rule])
        with alerting._locks["rules"]:
            alerting._run({"rules": watch.run_due})
        assert not fake.given
        alerting._run({"rules": watch.run_due})
        assert fake.given


@pytest.mark.django_db(transaction=True)
def test_of_two_processes_one_looks() -> None:
    fake, held, done = Fake(), threading.Event(), threading.Event()

    def other() -> None:
        try:
            with transaction.atomic():
                assert alone("wsmon alert rule thing")
                held.set()
                done.wait(10)
        finally:
            connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(10)
    assert not watch.run(fake.rule, Thresholds(), NOW)
    assert not fake.given
    done.set()
    thread.join(10)
    assert watch.run(fake.rule, Thresholds(), NOW)


# Reading ------------------------------------------------------------------------------------------


def rollup(check: Any, start: datetime, level: int = 60, **counts: Any) -> None:
    floor = int(start.timestamp() // level * level)
    Rollup.objects.create(level=level, check_id=check.id, start=datetime.fromtimestamp(floor, UTC), **counts)


@pytest.mark.django_db
class TestReading:
    def test_breakers_that_let_nothing_through(self) -> None:
        states: dict[str, dict[str, Any]] = {
            "open": {"state": "OPEN", "opened_at": ago(minutes=1), "reason": "5 of 8 failed"},
            "trial": {"state": "HALF_OPEN", "since": ago(minutes=2)},
            "closed": {"state": "CLOSED"},
            "forced": {"state": "CLOSED", "forced": "OPEN", "forced_by": "ana", "forced_reason": "we test"},
            "released": {"state": "CLOSED", "forced": "OPEN", "forced_until": ago(seconds=1)},
            "held": {"state": "OPEN", "forced": "CLOSED"},
            "gone": {"state": "OPEN"},
        }
        for slug, fields in states.items():
            Breaker.objects.create(service=make_service(slug), **fields)
        Service.objects.filter(slug="gone").update(archived_at=NOW)
        found = {one.name: one for one in breakers.read(NOW)}
        assert set(found) == {"open", "trial", "forced"}
        assert (found["open"].opened_at, found["open"].reason) == (ago(minutes=1), "5 of 8 failed")
        assert (found["forced"].forced, found["forced"].by, found["forced"].reason) == (True, "ana", "we test")
        assert found["trial"].opened_at == ago(minutes=2)
        assert len(breakers.look(Context(NOW))) == 3

    def test_checks_that_change_back_and_forth(self) -> None:
        service = make_service("stripe")
        check, calm, paused = (make_check(service, name=name) for name in ("api", "calm", "paused"))
        paused.paused_at = NOW
        paused.save()
        for number in range(6):
            old, new = ("healthy", "critical") if number % 2 else ("critical", "healthy")
            for one in (check, paused):
                StateChange.objects.create(at=ago(minutes=number), service=service, check_ref=one, old=old, new=new)
            StateChange.objects.create(at=ago(minutes=number), service=service, check_ref=None, old=old, new=new)
            StateChange.objects.create(at=ago(minutes=40), service=service, check_ref=calm, old=old, new=new)
        StateChange.objects.create(at=NOW, service=service, check_ref=check, old="paused", new="unknown")
        [found] = flapping.read(NOW, Flapping())
        assert (found.service, found.check, found.number, found.last_at) == ("stripe", "api", 6, NOW)
        assert [each.key for each in flapping.look(Context(NOW))] == ["flapping:stripe/api"]
        assert flapping.of_service(service.id) == ""
        assert watch.run(flapping.RULE, Thresholds(), NOW)
        assert flapping.of_service(service.id) == "flapping:stripe/api"

    def test_certificates_and_credentials_in_the_details_of_checks(self) -> None:
        service = make_service("site")
        for name, details in (
            ("tls", {"tls_days_left": 5, "subject": "example.com"}),
            ("auth", {"credential_days_left": 2}),
            ("fine", {"tls_days_left": 60}),
            ("none", {}),
        ):
            CheckState.objects.filter(check_ref=make_check(service, name=name)).update(details=details)
        old = make_check(service, name="old", archived_at=NOW)
        CheckState.objects.filter(check_ref=old).update(details={"tls_days_left": 1})
        assert [(one.key, one.severity) for one in expiry.look_at_certificates(Context(NOW))] == [
            ("certificate:site/tls", "warning")
        ]
        assert [(one.key, one.severity) for one in expiry.look_at_credentials(Context(NOW))] == [
            ("credential:site/auth", "critical")
        ]

    def test_rate_limits_with_their_course(self) -> None:
        now = timezone.now()
        check = make_check(make_service("github"), name="auth")
        details = {"rate_limit_limit": 5000, "rate_limit_reset": (now + timedelta(minutes=50)).isoformat()}
        for minute in range(5):
            ProbeResult.objects.create(
                at=now - timedelta(minutes=4 - minute),
                check_ref=check,
                outcome="healthy",
                details=details | {"rate_limit_remaining": 3000 - minute * 200},
            )
        CheckState.objects.filter(check_ref=check).update(
            checked_at=now, details=details | {"rate_limit_remaining": 2200}
        )
        other = make_check(make_service("odd"), name="auth")
        CheckState.objects.filter(check_ref=other).update(
            details={"rate_limit_limit": "?", "rate_limit_remaining": "?"}
        )
        [found] = headroom.look(Context(now))
        assert (found.key, found.severity) == ("rate-limit:github", "warning")
        assert "at the present pace they last 11m" in found.detail

    def test_our_own_errors_that_nothing_confirmed(self) -> None:
        check, confirmed = make_check(make_service("stripe")), make_check(make_service("bad", status="error"))
        for one in (check, confirmed):
            rollup(one, ago(minutes=3), healthy=10, error=5)
            rollup(one, ago(hours=3), error=500)
        CheckState.objects.filter(check_ref=check).update(outcome="error", message="no route", checked_at=NOW)
        [found] = probeerrors.look(Context(NOW))
        assert found.key == "probe-errors:stripe"
        assert found.detail == "5 of 15 probes (33%) within 10m failed by our own fault. Last: no route"

    def test_response_times_of_checks_with_a_budget(self) -> None:
        slow, free = make_check(make_service("slow"), degraded_over=0.1), make_check(make_service("free"))
        bins = [0] * 60 + [20]  # 256 ms
        for one in (slow, free):
            for minute in (1, 9):
                rollup(one, ago(minutes=minute), healthy=20, max_ms=270, histogram=bins)
        assert [found.service for found in slowness.look(Context(NOW))] == [slow.service_id]
        limits = Thresholds(services={"free": OfService(p95=0.2), "slow": OfService(p95=0.5)})
        assert [found.service for found in slowness.look(Context(NOW, limits))] == [free.service_id]
        generous = Thresholds(services={"slow": OfService(p95=9.0)})
        assert slowness.read(NOW, generous) == [], "none was slower than its budget"

    def test_without_budgets_nothing_is_read(self, django_assert_num_queries: Any) -> None:
        make_check()
        with django_assert_num_queries(1):
            assert slowness.look(Context(NOW)) == []

    def test_windows_of_the_error_budget(self) -> None:
        service = make_service("stripe")
        check, second = make_check(service), make_check(service)
        fine = make_check(make_service("fine"))
        for minutes, healthy, critical in ((2, 10, 5), (20, 10, 1), (50, 10, 1), (90, 10, 1)):
            rollup(check, ago(minutes=minutes), healthy=healthy, critical=critical, error=3)
            rollup(second, ago(minutes=minutes), healthy=10)
            rollup(fine, ago(minutes=minutes), healthy=10)
        rollup(check, ago(hours=5), level=960, healthy=100, critical=7)
        [found] = budget.read(NOW)
        assert found.service == "stripe"
        assert {name: (one.total, one.failed) for name, one in found.windows.items()} == {
            "5m": (25, 5),
            "30m": (46, 6),
            "1h": (67, 7),
            "6h": (107, 7),
        }
        assert [one.severity for one in budget.look(Context(NOW))] == ["critical"]

    def test_the_scheduler(self) -> None:
        lateness.forget()
        now = timezone.now()
        assert lateness.look(Context(now)) == []
        assert [one.key for one in lateness.look(Context(now + timedelta(seconds=10)))] == ["scheduler"], (
            "no worker runs"
        )
        lateness.forget()

    def test_thresholds_are_read_at_each_look(self) -> None:
        watch.forget()
        service = make_service("stripe")
        check = make_check(service, name="api")
        for number in range(3):
            StateChange.objects.create(
                at=timezone.now(), service=service, check_ref=check, old="healthy", new="critical"
            )
            assert number < 3
        watch.run_due()
        assert not alerts.open_alerts(["flapping"])
        AlertThresholds.objects.create(values={"flapping": {"changes": 3}})
        watch.forget()
        watch.run_due()
        assert alerts.open_alerts(["flapping"])
        watch.forget()
