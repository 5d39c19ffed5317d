from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import actions, maintenance, overview, store, summaries
from monitoring.advice import HELD
from monitoring.breakers import store as breakers
from monitoring.breakers.machine import Mode
from monitoring.models import Check, CheckState, MaintenanceWindow, Service
from monitoring.overview import Filter, main_check, overall, page, view, views
from monitoring.periods import PERIODS
from tests.monitoring.factories import finished, make_check, make_service, outcome
from wsmon.audit import Actor
from wsmon.vocabulary import Category, Status

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def slugs(wanted: Filter | None = None, **changed: Any) -> list[str]:
    return [service.slug for service in page(wanted or Filter(**changed)).services]


def put(check: Check, status: str = "healthy", **fields: Any) -> Check:
    outcome = status if status in ("healthy", "degraded", "critical", "error") else ""
    made = {"status": status, "outcome": outcome, "checked_at": timezone.now()} | fields
    CheckState.objects.filter(check_ref=check).update(**made)
    return check


class TestOverall:
    def test_it_counts_by_status_and_leaves_out_what_does_not_count(self):
        statuses = ["healthy"] * 9 + ["error", "paused", "unknown", "not_configured", "not_configured"]
        for status in statuses:
            make_service(status=status)
        make_service(status="critical", archived_at=timezone.now())
        found = overall()
        assert (found.status, found.healthy, found.counted, found.total) == ("healthy", 9, 10, 14)
        assert found.by_status == {"healthy": 9, "error": 1, "paused": 1, "unknown": 1, "not_configured": 2}

    @pytest.mark.parametrize(
        ("healthy", "bad", "expected"),
        [(9, 1, "healthy"), (8, 2, "degraded"), (5, 5, "critical"), (6, 4, "degraded")],
    )
    @pytest.mark.parametrize("word", ["critical", "degraded", "error"])
    def test_the_formula_counts_whatever_is_not_healthy(self, healthy: int, bad: int, expected: str, word: str):
        for status in ["healthy"] * healthy + [word] * bad:
            make_service(status=status)
        assert overall().status == expected

    def test_without_services_nothing_is_known(self):
        found = overall()
        assert (found.status, found.counted, found.total, found.by_status) == ("unknown", 0, 0, {})

    def test_it_takes_one_query(self, django_assert_num_queries: Any):
        with django_assert_num_queries(1):
            overall()


class TestOrder:
    def test_urgency_comes_before_criticality_and_that_before_the_name(self):
        make_service("z-critical-low", status="critical", criticality="low")
        make_service("a-healthy-critical", status="healthy", criticality="critical")
        make_service("b-critical-critical", status="critical", criticality="critical")
        make_service("a-critical-critical", status="critical", criticality="critical")
        make_service("error", status="error")
        make_service("degraded-normal", status="degraded", criticality="normal")
        make_service("degraded-high", status="degraded", criticality="high")
        make_service("unknown", status="unknown")
        make_service("unset", status="not_configured")
        make_service("asleep", status="paused", criticality="critical")
        assert slugs() == [
            "a-critical-critical",
            "b-critical-critical",
            "z-critical-low",
            "error",
            "degraded-high",
            "degraded-normal",
            "unset",
            "unknown",
            "a-healthy-critical",
            "asleep",
        ]

    def test_every_status_has_its_place(self):
        assert set(overview.URGENCY) == set(Status)


class TestFilter:
    @pytest.fixture(autouse=True)
    def services(self) -> None:
        for status in Status:
            make_service(f"is-{status.value.replace('_', '-')}", status=status)
        make_service("gone", status="critical", archived_at=timezone.now())

    def test_all_are_all_but_the_archived(self):
        assert len(slugs()) == len(Status)

    def test_unhealthy_are_those_to_care_about(self):
        assert slugs(state="unhealthy") == ["is-critical", "is-error", "is-degraded"]

    @pytest.mark.parametrize("status", Status)
    def test_each_status_can_be_asked_for(self, status: Status):
        assert slugs(state=status.value) == [f"is-{status.value.replace('_', '-')}"]

    @pytest.mark.parametrize("wrong", [{"state": "sad"}, {"state": ""}, {"period": "2w"}])
    def test_what_does_not_exist_is_refused(self, wrong: dict[str, str]):
        with pytest.raises(KeyError):
            Filter(**wrong)  # type: ignore[arg-type]


