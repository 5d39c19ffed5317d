"""What pages read: rates from the counts, what waits and why, lists; a fixed number of queries."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from monitoring.models import Breaker
from tests.webhooks.factories import make_delivery, make_destination, make_event, make_route, make_source
from tests.webhooks.story import tell
from webhooks import reads
from webhooks.filters import Filter
from webhooks.models import Delivery, DeliveryCount, DestinationState, EventCount, Route
from webhooks.reads import Rate
from webhooks.vocabulary import Lane

pytestmark = pytest.mark.django_db


def standing(slug: str) -> reads.Standing:
    waits = reads.waiting()
    found = reads.standings(reads.destinations(), waits)
    return next(one for one in found.values() if one.destination.slug == slug)


class TestFailed:
    def test_it_counts_what_waits_for_a_person(self) -> None:
        told = tell()
        assert reads.failed() == 3
        make_delivery(told.failed[0].event, told.ledger, "pending", lane=Lane.REPLAY)
        assert reads.failed() == 2, "somebody sent it again"
        make_delivery(told.failed[1].event, told.app, "pending", lane=Lane.REPLAY)
        assert reads.failed() == 2, "elsewhere does not count"


class TestRates:
    def test_they_are_summed_by_source_and_destination(self) -> None:
        told = tell()
        found = reads.rates("1h")
        rate = found[told.stripe.id, told.app.id]
        assert (rate.tries, rate.tries_failed, rate.delivered, rate.failed, rate.finished) == (8, 2, 6, 2, 8)
        assert rate.success == 0.75
        assert rate.mark == "critical"
        assert rate.p95_ms == pytest.approx(100, rel=0.07)
        assert sum(rate.tries for rate in found.values()) == 16
        assert (told.stripe.id, told.mailer.id) not in found

    def test_what_is_older_than_the_period_is_left_out(self) -> None:
        tell()
        DeliveryCount.objects.update(start=timezone.now() - timedelta(hours=30))
        assert reads.rates("24h") == {}
        assert len(reads.rates("7d")) == 2

    @pytest.mark.parametrize(
        ("failed", "mark"), [(0, "healthy"), (1, "healthy"), (2, "degraded"), (10, "degraded"), (11, "critical")]
    )
    def test_a_share_has_a_mark(self, failed: int, mark: str) -> None:
        assert Rate(tries=100, tries_failed=failed).mark == mark

    def test_without_tries_there_is_none(self) -> None:
        assert (Rate().success, Rate().mark, Rate().p95_ms) == (None, "none", None)

    def test_events_and_repeats_are_counted_by_source(self) -> None:
        told = tell()
        assert reads.received() == {period: {told.stripe.id: (12, 2)} for period in reads.PERIODS}
        EventCount.objects.update(start=timezone.now() - timedelta(hours=30))
        assert reads.received() == {"1h": {}, "24h": {}, "7d": {told.stripe.id: (12, 2)}}

    def test_those_of_a_destination_are_summed_by_period(self) -> None:
        told = tell()
        found = reads.rates_of_destinations()
        assert list(found) == list(reads.PERIODS)
        for period, by_destination in found.items():
            rate = by_destination[told.app.id]
            assert (rate.tries, rate.tries_failed, rate.delivered, rate.failed) == (8, 2, 6, 2), period
            assert told.mailer.id not in by_destination
        DeliveryCount.objects.update(start=timezone.now() - timedelta(hours=30))
        found = reads.rates_of_destinations()
        assert (found["1h"], found["24h"][told.app.id].tries, found["7d"][told.app.id].tries) == ({}, 0, 8)


class TestStandings:
    def test_an_open_breaker_holds_and_lets_go_by_itself(self) -> None:
        tell()
        one = standing("app")
        assert (one.hold, one.mode, one.waiting, one.by_itself) == ("breaker", "OPEN", 4, True)
        assert one.since == Breaker.objects.get().since

    def test_a_forced_breaker_holds_until_somebody_ends_that(self) -> None:
        told = tell()
        Breaker.objects.update(forced="OPEN", forced_by="grace", forced_reason="x", forced_at=told.now)
        assert (standing("app").by_itself, standing("app").since) == (False, told.now)
        Breaker.objects.update(forced_until=told.now + timedelta(hours=1))
        assert standing("app").by_itself

    def test_paused_and_disabled_go_before_the_breaker(self) -> None:
        told = tell()
        assert (standing("mailer").hold, standing("mailer").by_itself) == ("paused", False)
        DestinationState.objects.filter(destination=told.app).update(disabled_at=told.now)
        assert (standing("app").hold, standing("app").by_itself) == ("disabled", False)
        told.app.health_url = "https://app.example.com/health"
        told.app.save()
        assert standing("app").by_itself, "wsmon asks its health URL"

    def test_one_without_state_and_breaker_is_plain(self) -> None:
        destination = make_destination("plain")
        DestinationState.objects.all().delete()
        one = standing("plain")
        assert (one.hold, one.since, one.mode, one.breaker) == ("", None, "CLOSED", None)
        assert one.destination == destination

    def test_what_waits_is_counted_up_to_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tell()
        monkeypatch.setattr(reads, "WAITING_COUNTED", 3)
        assert standing("app").waiting == 3


class TestRoutes:
    def test_what_is_held_comes_first_and_pairs_are_one_line(self) -> None:
        told = tell()
        make_route(told.stripe, told.app, ["customer.*"], priority=2)
        Route.objects.filter(source=told.resend).update(archived_at=told.now)
        waits = reads.waiting()
        views = reads.routes("1h", reads.standings(reads.destinations(), waits), waits)
        assert [(view.source, view.standing.destination.slug) for view in views] == [
            ("stripe", "app"),
            ("stripe", "ledger"),
        ]
        assert views[0].priorities == ["critical", "normal"]
        assert views[0].events == ["payment_intent.*", "invoice.*", "customer.*"]
        assert (views[0].waiting, views[0].rate.tries, views[0].is_capped) == (4, 8, False)

    def test_one_that_takes_everything_names_no_patterns(self) -> None:
        told = tell()
        make_route(told.stripe, told.app)
        waits = reads.waiting()
        views = reads.routes("1h", reads.standings(reads.destinations(), waits), waits)
        assert next(view for view in views if view.standing.destination == told.app).events == []


class TestLists:
    def test_they_are_paged_newest_first(self) -> None:
        source = make_source("stripe")
        to = make_destination()
        rows = [make_delivery(make_event(source), to) for _ in range(5)]
        first = reads.page_of_deliveries(Filter(), None, 2)
        assert [row.id for row in first] == [rows[4].id, rows[3].id, rows[2].id], "one more says that there is more"
        second = reads.page_of_deliveries(Filter(), rows[3].id, 2)
        assert [row.id for row in second] == [rows[2].id, rows[1].id, rows[0].id]
        assert [row.id for row in reads.deliveries_by_id([rows[0].id, rows[4].id])] == [rows[4].id, rows[0].id]
        assert reads.newer(Filter(), rows[2].id) == 2
        assert reads.newer(Filter(), rows[0].id, limit=3) == 3

    def test_events_without_a_route_are_listed_too(self) -> None:
        events = [make_event(received_at=timezone.now() + timedelta(seconds=n)) for n in range(3)]
        found = reads.page_of_events(Filter(status="unrouted"), None, 1)
        assert [event.id for event in found] == [events[2].id, events[1].id]
        found = reads.page_of_events(Filter(status="unrouted"), events[1].id, 1)
        assert [event.id for event in found] == [events[0].id]
        assert reads.counted(Filter(status="unrouted")) == 3

    def test_counting_ends_at_a_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tell()
        assert reads.counted(Filter()) == Delivery.objects.count()
        monkeypatch.setattr(reads, "COUNTED", 4)
        assert reads.counted(Filter()) == 4

    def test_a_page_takes_one_query(self, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        tell()
        with django_assert_num_queries(1):
            for row in reads.page_of_deliveries(Filter(), None, 50):
                assert row.event.subject
                assert row.destination.slug
                assert row.source.slug


def test_the_number_of_queries_does_not_grow(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    tell()
    for _ in range(5):
        make_route(make_source(), make_destination())
    with django_assert_num_queries(9):
        waits = reads.waiting()
        found = reads.standings(reads.destinations(), waits)
        assert len(reads.routes("24h", found, waits)) == 8
