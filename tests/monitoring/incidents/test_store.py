"""Probes in, incidents and alerts out: one per service, in the transaction that stores the results."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from monitoring import actions, alerts, store
from monitoring.alertrules import breakers
from monitoring.breakers.machine import Mode
from monitoring.breakers.store import force
from monitoring.incidents import actions as acts
from monitoring.incidents.store import follow
from monitoring.models import Alert, Incident, Posture, Service
from tests.callers import colleague
from tests.monitoring.factories import finished, make_check, make_service, outcome
from tests.monitoring.incidents.makers import open_incident, probe, vendor
from wsmon.audit import Actor
from wsmon.config import apply_file
from wsmon.vocabulary import Category

pytestmark = pytest.mark.django_db
OPS = Actor.system("ops")


@pytest.fixture(autouse=True)
def no_control_target(settings: Any) -> None:
    settings.CONTROL_TARGETS = []


def alerts_of(kind: str = "incident") -> list[Alert]:
    return list(Alert.objects.filter(kind=kind, resolved_at=None).order_by("id"))


class TestOpening:
    def test_one_failure_is_none(self) -> None:
        check = vendor()
        probe(check, "hc")
        assert not Incident.objects.exists()

    def test_a_confirmed_failure_opens_one_with_its_alert(self) -> None:
        check = vendor()
        began = timezone.now() - timedelta(minutes=5)
        probe(check, "hhcc", began, message="answered 503")
        incident = Incident.objects.get()
        assert (incident.status, incident.worst, incident.category) == ("critical", "critical", "SERVER_ERROR")
        assert incident.title == "stripe answers with errors of its own"
        assert incident.reason == "functionality: answered 503"
        assert incident.began_at == began + timedelta(seconds=20), "the first failing probe"
        assert incident.opened_at == began + timedelta(seconds=30), "the one that confirmed it"
        assert (incident.closed_at, incident.acknowledged_at, incident.critical_day) == (None, None, False)
        (alert,) = alerts_of()
        assert (alert.key, alert.severity) == (f"incident:{incident.id}", "critical")
        assert (alert.incident, alert.service, alert.url) == (incident, check.service, f"/incidents/{incident.id}/")
        (entry,) = incident.entries.all()
        assert (entry.kind, entry.text) == ("opened", "Incident opened: functionality critical")

    def test_a_second_check_that_fails_is_the_same_incident(self) -> None:
        check = vendor()
        other = make_check(check.service, "authentication", name="authentication")
        probe(check, "hcc")
        probe(other, "hcc")
        assert Incident.objects.count() == 1
        assert [alert.count for alert in alerts_of()] == [1]

    def test_recovery_closes_it_and_resolves_its_alert(self) -> None:
        check = vendor()
        last = probe(check, "hcchh")
        incident = Incident.objects.get()
        assert (incident.closed_at, incident.closed_by) == (last, "")
        assert incident.entries.latest("id").kind == "resolved"
        assert alerts_of() == []

    def test_the_next_failure_is_another_incident(self) -> None:
        probe(vendor(), "hcchhcc")
        assert Incident.objects.count() == 2
        assert Incident.objects.filter(closed_at=None).count() == 1

    def test_slow_is_a_warning_and_getting_worse_is_told(self) -> None:
        check = vendor()
        probe(check, "hdd", category=None)
        incident = Incident.objects.get()
        assert (incident.title, incident.worst) == ("stripe answers slowly", "degraded")
        assert [alert.severity for alert in alerts_of()] == ["warning"]
        probe(check, "cc", timezone.now() + timedelta(minutes=1))
        incident.refresh_from_db()
        assert (incident.status, incident.worst) == ("critical", "critical")
        assert [(alert.severity, alert.count) for alert in alerts_of()] == [("critical", 2)]
        assert incident.entries.latest("id").text == "Worse: degraded to critical"
        probe(check, "dd", timezone.now() + timedelta(minutes=2), category=None)
        incident.refresh_from_db()
        assert (incident.status, incident.worst, incident.closed_at) == ("degraded", "critical", None)

    def test_what_matters_little_is_a_step_less_urgent(self) -> None:
        probe(vendor(criticality="low"), "hcc")
        assert [alert.severity for alert in alerts_of()] == ["warning"]

    def test_on_a_critical_day_it_says_so(self) -> None:
        Posture.objects.create(service=None, critical=True)
        probe(vendor(), "hcc")
        assert Incident.objects.get().critical_day

    def test_it_is_there_when_and_only_if_the_results_are(self) -> None:
        check = vendor()
        probe(check, "hc")
        with transaction.atomic():
            probe(check, "c")
            assert Incident.objects.exists()
            transaction.set_rollback(True)
        assert not Incident.objects.exists()
        assert not Alert.objects.exists()

    def test_of_many_services_at_once_each_has_its_own(self, django_assert_max_num_queries: Any) -> None:
        checks = [vendor(f"stripe-{number}") for number in range(8)]
        for check in checks:
            probe(check, "hc")
        at = timezone.now() + timedelta(minutes=1)
        batch = [finished(check, outcome("critical", category=Category.SERVER_ERROR), at) for check in checks]
        with django_assert_max_num_queries(40 + 8 * 14):
            store.settle(batch)
        assert Incident.objects.filter(closed_at=None).count() == len(alerts_of()) == 8

    def test_nothing_to_do_costs_few_queries(self, django_assert_max_num_queries: Any) -> None:
        service = vendor().service
        with django_assert_max_num_queries(4):
            follow({service.id: service}, [], {service.id: timezone.now()})


class TestOwnErrors:
    def test_error_alone_opens_none_and_raises_an_alert_of_our_own(self) -> None:
        check = vendor()
        probe(check, "hee", category=Category.AUTHENTICATION_ERROR, message="401")
        assert not Incident.objects.exists()
        (alert,) = alerts_of("own_error")
        assert (alert.key, alert.severity) == ("own-error:stripe", "warning")
        assert alert.title == "stripe refuses our credential (ours)"
        assert alert.url == "/services/stripe/"
        probe(check, "hh")
        assert alerts_of("own_error") == []

    def test_a_failure_after_it_is_an_incident(self) -> None:
        check = vendor()
        probe(check, "hee", category=Category.AUTHENTICATION_ERROR)
        probe(check, "cc")
        assert Incident.objects.filter(closed_at=None).count() == 1
        assert alerts_of("own_error") == []

    def test_within_an_incident_it_is_part_of_it(self) -> None:
        check = vendor()
        probe(check, "hcc")
        probe(check, "ee", category=Category.AUTHENTICATION_ERROR)
        probe(check, "e", category=Category.AUTHENTICATION_ERROR)
        incident = Incident.objects.get()
        assert (incident.status, incident.worst, incident.closed_at) == ("error", "critical", None)
        assert alerts_of("own_error") == []


class TestNotProbed:
    def test_pausing_closes_it(self) -> None:
        check = vendor()
        probe(check, "hcc")
        actions.pause([check], OPS, "planned")
        incident = Incident.objects.get()
        assert (incident.closed_by, alerts_of()) == ("wsmon: paused", [])
        actions.resume([check], OPS)
        probe(check, "cc")
        assert Incident.objects.count() == 2

    def test_a_missing_credential_opens_none(self) -> None:
        check = vendor()
        store.settle([finished(check, missing=("STRIPE_SECRET_KEY",), outcome=None)])
        assert Service.objects.get().status == "not_configured"
        assert not Incident.objects.exists()


Archive = Callable[[], object]


@pytest.fixture(params=["page", "list", "file"])
def archive(request: Any, tmp_path: Path) -> Archive:
    """Take ``stripe`` out of use: on its page in the admin, by the action of the admin's list, by wsmon.yaml."""

    def in_the_admin() -> None:
        number = Service.objects.get(slug="stripe").pk
        way: tuple[str, dict[str, Any]] = (f"{number}/delete/", {"post": "yes"})
        if request.param == "list":
            way = ("", {"action": "archive", "_selected_action": [number]})
        path, data = way
        assert colleague("root", superuser=True).post(f"/admin/monitoring/service/{path}", data).status_code == 302

    def by_the_file() -> None:
        file = tmp_path / "wsmon.yaml"
        file.write_text("services:\n  twilio: {checks: []}\n")
        apply_file(file, prune=True)

    return by_the_file if request.param == "file" else in_the_admin