class TestSearch:
    @pytest.fixture(autouse=True)
    def services(self) -> None:
        make_check(make_service("stripe", "stripe", name="Payments"), name="authentication")
        make_check(make_service("our-site", "http", name="100% Größe_x"), name="health")
        make_check(make_service("mail", "resend"), name="old-name", archived_at=timezone.now())

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("", ["mail", "our-site", "stripe"]),
            ("strip", ["stripe"]),
            ("STRIPE", ["stripe"]),
            ("payments", ["stripe"]),
            ("resend", ["mail"]),  # the provider
            ("health", ["our-site"]),  # a check
            ("old-name", []),  # an archived check
            ("http health", ["our-site"]),  # every word must match
            ("http stripe", []),
            ("  site   our ", ["our-site"]),
            ("100%", ["our-site"]),
            ("%", ["our-site"]),  # a sign like any other
            ("_", ["our-site"]),
            ("größe", ["our-site"]),
            ("str\x00ipe", ["stripe"]),
            ("\x00", ["mail", "our-site", "stripe"]),
            ("' OR 1=1 --", []),
            ("\\", []),
            ("x" * 5_000, []),
            ("s " * 500, ["mail", "our-site", "stripe"]),
        ],
    )
    def test_each_word_is_looked_for_in_names_providers_and_checks(self, query: str, expected: list[str]):
        found = page(Filter(query=query))
        assert sorted(service.slug for service in found.services) == expected
        assert found.total == len(expected)

    def test_a_service_with_many_matching_checks_is_shown_once(self):
        service = Service.objects.get(slug="stripe")
        for number in range(3):
            make_check(service, name=f"extra-{number}")
        assert slugs(query="extra") == ["stripe"]


class TestPaging:
    @pytest.fixture(autouse=True)
    def services(self) -> None:
        for number in range(7):
            make_check(make_service(f"s{number}"))
        make_check(Service.objects.get(slug="s6"))
        make_check(Service.objects.get(slug="s6"), archived_at=timezone.now())

    @pytest.mark.parametrize(
        ("asked", "number", "shown"),
        [
            (1, 1, ["s0", "s1", "s2"]),
            (2, 2, ["s3", "s4", "s5"]),
            (3, 3, ["s6"]),
            (0, 1, ["s0", "s1", "s2"]),
            (-5, 1, ["s0", "s1", "s2"]),
            (4, 3, ["s6"]),
            (10**30, 3, ["s6"]),
        ],
    )
    def test_a_page_beyond_the_ends_is_the_nearest(self, asked: int, number: int, shown: list[str]):
        found = page(Filter(page=asked, per_page=3))
        assert (found.number, found.pages, found.total, found.checks) == (number, 3, 7, 8)
        assert [service.slug for service in found.services] == shown

    def test_nothing_found_is_one_empty_page(self):
        found = page(Filter(query="nothing"))
        assert (found.number, found.pages, found.total, found.checks, found.services) == (1, 1, 0, 0, [])

    def test_counts_are_of_all_that_match(self):
        found = page(Filter(query="s6", per_page=1))
        assert (found.total, found.checks) == (1, 2)


class TestQueries:
    def count(self, services: int) -> int:
        for _ in range(services):
            service = make_service()
            for _ in range(2):
                make_check(service)
            make_check(service, "heartbeat")
        summaries.refresh(PERIODS["24h"])
        with CaptureQueriesContext(connection) as queries:
            assert len(page(Filter(per_page=200)).services) == Service.objects.count()
        return len(queries) - 1

    def test_their_number_does_not_grow_with_services(self):
        assert self.count(1) == self.count(99) <= 9


