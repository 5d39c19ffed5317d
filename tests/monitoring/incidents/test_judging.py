"""Judging incidents again and again: what is read, what is written, and what follows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring import actions
from monitoring.incidents import facts, judging, reads, store
from monitoring.incidents.connectivity import Reach
from monitoring.incidents.verdict import Evidence, Side
from monitoring.models import Alert, Breaker, BreakerMinute, Incident, IncidentEntry, Service, VendorStatus
from tests.monitoring.factories import make_check
from tests.monitoring.incidents.makers import open_incident, probe, vendor
from wsmon.audit import Actor
from wsmon.vocabulary import Category, Timings

pytestmark = pytest.mark.django_db
FINE = Reach(True, 0, 7, 11.0)


@pytest.fixture(autouse=True)
def alone(settings: Any) -> None:
    """No control target, and no other room."""
    settings.CONTROL_TARGETS, settings.EVIDENCE = [], []


def judged() -> Incident:
    judging.rejudge()
    return Incident.objects.get()


class TestReading:
    def test_what_our_probes_found_since_it_began(self) -> None:
        check = vendor()
        start = timezone.now() - timedelta(minutes=10)
        probe(check, "hhhccc", start, http_status=503)
        found = facts.read(Incident.objects.get(), FINE)
        assert found.probes.checks == ("functionality",)
        assert (found.probes.total, found.probes.http_status) == (3, 503)
        assert found.probes.categories == {"SERVER_ERROR": 3}
        assert (found.category, found.label, found.is_vendor) == ("SERVER_ERROR", "stripe", True)

    def test_how_long_the_phases_took_before_and_since(self, monkeypatch: pytest.MonkeyPatch) -> None:
        check = vendor()
        start = timezone.now() - timedelta(minutes=10)
        from monitoring import store  # noqa: PLC0415
        from providers.base import ProbeOutcome  # noqa: PLC0415
        from tests.monitoring.factories import finished  # noqa: PLC0415
        from wsmon.vocabulary import Outcome  # noqa: PLC0415

        for number, (word, first_byte) in enumerate([("healthy", 200.0)] * 3 + [("degraded", 2300.0)] * 3):
            timings = Timings(dns_ms=5, connect_ms=10, tls_ms=30, first_byte_ms=first_byte, total_ms=first_byte + 45)
            found = ProbeOutcome(Outcome(word), None, word, timings)
            store.settle([finished(check, found, start + timedelta(seconds=10 * number))])
        probes = facts.read(Incident.objects.get(), FINE).probes
        assert probes.now == {"dns": 5, "connect": 10, "tls": 30, "first_byte": 2300}
        assert probes.before == {"dns": 5, "connect": 10, "tls": 30, "first_byte": 200}

    def test_real_calls_are_what_the_breaker_counted_less_our_probes(self) -> None:
        check = vendor()
        start = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=5)
        probe(check, "hccc", start + timedelta(seconds=1))
        BreakerMinute.objects.create(service=check.service, start=start, ok=101, fail=23)
        calls = facts.read(Incident.objects.get(), FINE).calls
        assert (calls.ok, calls.failed) == (100, 20)

    def test_why_the_breaker_is_open(self) -> None:
        incident = open_incident()
        Breaker.objects.create(service=incident.service, state="OPEN", cause="credential")
        assert facts.read(incident, FINE).calls.cause == "credential"
        Breaker.objects.update(forced="OPEN", forced_by="eve")
        assert facts.read(incident, FINE).calls.forced_by == "eve"

    def test_the_vendors_own_word_and_how_late_it_usually_is(self) -> None:
        old = timezone.now() - timedelta(days=10)
        before = open_incident(began_at=old, admitted_at=old + timedelta(minutes=25))
        Incident.objects.update(closed_at=old + timedelta(hours=1))
        incident = open_incident(before.service)
        assert facts.read(incident, FINE).page is None, "not read yet"
        VendorStatus.objects.create(provider="stripe", indicator="none", text="All good", read_at=timezone.now())
        page = facts.read(incident, FINE).page
        assert page is not None
        assert (page.host, page.indicator, page.text, page.admits_after) == (
            "www.stripestatus.com", "none", "All good", 1500.0,
        )  # fmt: skip
        VendorStatus.objects.update(problem="it answered 500")
        assert facts.page_of(incident).indicator == "", "what cannot be read says nothing"  # type: ignore[union-attr]

    def test_the_vendors_other_services(self) -> None:
        incident = open_incident(vendor("sms", "twilio").service)
        probe(vendor("mail", "sendgrid"), "hh")  # the same status page
        other = open_incident(vendor("voice", "twilio").service)
        Service.objects.filter(slug="voice").update(status="critical")
        siblings = {one.label: (one.healthy, one.url) for one in facts.read(incident, FINE).siblings}
        assert siblings == {"mail": (True, "/services/mail/"), "voice": (False, f"/incidents/{other.id}/")}

    def test_what_checks_say_that_call_nobody(self) -> None:
        check = vendor()
        for kind in ("status_page", "heartbeat"):
            probe(make_check(check.service, kind), "cc", message=f"said by {kind}")
        found = facts.read(Incident.objects.get(), FINE)
        assert (found.vendor_word, found.late_job) == ("said by status_page", "said by heartbeat")
        assert found.probes.total == 0

    def test_checks_are_read_once_whatever_is_asked_of_them(self, django_assert_max_num_queries: Any) -> None:
        check = vendor()
        for kind in ("status_page", "heartbeat"):
            probe(make_check(check.service, kind), "cc")
        probe(check, "hcc")
        incident = Incident.objects.select_related("service").get()
        with django_assert_max_num_queries(9):
            facts.read(incident, FINE)

    def test_what_fails_in_another_room_is_left_out(self, settings: Any) -> None:
        settings.EVIDENCE = ["tests.monitoring.incidents.test_judging.breaks", f"{__name__}.knows"]
        assert [one.text for one in facts.read(open_incident(), FINE).elsewhere] == ["known"]

    def test_a_service_whose_provider_is_gone_is_judged_all_the_same(self) -> None:
        incident = open_incident(vendor("old", "no_such_provider").service)
        assert facts.read(incident, FINE).is_vendor is True


def breaks(_service_id: int, _since: Any) -> list[Evidence]:
    raise RuntimeError("broken")


def knows(_service_id: int, _since: Any) -> list[Evidence]:
    return [Evidence("deliveries", Side.UNCLEAR, 0.0, "Our deliveries to it", "known", "12 wait")]


class TestWriting:
    def test_a_verdict_is_written_with_its_evidence(self) -> None:
        probe(vendor(), "hhhccc")
        incident = judged()
        assert incident.verdict == "theirs"
        assert incident.confidence > 0.7
        assert incident.evidence[0]["key"] == "probes"
        assert incident.judged_at is not None
        assert reads.judged(incident).verdict == "theirs"
        assert incident.entries.filter(kind="verdict").get().text == "It is stripe, not us."

    def test_it_is_judged_again_after_ten_seconds_and_not_before(self) -> None:
        incident = open_incident()
        now = timezone.now()
        assert [judging.rejudge(now + timedelta(seconds=number)) for number in (0, 1, 9, 10, 15, 20)] == [
            1, 0, 0, 1, 0, 1,
        ]  # fmt: skip
        Incident.objects.filter(id=incident.id).update(judged_at=now + timedelta(hours=1))
        assert judging.rejudge(now) == 1, "the clock went back"

    def test_one_that_is_older_is_judged_each_minute(self) -> None:
        incident, now = open_incident(), timezone.now()
        Incident.objects.filter(id=incident.id).update(opened_at=now - judging.YOUNG)
        times = (0, 10, 59, 60, 119, 120)
        assert [judging.rejudge(now + timedelta(seconds=number)) for number in times] == [1, 0, 0, 1, 0, 1]

    def test_a_change_of_mind_enters_the_timeline_once(self) -> None:
        check = vendor()
        probe(check, "hhhccc")
        judged()
        Incident.objects.update(judged_at=None)
        judged()
        assert IncidentEntry.objects.filter(kind="verdict").count() == 1
        probe(check, "c" * 30, timezone.now(), Category.AUTHENTICATION_ERROR, every=0)
        Incident.objects.update(judged_at=None)
        judged()
        texts = list(IncidentEntry.objects.filter(kind="verdict").order_by("id").values_list("text", flat=True))
        assert texts == ["It is stripe, not us.", "It is us, not stripe."]

    def test_a_short_one_is_judged_although_it_is_over(self) -> None:
        probe(vendor(), "hcchh")
        assert judged().verdict == "theirs"
        assert judging.rejudge() == 0, "and that is its last verdict"

    def test_deliveries_that_fail_are_told_once(self, settings: Any) -> None:
        settings.EVIDENCE = [f"{__name__}.knows"]
        open_incident()
        for _ in range(3):
            Incident.objects.update(judged_at=None)
            judging.rejudge()
        (entry,) = IncidentEntry.objects.filter(kind="deliveries")
        assert (entry.text, entry.detail) == ("Our deliveries to it: known", "12 wait")

    def test_the_longest_unjudged_come_first_and_not_all_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judging, "MOST", 2)
        for number in range(5):
            open_incident(vendor(f"stripe-{number}").service)
        now = timezone.now()
        assert [judging.rejudge(now) for _ in range(4)] == [2, 2, 1, 0]

    def test_of_those_judged_before_few_are_judged_in_one_go_and_new_ones_do_not_wait_for_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(judging, "AGAIN", 2)
        for number in range(5):
            open_incident(vendor(f"stripe-{number}").service)
        now = timezone.now()
        assert judging.rejudge(now) == 5
        later = now + judging.EVERY
        new = open_incident(vendor("twilio").service)
        assert [judging.rejudge(later) for _ in range(4)] == [3, 2, 1, 0]
        new.refresh_from_db()
        assert new.judged_at == later


class TestAfterMaintenance:
    def test_people_are_told_when_the_window_is_over_and_it_is_not(self) -> None:
        check, now = vendor(), timezone.now()
        actions.start_maintenance(
            check.service, now - timedelta(hours=1), now + timedelta(hours=1), "moves", Actor.system("ops")
        )
        probe(check, "hcc")
        alert = Alert.objects.get(kind="incident")
        judging.rejudge(now)
        alert.refresh_from_db()
        assert (alert.inhibited_by, alert.count) == ("maintenance: moves", 1)
        judging.rejudge(now + timedelta(hours=1, seconds=1))
        alert.refresh_from_db()
        assert (alert.inhibited_by, alert.count) == ("", 2)

    def test_however_many_there_are_and_whoever_looks_all_are_told_of_at_once_and_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for setting in ("MOST", "AGAIN"):
            monkeypatch.setattr(judging, setting, 0)
        now = timezone.now()
        for number in range(12):
            check = vendor(f"stripe-{number}")
            actions.start_maintenance(
                check.service, now - timedelta(hours=1), now + timedelta(hours=1), "moves", Actor.system("ops")
            )
            probe(check, "hcc")
        held = Alert.objects.filter(kind="incident", inhibited_by="maintenance: moves")
        assert store.uninhibit_all(now) == 0
        assert held.count() == 12
        with CaptureQueriesContext(connection) as captured:
            judging.rejudge(now + timedelta(hours=1, seconds=1))
        assert held.count() == 0
        assert {row.count for row in Alert.objects.filter(kind="incident")} == {2}
        assert len(captured) < 40
        assert store.uninhibit_all(now + timedelta(hours=1, seconds=2)) == 0

    def test_what_somebody_else_holds_back_stays_so(self) -> None:
        probe(vendor(), "hcc")
        Alert.objects.update(inhibited_by="alert: flapping:stripe/functionality")
        judging.rejudge()
        assert Alert.objects.get(kind="incident").inhibited_by == "alert: flapping:stripe/functionality"