class TestRemoved:
    def test_its_incident_is_over_at_once(self, archive: Archive) -> None:
        probe(vendor(), "hcc")
        other = open_incident(vendor("twilio", "twilio").service)
        archive()
        assert Service.objects.get(slug="stripe").archived_at is not None
        incident = Incident.objects.get(service__slug="stripe")
        assert (incident.closed_by, incident.entries.latest("id").text) == (
            "wsmon: removed", "The service was removed",
        )  # fmt: skip
        assert alerts_of() == []
        assert list(Incident.objects.filter(closed_at=None)) == [other]

    def test_no_alert_about_it_stays(self, archive: Archive) -> None:
        check = vendor()
        probe(check, "hee", category=Category.AUTHENTICATION_ERROR)
        found = breakers.find([breakers.NotClosed(check.service_id, "stripe", "", "", True, False, None, "5 fail")])
        for one in found:
            alerts.raise_alert(one.key, one.kind, one.severity, one.title, one.detail, one.url, check.service)
        assert len(alerts_of("own_error")) == len(alerts_of("breaker")) == 1
        archive()
        assert not Alert.objects.filter(resolved_at=None).exists()

    def test_what_goes_on_without_it_does(self, archive: Archive) -> None:
        service, other = vendor().service, vendor("twilio", "twilio").service
        alerts.raise_alert(
            "webhook-silence:x", "webhook_silence", "critical", "x is silent", "", "/webhooks/", service
        )
        alerts.raise_alert("slow:twilio/api", "slow", "warning", "twilio is slow", "", "/services/twilio/", other)
        archive()
        assert set(Alert.objects.filter(resolved_at=None).values_list("key", flat=True)) == {
            "webhook-silence:x", "slow:twilio/api",
        }  # fmt: skip


