"""``/api/admin/forecasts``: what is expected, what became of it, and who may ask."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from ninja.responses import NinjaJSONEncoder

from monitoring.forecasts import listing
from monitoring.forecasts.api_schemas import ListAnswer, Metric
from monitoring.models import Check, Forecast
from tests.callers import person, program
from tests.monitoring.factories import make_check, make_service
from tests.monitoring.forecasts.test_reads import foretell
from wsmon import api

ROOT = "/api/admin/forecasts"
READ = "monitoring:read"
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.django_db


def get(**query: Any) -> Any:
    response = program(READ).get(ROOT, query)
    assert response.status_code == 200, response.content
    return response.json()


def check_of(slug: str) -> Check:
    return make_check(make_service(slug), name="connectivity")


def expect(check: Check, metric: str = "latency", **fields: Any) -> Forecast:
    """A forecast as of now."""
    now = timezone.now()
    times = {
        "made_at": now - HOUR, "renewed_at": now, "crosses_at": now + 5 * HOUR, "expected_at": now + 6 * HOUR,
        "earliest": now + 4 * HOUR, "latest": now + 8 * HOUR,
    }  # fmt: skip
    return foretell(check, metric, **times | fields)


def ended(check: Check, outcome: str, off: timedelta = timedelta(0), metric: str = "latency") -> Forecast:
    """One that was settled, so far from the time said."""
    now = timezone.now()
    return expect(check, metric, outcome=outcome, expected_at=None, points=[], crosses_at=now - off, settled_at=now)


class TestReading:
    def test_what_is_expected_with_its_numbers_in_utc(self) -> None:
        made = expect(check_of("stripe"))
        (row,) = get()["forecasts"]
        assert (row["service"], row["check"], row["metric"], row["state"]) == (
            "stripe", "connectivity", "latency", "open",
        )  # fmt: skip
        assert (row["value"], row["slope"], row["limit"], row["unit"]) == (520, 70, 800, "ms")
        assert (row["confidence"], row["text"], row["settled_at"]) == (0.9, "p95 over 800 ms", None)
        assert made.expected_at is not None
        assert row["crosses_at"].endswith("Z")
        assert datetime.fromisoformat(row["crosses_at"]) == pytest.approx(made.expected_at, abs=timedelta(seconds=1))
        assert datetime.fromisoformat(row["crosses_at"]).tzinfo == UTC

    def test_it_is_answered_as_documented(self) -> None:
        check = check_of("stripe")
        for metric in Metric:
            expect(check, metric.value)
        ended(check, "came")
        found = get()
        assert len(found["forecasts"]) == 5
        told = ListAnswer.model_validate(found).model_dump()
        assert found == json.loads(json.dumps(told, cls=NinjaJSONEncoder))

    def test_without_any_it_is_empty(self) -> None:
        assert get() == {
            "forecasts": [],
            "accuracy": {"total": 0, "came": 0, "averted": 0, "wrong": 0, "half_within": None, "text": None},
            "next_cursor": None,
        }

    def test_each_state_is_told_and_can_be_asked_for(self) -> None:
        check = check_of("stripe")
        rows = {
            "open": expect(check),
            "lapsed": expect(check, "quota", renewed_at=timezone.now() - HOUR),
            "came": ended(check, "came"),
            "averted": ended(check, "averted"),
            "wrong": ended(check, "wrong"),
        }
        found = {row["id"]: row["state"] for row in get()["forecasts"]}
        assert found == {row.id: state for state, row in rows.items()}
        for state, row in rows.items():
            assert [one["id"] for one in get(state=state)["forecasts"]] == [row.id]

    def test_one_without_a_trend_is_lapsed_at_once_and_says_what_was_said_first(self) -> None:
        made = expect(check_of("stripe"), expected_at=None, points=[])
        (row,) = get(state="lapsed")["forecasts"]
        assert (row["value"], row["slope"]) == (made.value, made.slope)
        assert datetime.fromisoformat(row["crosses_at"]) == pytest.approx(made.crosses_at, abs=timedelta(seconds=1))

    def test_by_service_and_metric(self) -> None:
        stripe, resend = check_of("stripe"), check_of("resend")
        for check in (stripe, resend):
            expect(check)
            expect(check, "quota")
        assert {row["service"] for row in get(service="stripe")["forecasts"]} == {"stripe"}
        found = get(service="resend", metric="quota")["forecasts"]
        assert [(row["service"], row["metric"], row["unit"]) for row in found] == [("resend", "quota", "percent")]
        assert get(service="nobody")["forecasts"] == []

    def test_of_checks_and_services_in_use_only(self) -> None:
        check, other = check_of("stripe"), check_of("resend")
        expect(check)
        expect(other)
        Check.objects.filter(id=check.id).update(archived_at=timezone.now())
        type(other.service).objects.filter(id=other.service_id).update(archived_at=timezone.now())
        assert get()["forecasts"] == []

    def test_pages_hold_each_once(self) -> None:
        rows = [expect(check_of(f"s{number}")) for number in range(5)]
        seen, cursor = [], None
        while True:
            found = get(limit=2, **({"cursor": cursor} if cursor else {}))
            seen += [row["id"] for row in found["forecasts"]]
            cursor = found["next_cursor"]
            if not cursor:
                break
        assert seen == [row.id for row in reversed(rows)]

    def test_how_right_they_were_counts_the_same_service_and_metric_in_any_state(self) -> None:
        stripe, resend = check_of("stripe"), check_of("resend")
        for minutes in (10, 12, 30):
            ended(stripe, "came", timedelta(minutes=minutes))
        ended(stripe, "wrong")
        ended(stripe, "averted", metric="quota")
        ended(resend, "wrong")
        old = ended(stripe, "wrong")
        Forecast.objects.filter(id=old.id).update(settled_at=timezone.now() - timedelta(days=91))
        found = get(service="stripe", metric="latency", state="open")["accuracy"]
        assert (found["total"], found["came"], found["averted"], found["wrong"]) == (4, 3, 0, 1)
        assert found["half_within"] == pytest.approx(720, abs=2)
        assert found["text"].startswith("Of 4 forecasts in 90 days 3 came true, half of them within 12 min")

    def test_its_queries_do_not_grow_with_its_rows(self) -> None:
        counts = []
        for number in range(12):
            expect(check_of(f"s{number}"))
            if number in (0, 11):
                with CaptureQueriesContext(connection) as context:
                    listing.page(listing.Filter())
                    listing.record(listing.Filter())
                counts.append(len(context))
        assert counts == [2, 2]


class TestRefusing:
    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ({"cursor": "x"}, "cursor"), ({"cursor": "-1"}, "cursor"), ({"cursor": "9" * 25}, "cursor"),
            ({"cursor": "²"}, "cursor"), ({"metric": "mood"}, "metric"), ({"state": "loud"}, "state"),
            ({"limit": 0}, "limit"), ({"limit": 201}, "limit"), ({"service": "x" * 61}, "service"),
        ],
    )  # fmt: skip
    def test_a_wrong_parameter_is_named(self, query: dict[str, Any], field: str) -> None:
        response = program(READ).get(ROOT, query)
        assert response.status_code == 422
        assert response["Content-Type"] == "application/problem+json"
        assert field in [error["field"] for error in response.json()["errors"]]

    def test_only_those_who_may_read_are_answered(self) -> None:
        assert program("webhooks:read").get(ROOT).status_code == 403
        assert person().get(ROOT).status_code == 403
        assert person("monitoring.view_service").get(ROOT).status_code == 200
        assert program(READ).post(ROOT).status_code == 405

    def test_it_stands_in_the_openapi_document(self) -> None:
        found = api.document()["paths"][ROOT]["get"]
        assert (found["x-scope"], found["tags"]) == (READ, ["forecasts"])
        names = {one["name"] for one in found["parameters"]}
        assert names == {"service", "metric", "state", "cursor", "limit"}
