"""The rules of webhooks: counts in, findings out, and what is read of the database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from monitoring import alerts
from monitoring.alertrules import watch
from monitoring.alertrules.finding import Context
from monitoring.alertrules.thresholds import FailedDeliveries, RefusedSignatures, Thresholds
from tests.monitoring.factories import make_service
from tests.webhooks.factories import make_destination, make_source
from webhooks import alertrules
from webhooks.alertrules import Failed, Refusing
from webhooks.models import DeliveryCount, EventCount, Refusal

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


@pytest.mark.parametrize(
    ("number", "severity"), [(10, None), (11, "warning"), (100, "warning"), (101, "critical"), (0, None)]
)
def test_dead_letters_over_a_threshold(number: int, severity: str | None) -> None:
    found = alertrules.find_failed([Failed("app", None, number)], FailedDeliveries())
    assert [one.severity for one in found] == ([severity] if severity else [])
    if found:
        assert found[0].title == "app: more than 10 deliveries failed within 15m"
        assert (found[0].key, found[0].kind) == ("failed-deliveries:app", "failed_deliveries")


@pytest.mark.parametrize(
    ("one", "severity", "title"),
    [
        (Refusing("stripe", 1, 20, 100, 0, 100), None, ""),
        (Refusing("stripe", 1, 21, 100, 0, 100), "warning", "stripe: far more refused signatures than usual"),
        (Refusing("stripe", 1, 21, 100, 4.2, 100), "warning", "stripe: far more refused signatures than usual"),
        (Refusing("stripe", 1, 21, 100, 4.3, 100), None, ""),  # it is always like that
        (Refusing("stripe", 1, 5, 0, 0, 3), "critical", "stripe: every signature is refused"),
        (Refusing("stripe", 1, 4, 0, 0, 3), None, ""),
        (Refusing("stripe", 1, 5, 1, 0, 3), None, ""),
        (Refusing("stripe", 1, 5, 0, 0, 0), None, ""),  # a source that never got anything: a scanner
    ],
)
def test_refused_signatures(one: Refusing, severity: str | None, title: str) -> None:
    found = alertrules.find_refused([one], RefusedSignatures())
    assert [(each.severity, each.title) for each in found] == ([(severity, title)] if severity else [])


def test_they_say_what_was_wrong_last() -> None:
    [found] = alertrules.find_refused([Refusing("stripe", 1, 6, 0, 0, 3, "does not match")], RefusedSignatures())
    assert found.detail == (
        "6 requests within 10m, none accepted: was its signing secret changed? Last: does not match."
    )
    [surge] = alertrules.find_refused([Refusing("stripe", 1, 50, 7, 1.25, 3)], RefusedSignatures())
    assert surge.detail == "50 within 10m, where 1.2 are usual; 7 were accepted meanwhile."


@pytest.mark.django_db
class TestReading:
    def counts(self, destination: Any, source: Any, start: datetime, failed: int, level: int = 60) -> None:
        DeliveryCount.objects.create(
            level=level, source_id=source.id, destination_id=destination.id, start=start, failed=failed
        )

    def test_dead_letters_of_a_destination_over_all_its_sources(self) -> None:
        service = make_service("stripe")
        app, calm = make_destination("app", service=service), make_destination("calm")
        one, other = make_source("one"), make_source("other")
        self.counts(app, one, ago(minutes=5), 6)
        self.counts(app, other, ago(minutes=6), 6)
        self.counts(app, one, ago(minutes=16), 600)
        self.counts(app, one, ago(minutes=5), 600, level=3600)
        self.counts(calm, one, ago(minutes=5), 10)
        assert alertrules.read_failed(NOW, FailedDeliveries()) == [Failed("app", service.id, 12)]
        [found] = alertrules.look_at_deliveries(Context(NOW))
        assert found.service == service.id

    def refusal(self, source: str, start: datetime, count: int, code: str = "signature_mismatch") -> None:
        Refusal.objects.create(
            at=start, source=source, code=code, message="no match", size=1, count=count, last_at=start
        )

    def test_refusals_of_sources_by_what_is_usual(self) -> None:
        source = make_source("stripe")
        self.refusal("stripe", ago(minutes=2), 30)
        self.refusal("stripe", ago(minutes=3), 500, "too_large")
        self.refusal("stripe", ago(hours=5), 144)
        self.refusal("nobody", ago(minutes=2), 500)
        EventCount.objects.create(level=60, source_id=source.id, type="a", start=ago(minutes=2), events=7)
        EventCount.objects.create(level=3600, source_id=source.id, type="a", start=ago(hours=6), events=288)
        [found] = alertrules.read_refused(NOW, RefusedSignatures())
        assert (found.source, found.refused, found.accepted) == ("stripe", 30, 7)
        assert [found.usual_refused, found.usual_accepted] == pytest.approx([1, 2])
        assert found.message == "no match"
        assert [one.severity for one in alertrules.look_at_signatures(Context(NOW))] == ["warning"]

    def test_a_changed_secret_raises_one_alert_that_ends_when_it_fits_again(self) -> None:
        source = make_source("stripe")
        EventCount.objects.create(level=3600, source_id=source.id, type="a", start=ago(hours=6), events=100)
        [_deliveries, signatures] = alertrules.RULES
        self.refusal("stripe", ago(minutes=2), 6)
        for _look in range(3):
            assert watch.run(signatures, Thresholds(), NOW)
        [alert] = alerts.open_alerts(["refused_signatures"])
        assert (alert.key, alert.severity, alert.count) == ("refused-signatures:stripe", "critical", 1)
        EventCount.objects.create(level=60, source_id=source.id, type="a", start=ago(minutes=1), events=1)
        assert watch.run(signatures, Thresholds(), NOW)
        assert alerts.open_alerts(["refused_signatures"]) == []