class TestBreakers:
    def test_an_open_breaker_alone_is_an_incident(self) -> None:
        check = vendor()
        probe(check, "h")
        force(check.service_id, Mode.OPEN, "eve", "too slow", None)
        incident = Incident.objects.get()
        assert (incident.status, incident.category) == ("degraded", "BREAKER_OPEN")
        assert incident.title == "stripe is held back by its breaker"
        assert incident.began_at == incident.opened_at
        assert incident.entries.get().text == "Incident opened: its breaker degraded"
        force(check.service_id, None, "eve", "", None)
        incident.refresh_from_db()
        assert incident.closed_at is not None


class TestMaintenance:
    def window(self, service: Service | None, start: int = -1, end: int = 1) -> None:
        now = timezone.now()
        actions.start_maintenance(
            service, now + timedelta(hours=start), now + timedelta(hours=end), "pool moves", OPS
        )

    def test_in_a_window_it_opens_and_nobody_is_told(self) -> None:
        check = vendor()
        self.window(check.service)
        probe(check, "hcc")
        assert Incident.objects.count() == 1
        assert [alert.inhibited_by for alert in alerts_of()] == ["maintenance: pool moves"]

    def test_another_services_window_changes_nothing(self) -> None:
        check = vendor()
        self.window(make_service("other"))
        probe(check, "hcc")
        assert [alert.inhibited_by for alert in alerts_of()] == [""]


class TestResolvedByAPerson:
    def test_it_stays_closed_while_the_failure_goes_on(self) -> None:
        check = vendor()
        probe(check, "hcc")
        acts.resolve(Incident.objects.get().id, "known", OPS)
        probe(check, "cc")
        probe(check, "dd", category=None)
        assert Incident.objects.filter(closed_at=None).count() == 0
        assert Incident.objects.count() == 1

    def test_it_opens_again_when_it_gets_worse(self) -> None:
        check = vendor()
        probe(check, "hdd", category=None)
        acts.resolve(Incident.objects.get().id, "known", OPS)
        probe(check, "cc", timezone.now())
        incident = Incident.objects.get()
        assert (incident.closed_at, incident.closed_by, incident.worst) == (None, "", "critical")
        assert incident.entries.latest("id").text == "It got worse since it was resolved"
        assert [alert.severity for alert in alerts_of()] == ["critical"]

    def test_after_a_recovery_the_next_failure_is_a_new_one(self) -> None:
        check = vendor()
        probe(check, "hcc")
        acts.resolve(Incident.objects.get().id, "known", OPS)
        probe(check, "hhcc", timezone.now())
        assert Incident.objects.count() == 2
        assert Incident.objects.filter(closed_at=None).count() == 1