class TestMainCheck:
    def checks(self, *kinds: tuple[str, str]) -> list[overview.CheckView]:
        service = make_service()
        for kind, status in kinds:
            check = make_check(service, kind, name=f"{kind}-{status}".replace("_", "-"))
            put(check, status, checked_at=None if status == "unknown" else timezone.now())
        return views([service.id])[0].checks

    @pytest.mark.parametrize(
        ("kinds", "expected"),
        [
            ([("connectivity", "healthy"), ("functionality", "healthy")], "functionality-healthy"),
            ([("connectivity", "critical"), ("functionality", "healthy")], "connectivity-critical"),
            ([("connectivity", "healthy"), ("http", "healthy")], "http-healthy"),
            ([("status_page", "healthy"), ("connectivity", "healthy")], "connectivity-healthy"),
            ([("authentication", "not_configured"), ("connectivity", "healthy")], "connectivity-healthy"),
            ([("functionality", "unknown"), ("connectivity", "healthy")], "connectivity-healthy"),
            ([("functionality", "error"), ("authentication", "critical")], "authentication-critical"),
            ([("authentication", "not_configured")], "authentication-not-configured"),
            ([("http", "unknown"), ("connectivity", "unknown")], "http-unknown"),
        ],
    )
    def test_the_worst_and_then_the_one_that_tells_most(self, kinds: list[tuple[str, str]], expected: str):
        found = main_check(self.checks(*kinds))
        assert found is not None
        assert found.name == expected

    def test_without_checks_there_is_none(self):
        assert main_check([]) is None


