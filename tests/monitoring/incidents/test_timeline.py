"""The timeline, the Markdown and the ticket, the statement of a month."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from monitoring.history import BadCursor
from monitoring.incidents import actions, export, reads, sla, timeline
from monitoring.incidents.reads import Filter
from monitoring.incidents.sla import Month, Statement
from monitoring.models import Alert, BreakerTransition, Channel, Incident, Notification, Rollup
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.incidents.makers import open_incident, probe, vendor
from wsmon.audit import Actor
from wsmon.ids import uuid7
from wsmon.vocabulary import Category

pytestmark = pytest.mark.django_db
OPS = Actor.system("ops")
START = timezone.now().replace(microsecond=0) - timedelta(minutes=30)


def story() -> Incident:
    """An outage with everything that may happen in it."""
    check = vendor("twilio", "twilio")
    probe(check, "hhhccchh", START, message="answered 503", http_status=503)
    incident = Incident.objects.get()
    BreakerTransition.objects.create(
        at=START + timedelta(seconds=45), service=check.service, generation=1, old="CLOSED", new="OPEN",
        trigger="threshold", reason="12 of 20 calls failed",
    )  # fmt: skip
    actions.note(incident.id, "Reminders can wait.\nConfirmations cannot.", OPS)
    return incident


def message(incident: Incident, slug: str, kind: str, seconds: float, **fields: Any) -> Notification:
    channel, _ = Channel.objects.get_or_create(slug=slug)
    at = incident.opened_at + timedelta(seconds=seconds)
    defaults: dict[str, Any] = {
        "once": str(uuid7()), "severity": "critical", "title": "T", "state": "sent",
        "created_at": at, "sent_at": at + timedelta(seconds=0.8),
    }  # fmt: skip
    return Notification.objects.create(channel=channel, incident=incident, kind=kind, **defaults | fields)


class TestTimeline:
    def test_everything_that_happened_newest_first(self) -> None:
        found = timeline.of(story())
        told = [(line.kind, line.who, line.what) for line in found.lines]
        assert told == [
            ("note", "ops", "wrote a note"),
            ("entry", "", "The recovery is confirmed"),
            ("change", "", "functionality: critical to healthy"),
            ("breaker", "", "Its breaker opened"),
            ("entry", "", "Incident opened: functionality critical"),
            ("change", "", "functionality: healthy to critical"),
            ("probe", "", "First failing probe: answered 503"),
        ]
        assert found.notes == 1
        assert [line.quote for line in found.only("notes")] == ["Reminders can wait.\nConfirmations cannot."]
        assert found.lines[-1].sub == "functionality, 10 s after the last good one"
        assert found.lines[-1].at == START + timedelta(seconds=30)

    def test_a_slow_one_says_how_slow(self) -> None:
        probe(vendor(), "hdd", category=None, ms=1912.4)
        assert timeline.of(Incident.objects.get()).lines[-1].what == "First slow probe: 1,912 ms"

    def test_of_a_breaker_the_trials_are_counted_and_people_named(self) -> None:
        incident = open_incident()
        at = incident.began_at
        for seconds, old, new, trigger, more in (
            (1, "CLOSED", "OPEN", "threshold", {"reason": "5 failures"}),
            (2, "OPEN", "HALF_OPEN", "trial", {}),
            (3, "HALF_OPEN", "OPEN", "trial_failed", {}),
            (4, "OPEN", "HALF_OPEN", "trial", {}),
            (5, "HALF_OPEN", "OPEN", "trial_failed", {}),
            (6, "OPEN", "OPEN", "forced", {"forced": "CLOSED", "by": "eve", "reason": "urgent"}),
            (7, "OPEN", "OPEN", "released", {}),
            (8, "HALF_OPEN", "CLOSED", "trial_ok", {}),
        ):
            BreakerTransition.objects.create(
                at=at + timedelta(seconds=seconds), service=incident.service, generation=seconds, old=old, new=new,
                trigger=trigger, **more,
            )  # fmt: skip
        lines = [(line.who, line.what) for line in reversed(timeline.of(incident).lines)]
        assert lines == [
            ("", "Its breaker opened"),
            ("", "Its breaker stayed open: 2 trials failed"),
            ("eve", "forced its breaker closed"),
            ("wsmon", "ended the force on its breaker"),
            ("", "Its breaker closed"),
        ]

    def test_messages_that_go_out_together_are_one_line(self) -> None:
        incident = open_incident(closed_at=timezone.now())
        message(incident, "ops", "opened", 1)
        message(incident, "on-call", "opened", 2, recipient="Ana")
        message(incident, "ops", "escalated", 300)
        message(incident, "phone", "escalated", 301, state="failed", problem="no credit", sent_at=None)
        message(incident, "ops", "resolved", 500, state="dropped", problem="over before it was due", sent_at=None)
        message(incident, "ops", "reminder", 600, state="pending", sent_at=None)
        message(incident, "sms", "digest", 900, state="gathered")
        found = timeline.of(incident)
        assert [(line.what, line.sub) for line in reversed(found.only("messages"))] == [
            ("Alert sent to ops and on-call (Ana)", "16 s after the first failing probe; delivered in 0.8 s"),
            ("Escalated to ops and phone", "delivered in 0.8 s; could not be delivered: no credit"),
            ("Told that it is over: ops", "not needed: over before it was due"),
            ("Reminded ops", "on its way"),
            ("Digest sms", "gathered into another message"),
        ]
        assert found.messages == 5

    def test_the_vendors_other_incidents_are_told(self) -> None:
        mine = open_incident(vendor("sms", "twilio").service)
        other = open_incident(vendor("voice", "twilio").service, title="voice answers slowly", worst="degraded")
        open_incident(vendor("pay", "stripe").service)
        (line,) = [line for line in timeline.of(mine).lines if line.kind == "sibling"]
        assert (line.what, line.url) == ("voice (same vendor): voice answers slowly", f"/incidents/{other.id}/")

    def test_our_own_sites_are_no_vendor(self) -> None:
        mine, other = make_service("site", "http"), make_service("shop", "http")
        incident = open_incident(mine)
        open_incident(other)
        assert timeline.of(incident).lines == []

    def test_what_the_incident_does_not_say_itself_is_told_of_the_service(self) -> None:
        check = vendor()
        start = timezone.now() - timedelta(minutes=10)
        probe(check, "hccdd", start, category=None)
        whats = [line.what for line in timeline.of(Incident.objects.get()).lines]
        assert "stripe: critical to degraded" in whats
        assert "stripe: healthy to critical" not in whats

    def test_it_takes_a_bounded_number_of_queries(self, django_assert_max_num_queries: Any) -> None:
        incident = story()
        with django_assert_max_num_queries(8):
            timeline.of(incident)


class TestExport:
    def test_markdown_tells_it_all(self, settings: Any) -> None:
        settings.PUBLIC_URL = "https://ops.example"
        text = export.markdown(story())
        for words in (
            "# Incident #", "https://ops.example/incidents/", "| Worst | critical |", "Not judged yet.",
            "functionality: healthy to critical", "**ops** wrote a note: “Reminders can wait. Confirmations cannot.”",
            "## What we learned", "| Acknowledged | nobody did |", "| Vendor admitted it | never |",
        ):  # fmt: skip
            assert words in text, words

    def test_what_people_wrote_breaks_no_table(self) -> None:
        incident = open_incident(reason="a | b <script>", title="*bold* [x](y)")
        text = export.markdown(incident)
        assert "a \\| b \\<script\\>" in text
        assert "\\*bold\\* \\[x\\](y)" in text

    def test_the_ticket_has_what_their_support_needs(self) -> None:
        check = vendor("twilio", "twilio")
        probe(check, "hhcc", START, message="answered 503", http_status=503, details={"request_id": "req_1"})
        text = export.ticket(Incident.objects.get())
        assert text.startswith("Subject: twilio answers with errors of its own since ")
        assert text.count("HTTP 503, answered 503, 100 ms, request id req_1") == 2
        assert "is still going on" in text

    def test_a_ticket_of_long_ago(self) -> None:
        began = timezone.now() - timedelta(days=90)
        incident = open_incident(began_at=began, closed_at=began + timedelta(minutes=10))
        text = export.ticket(incident)
        assert "none is kept any more" in text
        assert "lasted 10 min" in text

    def test_no_secret_leaves(self) -> None:
        incident = open_incident(reason="Bearer abcdefghijklmnop refused")
        assert "abcdefghijklmnop" not in export.markdown(incident) + export.ticket(incident)


class TestReading:
    def test_pages_follow_each_other_without_gap_or_repeat(self) -> None:
        at = timezone.now()
        for number in range(7):
            open_incident(vendor(f"s{number}").service, opened_at=at - timedelta(minutes=number // 2))
        seen, cursor = [], None
        while True:
            found = reads.page(Filter(), cursor, 3)
            seen += [row.id for row in found.rows]
            cursor = found.next_cursor
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 7

    @pytest.mark.parametrize("cursor", ["x", "1", "1-x", "-1-2", "9" * 40 + "-1", "1-" + "9" * 40])
    def test_a_cursor_of_elsewhere_is_refused(self, cursor: str) -> None:
        with pytest.raises(BadCursor):
            reads.page(Filter(), cursor)

    def test_filters(self, django_assert_num_queries: Any) -> None:
        mine = open_incident(vendor("a").service, verdict="ours", acknowledged_at=timezone.now())
        theirs = open_incident(vendor("b").service, verdict="theirs")
        over = open_incident(vendor("c").service, closed_at=timezone.now())
        with django_assert_num_queries(1):
            assert reads.counts() == {"all": 3, "open": 2, "unacknowledged": 1, "closed": 1}
        for wanted, found in (
            (Filter("open"), {mine.id, theirs.id}),
            (Filter("unacknowledged"), {theirs.id}),
            (Filter("closed"), {over.id}),
            (Filter(service="a"), {mine.id}),
            (Filter(verdict="theirs"), {theirs.id}),
            (Filter(since=timezone.now()), set()),
        ):
            assert {row.id for row in reads.page(wanted).rows} == found
        with pytest.raises(ValueError, match="loud"):
            Filter("loud")
        with pytest.raises(ValueError, match="nobody"):
            Filter(verdict="nobody")

    def test_how_long_things_took(self) -> None:
        began = timezone.now() - timedelta(hours=1)
        incident = open_incident(
            began_at=began, acknowledged_at=began + timedelta(seconds=75), closed_at=began + timedelta(minutes=40),
            admitted_at=began + timedelta(minutes=25),
        )  # fmt: skip
        found = reads.figures(incident)
        assert (found.lasts, found.to_detect, found.to_acknowledge, found.to_recover, found.to_admit) == (
            2400, 15, 60, 2385, 1500,
        )  # fmt: skip

    def test_earlier_ones_of_the_same_service(self) -> None:
        service, now = vendor().service, timezone.now()
        for days in (5, 100):
            began = now - timedelta(days=days)
            open_incident(service, began_at=began, closed_at=began + timedelta(minutes=26))
        incident = open_incident(service)
        before = reads.before(incident)
        assert (before.number, before.seconds) == (1, 26 * 60)

    def test_a_glance_for_the_rows(self) -> None:
        incident = open_incident()
        assert reads.glance([incident.service_id, 0])[incident.service_id].id == incident.id
        assert reads.open_count() == 1


class TestStatement:
    MONTH = Month(2026, 2)

    def test_months(self) -> None:
        assert (self.MONTH.start, self.MONTH.end) == (
            datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC),
        )  # fmt: skip
        assert (str(self.MONTH), self.MONTH.words) == ("2026-02", "February 2026")
        assert str(Month(2026, 1).later(-1)) == "2025-12"
        assert Month.parse("2026-12").later(1) == Month(2027, 1)
        for text in ("", "2026", "2026-13", "2026-1", "1999-01", "x"):
            with pytest.raises(ValueError, match="2026-10"):
                Month.parse(text)

    def test_an_incident_counts_with_its_part_of_the_month(self) -> None:
        service = vendor("sms", "twilio").service
        open_incident(service, began_at=datetime(2026, 1, 31, 23, tzinfo=UTC), verdict="theirs",
                      closed_at=datetime(2026, 2, 1, 1, tzinfo=UTC),
                      admitted_at=datetime(2026, 2, 1, 0, 30, tzinfo=UTC))  # fmt: skip
        open_incident(service, began_at=datetime(2026, 2, 10, tzinfo=UTC), verdict="ours", worst="degraded",
                      closed_at=datetime(2026, 2, 10, 0, 30, tzinfo=UTC))  # fmt: skip
        open_incident(service, began_at=datetime(2026, 2, 28, 22, tzinfo=UTC))
        (one,) = sla.statements(self.MONTH, datetime(2026, 3, 5, tzinfo=UTC))
        assert (one.label, one.incidents, one.down, one.slow) == ("Twilio", 3, 3600 + 7200, 1800)
        assert (one.theirs, one.ours, one.unclear, one.longest) == (3600, 1800, 7200, 7200)
        assert one.admits_after == 5400

    def test_uptime_is_of_the_months_days(self) -> None:
        check = vendor("sms", "twilio")
        for day, healthy, critical, error in ((31, 0, 99, 0), (1, 90, 10, 50), (28, 100, 0, 0)):
            start = datetime(2026, 1 if day == 31 else 2, day, tzinfo=UTC)
            Rollup.objects.create(
                level=Rollup.Level.DAY, check_id=check.id, start=start, healthy=healthy, critical=critical,
                error=error,
            )  # fmt: skip
        (one,) = sla.statements(self.MONTH)
        assert one.uptime == pytest.approx(0.95)

    def test_a_vendors_services_are_together_and_our_own_apart(self) -> None:
        for slug, provider in (("sms", "twilio"), ("voice", "twilio"), ("site", "http"), ("shop", "http")):
            make_check(make_service(slug, provider))
        found = sla.statements(self.MONTH)
        assert [(one.label, one.services) for one in found] == [
            ("shop", ["shop"]), ("site", ["site"]), ("Twilio", ["sms", "voice"]),
        ]  # fmt: skip
        assert found[0].uptime is None

    def test_as_csv(self) -> None:
        make_check(make_service("site", "http", name="=HYPERLINK()"))
        rows = list(csv.DictReader(io.StringIO(sla.as_csv(self.MONTH, sla.statements(self.MONTH)))))
        assert tuple(rows[0]) == sla.COLUMNS
        assert rows[0]["vendor"] == "'=HYPERLINK()"
        assert (rows[0]["month"], rows[0]["uptime_percent"], rows[0]["down_minutes"]) == ("2026-02", "", "0.0")
        one = Statement("V", ["v"], healthy=99, failed=1, admitted=[60, 180])
        row = next(csv.DictReader(io.StringIO(sla.as_csv(self.MONTH, [one]))))
        assert (row["uptime_percent"], row["admits_after_minutes"]) == ("99.0000", "2.0")

    def test_the_months_one_may_choose(self) -> None:
        now = datetime(2026, 3, 5, tzinfo=UTC)
        assert [str(one) for one in sla.months(now)] == ["2026-03", "2026-02", "2026-01"]
        open_incident(began_at=datetime(2025, 11, 5, tzinfo=UTC))
        assert [str(one) for one in sla.months(now)][-1] == "2025-11"


def test_categories_stay_words_of_the_contract() -> None:
    probe(vendor(), "hcc", category=Category.TIMEOUT_ERROR)
    assert Alert.objects.get().title == "stripe does not answer in time"
