"""``webhooks.filters``: reading a filter, and what it finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.webhooks.factories import make_delivery, make_destination, make_event, make_source
from webhooks import filters
from webhooks.filters import BadFilter, Filter
from webhooks.models import Delivery, Event
from webhooks.vocabulary import DeliveryStatus, Lane

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def deliveries(**params: str) -> set[int]:
    return set(Filter.read(params).deliveries().values_list("id", flat=True))


def events(**params: str) -> set[object]:
    return set(Filter.read(params).events().values_list("id", flat=True))


class TestReading:
    """``Filter.read`` and back."""

    def test_it_is_empty_without_anything(self) -> None:
        assert Filter.read({}) == Filter()
        assert Filter().params() == {}
        assert Filter().stored() == {}

    @pytest.mark.parametrize(
        "text",
        [
            "2026-11-21T12:00:00Z",
            "2026-11-21T12:00:00",
            "2026-11-21T13:00:00+01:00",
            "2026-11-21T13:00:00 01:00",  # a plus in a query that was not encoded
            "2026-11-21 12:00",
        ],
    )
    def test_it_reads_times(self, text: str) -> None:
        assert Filter.read({"since": text}).since == NOON

    @time_machine.travel(NOON, tick=False)
    def test_it_reads_durations_as_so_long_ago_and_keeps_them_in_urls(self) -> None:
        found = Filter.read({"since": "24h", "until": "90m"})
        assert (found.since, found.until) == (NOON - timedelta(days=1), NOON - timedelta(minutes=90))
        assert found.params() == {"since": "24h", "until": "90m"}

    @time_machine.travel(NOON, tick=False)
    def test_it_stores_durations_as_moments(self) -> None:
        assert Filter.read({"since": "24h"}).stored() == {"since": "2026-11-20T12:00:00Z"}

    def test_it_comes_back_from_its_url_and_from_the_database(self) -> None:
        found = Filter.read(
            {
                "source": "stripe",
                "type": "invoice.*",
                "status": "failed",
                "destination": "app",
                "since": "2026-11-20T12:00:00Z",
                "until": "2026-11-21T12:00:00.5Z",
                "q": 'data.object.name="Anna B"',
            }
        )
        assert Filter.read(found.params()) == found
        assert Filter.of_stored(found.stored()) == found

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("status", "broken"),
            ("status", "FAILED"),
            ("since", "yesterday"),
            ("since", "2026-13-01"),
            ("until", "9" * 30),
            ("since", "-5m"),
            ("source", "x" * 61),
            ("q", "x" * 301),
            ("q", "a\x00b"),
            ("type", "\ud800"),
        ],
    )
    def test_it_names_the_field_it_cannot_read(self, field: str, value: str) -> None:
        with pytest.raises(BadFilter) as wrong:
            Filter.read({field: value})
        assert wrong.value.field == field
        assert wrong.value.message

    def test_it_refuses_an_end_before_the_start(self) -> None:
        with pytest.raises(BadFilter) as wrong:
            Filter.read({"since": "1h", "until": "2h"})
        assert wrong.value.field == "until"


@pytest.mark.django_db
class TestDeliveries:
    """What deliveries are found."""

    def test_it_finds_all_without_conditions(self) -> None:
        found = {make_delivery().id, make_delivery(status="failed").id}
        assert deliveries() == found

    def test_it_finds_by_source_destination_and_status(self) -> None:
        stripe, app = make_source("stripe"), make_destination("app")
        wanted = make_delivery(make_event(stripe), app, "failed")
        make_delivery(make_event(stripe), app, "delivered")
        make_delivery(make_event(stripe), status="failed")
        make_delivery(make_event(), app, "failed")
        assert deliveries(source="stripe", destination="app", status="failed") == {wanted.id}

    def test_names_that_nobody_has_find_nothing(self) -> None:
        make_delivery()
        assert deliveries(source="nobody") == set()
        assert deliveries(destination="nowhere") == set()
        assert events(source="nobody") == set()
        assert events(destination="nowhere") == set()

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("invoice.paid", {"invoice.paid"}),
            ("invoice.*", {"invoice.paid", "invoice.a_b"}),
            ("*", {"invoice.paid", "invoice.a_b", "invoiceXpaid", "100%", "a\\b"}),
            ("*.paid", {"invoice.paid"}),
            ("*voice*paid", {"invoice.paid", "invoiceXpaid"}),
            ("invoice.a_*", {"invoice.a_b"}),
            ("invoice_*", set()),
            ("*%", {"100%"}),
            ("a\\*", {"a\\b"}),
            ("INVOICE.*", set()),
        ],
    )
    @pytest.mark.parametrize("most", [500, 0])
    def test_it_finds_types_by_pattern(
        self, pattern: str, found: set[str], most: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(filters, "MOST_TYPES", most)
        source, app = make_source(), make_destination()
        for name in ("invoice.paid", "invoice.a_b", "invoiceXpaid", "100%", "a\\b"):
            make_delivery(make_event(source, type=name), app)
        assert set(Filter(type=pattern).deliveries().values_list("type", flat=True)) == found
        assert set(Filter(type=pattern).events().values_list("type", flat=True)) == found

    def test_it_finds_by_time(self) -> None:
        source, app = make_source(), make_destination()
        made = [make_delivery(make_event(source, received_at=NOON + timedelta(hours=hour)), app) for hour in range(3)]
        assert deliveries(since="2026-11-21T13:00:00Z") == {made[1].id, made[2].id}
        assert deliveries(until="2026-11-21T13:00:00Z") == {made[0].id}
        assert events(since="2026-11-21T13:00:00Z", until="2026-11-21T14:00:00Z") == {made[1].event_id}

    def test_it_finds_the_end_by_halving_in_a_long_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(filters, "_FEW", 1)
        source, app = make_source(), make_destination()
        made = [
            make_delivery(make_event(source, received_at=NOON + timedelta(hours=hour)), app) for hour in range(20)
        ]
        Delivery.objects.filter(id__in=[made[3].id, made[9].id]).delete()
        for hour in (0, 1, 4, 10, 19, 30):
            until = NOON + timedelta(hours=hour)
            wanted = {row.id for row in made if row.created_at < until} - {made[3].id, made[9].id}
            found = Filter(until=until).deliveries()
            assert set(found.values_list("id", flat=True)) == wanted
        assert '"id" <' in str(Filter(until=NOON).deliveries().query)

    def test_no_delivery_is_unrouted(self) -> None:
        make_delivery()
        assert deliveries(status="unrouted") == set()

    def test_it_finds_one_delivery_by_its_number(self) -> None:
        wanted = make_delivery()
        make_delivery()
        assert deliveries(q=f"#{wanted.id}") == {wanted.id}
        assert events(q=f"#{wanted.id}") == {wanted.event_id}
        assert deliveries(q="#999999999") == set()
        assert deliveries(q="#" + "9" * 18) == set()

    def test_it_finds_those_of_an_event_by_id_and_by_key(self) -> None:
        wanted = make_delivery(make_event(key="evt_wanted"))
        make_delivery()
        assert deliveries(q=str(wanted.event_id)) == {wanted.id}
        assert deliveries(q="evt_wanted") == {wanted.id}
        assert events(q="evt_wanted") == {wanted.event_id}


@pytest.mark.django_db
class TestEvents:
    """The status of an event."""

    @pytest.mark.parametrize("status", [*DeliveryStatus])
    def test_an_event_has_the_status_of_its_only_delivery(self, status: str) -> None:
        event = make_delivery(status=status).event
        assert events(status=status) == {event.id}
        others = {word for word in (*DeliveryStatus, "unrouted") if word != status}
        assert all(events(status=other) == set() for other in others)

    def test_the_worst_of_several_destinations_counts(self) -> None:
        event = make_event()
        for status in ("delivered", "failed", "pending"):
            make_delivery(event, status=status)
        assert events(status="failed") == {event.id}
        assert events(status="pending") == events(status="delivered") == set()

    def test_only_the_last_delivery_to_a_destination_counts(self) -> None:
        event, app = make_event(), make_destination()
        make_delivery(event, app, "failed")
        make_delivery(event, app, "delivered", lane=Lane.REPLAY)
        assert events(status="delivered") == {event.id}
        assert events(status="failed") == set()

    def test_an_event_without_deliveries_is_unrouted(self) -> None:
        event = make_event()
        make_delivery()
        assert events(status="unrouted") == {event.id}

    def test_what_is_found_by_status_is_what_worst_says(self) -> None:
        """All pairs of statuses at two destinations."""
        statuses = [*DeliveryStatus]
        source, app, crm = make_source(), make_destination(), make_destination()
        expected: dict[str, set[object]] = {word: set() for word in statuses}
        for one in statuses:
            for other in statuses:
                event = make_event(source)
                make_delivery(event, app, one)
                make_delivery(event, crm, other)
                expected[filters.worst({one, other})].add(event.id)
        for word in statuses:
            assert events(status=word) == expected[word]
        assert filters.worst(set()) == "unrouted"

    def test_it_finds_events_that_went_to_a_destination(self) -> None:
        wanted = make_delivery(destination=make_destination("app")).event
        make_delivery()
        assert events(destination="app") == {wanted.id}

    def test_a_search_and_conditions_must_both_hold(self) -> None:
        make_event(type="a.b", key="evt_1")
        assert events(q="evt_1", type="c.*") == set()
        assert len(events(q="evt_1", type="a.*")) == 1

    def test_it_costs_few_queries(self) -> None:
        make_delivery()
        params = {"source": "x", "type": "a.*", "status": "failed", "destination": "y", "since": "1h", "until": "1m"}
        with CaptureQueriesContext(connection) as queries:
            list(Filter.read(params | {"q": "word a=b"}).deliveries().order_by("-id")[:50])
        assert len(queries) <= 8


@pytest.mark.django_db
def test_the_filter_of_events_reads_only_what_it_must() -> None:
    """By time, the primary key bounds what is read."""
    Event.objects.all().delete()
    sql = str(Filter(since=timezone.now()).events().query)
    assert '"webhooks_event"."id" >=' in sql