class TestServiceView:
    def test_it_tells_everything_a_row_shows(self):
        service = make_service("site", name="Our site", criticality="high", status="critical", reason="old words")
        check = make_check(service, name="health", degraded_over=0.8, interval=30)
        put(
            check,
            "critical",
            category="TIMEOUT_ERROR",
            message="timed out",
            total_ms=2_000.0,
            recent_ms=[1.0, None, 2_000.0],
        )
        found = view("site")
        assert found is not None
        assert (found.label, found.provider, found.criticality, found.status) == (
            "Our site",
            "http",
            "high",
            "critical",
        )
        assert (found.reason, found.category) == ("health: timed out", "TIMEOUT_ERROR")
        assert (found.response_ms, found.recent_ms, found.recent_limit_ms) == (2_000.0, [1.0, None, 2_000.0], 800)
        assert found.checked_at is not None
        assert found.advice.startswith("It takes longer than the timeout")
        assert (found.maintenance, found.missing) == (None, [])
        assert found.main is found.checks[0]
        assert (found.main.interval, found.main.degraded_over) == (30, 0.8)

    def test_one_without_checks_shows_nothing_but_itself(self):
        make_service("bare")
        found = view("bare")
        assert found is not None
        assert (found.main, found.response_ms, found.recent_ms, found.recent_limit_ms) == (None, None, [], None)
        assert (found.checked_at, found.uptime, found.p50_ms, found.p95_ms) == (None, None, None, None)
        assert [slot.status for slot in found.bar] == ["none"] * 90

    def test_its_summary_gives_the_strip_and_the_numbers(self):
        service = make_service("site")
        summaries.refresh(PERIODS["7d"])
        service.summaries.update(bar="." * 89 + "c", notes={"89": "all failed"}, uptime=0.5, p50_ms=1, p95_ms=2)
        found = view("site", "7d")
        assert found is not None
        assert (found.uptime, found.p50_ms, found.p95_ms) == (0.5, 1, 2)
        assert (found.bar[-1].status, found.bar[-1].text) == ("critical", "all failed")
        other = view("site", "24h")
        assert other is not None
        assert other.uptime is None

    def test_a_healthy_one_gives_no_category(self):
        service = make_service("site", status="healthy")
        put(make_check(service), "healthy", category="RATE_LIMITED", message="headroom is low")
        found = view("site")
        assert found is not None
        assert (found.reason, found.category) == ("", "")

    def test_while_a_recovery_awaits_confirmation_the_cause_stands(self):
        service = make_service("site", status="critical", reason="health: refused")
        put(make_check(service), "critical", outcome="healthy", message="200")
        found = view("site")
        assert found is not None
        assert (found.reason, found.category) == ("health: refused", "")
        assert found.advice.startswith("The last probe was better")

    def test_a_check_that_is_still_bad_explains_more_than_one_that_recovers(self):
        service = make_service("site", status="critical", reason="connectivity: refused")
        for kind, status, last, message in (
            ("functionality", "critical", "healthy", "works again"),
            ("connectivity", "critical", "critical", "still refused"),
        ):
            check = make_check(service, kind=kind, name=kind)
            CheckState.objects.filter(check_ref=check).update(
                status=status, outcome=last, message=message, checked_at=timezone.now()
            )
        found = view("site")
        assert found is not None
        assert found.reason == "connectivity: still refused"

    def test_while_the_main_check_has_moved_on_the_services_own_reason_stands(self):
        service = make_service("site", status="critical", reason="health: refused")
        put(make_check(service), "healthy", message="200")
        found = view("site")
        assert found is not None
        assert found.reason == "health: refused"

    def test_what_is_missing_is_named_once(self):
        service = make_service("stripe", "stripe", status="not_configured")
        for kind in ("authentication", "functionality"):
            put(make_check(service, kind), "not_configured", missing=["STRIPE_SECRET_KEY"])
        found = view("stripe")
        assert found is not None
        assert found.missing == ["STRIPE_SECRET_KEY"]
        assert found.advice.startswith("Set STRIPE_SECRET_KEY in the environment")

    def test_a_pause_is_told_in_full(self):
        service = make_service("site")
        check = make_check(service)
        until = timezone.now() + HOUR
        actions.pause([check], Actor(None, "anna"), "they migrate", until)
        found = view("site")
        assert found is not None
        (shown,) = found.checks
        assert (shown.status, shown.paused_by, shown.paused_reason) == ("paused", "anna", "they migrate")
        assert shown.paused_until == until

    def test_a_pause_that_has_ended_is_none(self):
        check = make_check(make_service("site"), paused_at=timezone.now() - HOUR, paused_until=timezone.now())
        put(check, "healthy")
        found = view("site")
        assert found is not None
        assert found.checks[0].status == "healthy"

    def test_a_heartbeat_has_its_token_and_others_none(self):
        service = make_service("jobs", "heartbeat")
        job, other = make_check(service, "heartbeat"), make_check(service)
        found = view("jobs")
        assert found is not None
        assert [check.heartbeat_token for check in found.checks] == [job.heartbeat.token, None]
        assert other.id == found.checks[1].id

    def test_maintenance_in_force_is_shown(self):
        service, other = make_service("site"), make_service("other")
        now = timezone.now()
        plan = {"starts_at": now - HOUR, "ends_at": now + HOUR, "reason": "x"}
        window = MaintenanceWindow.objects.create(service=service, **plan)
        assert [found.maintenance for found in views([service.id, other.id])] == [window, None]
        everywhere = MaintenanceWindow.objects.create(service=None, **plan)
        assert views([other.id])[0].maintenance == everywhere

    def test_a_window_is_judged_once_for_all_services(self, monkeypatch: pytest.MonkeyPatch):
        judged: list[MaintenanceWindow] = []
        occurrence_at = maintenance.occurrence_at
        monkeypatch.setattr(
            maintenance, "occurrence_at", lambda window, now: judged.append(window) or occurrence_at(window, now)
        )
        services = [make_service(name) for name in ("one", "two", "three")]
        now = timezone.now()
        plan = {"starts_at": now - HOUR, "ends_at": now + HOUR, "reason": "x", "recurrence": "FREQ=DAILY"}
        window = MaintenanceWindow.objects.create(service=None, **plan)
        assert [found.maintenance for found in views([one.id for one in services])] == [window] * 3
        assert judged == [window]

    def test_a_provider_that_is_gone_is_called_by_its_slug(self):
        make_service("old", "no_such_vendor")
        found = view("old")
        assert found is not None
        assert found.provider_label == "no_such_vendor"

    def test_one_held_by_its_breaker_says_so(self):
        service = make_service("held")
        check = make_check(service, confirm_down=1)
        store.settle([finished(check)])
        breakers.force(service.id, Mode.OPEN, "ann", "moving house", None)
        found = view("held")
        assert found is not None
        assert (found.status, found.category, found.advice) == ("degraded", "BREAKER_OPEN", HELD)
        assert found.reason == "its breaker is open: moving house"
        store.settle([finished(check, outcome("degraded", category=Category.RATE_LIMITED))])
        found = view("held")
        assert found is not None
        assert (found.category, found.advice == HELD) == ("RATE_LIMITED", False), "a check's own trouble says more"

    def test_archived_ones_are_not_shown(self):
        gone = make_service("gone", archived_at=timezone.now())
        assert view("gone") is None
        assert view("never") is None
        assert views([gone.id, 0]) == []

    def test_they_come_in_the_order_asked_for(self):
        ids = [make_service().id for _ in range(3)]
        assert [one.id for one in views([ids[2], ids[0], ids[1]])] == [ids[2], ids[0], ids[1]]

    def test_archived_checks_are_not_shown(self):
        service = make_service("site")
        make_check(service, archived_at=timezone.now())
        found = view("site")
        assert found is not None
        assert found.checks == []
