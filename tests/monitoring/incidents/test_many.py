"""Thousands of services at once: an incident each, one message, and settling that does not wait for any of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Count, F
from django.utils import timezone

from monitoring import store
from monitoring.incidents import connectivity
from monitoring.incidents import store as incidents
from monitoring.models import (
    Alert,
    Channel,
    Check,
    CheckState,
    Incident,
    IncidentEntry,
    Notification,
    ProbeResult,
    Service,
    StateChange,
)
from monitoring.prober import STORE_LIMIT
from monitoring.store import Finished
from monitoring.verdict import Policy
from providers.base import ProbeOutcome
from tests.monitoring.factories import make_service, outcome
from tests.monitoring.notifications.factories import Sink, make_channel, send_due
from wsmon.vocabulary import Category

SERVICES, CHECKS = 2_500, 2
"""5,000 checks."""


@pytest.fixture(autouse=True)
def no_control_target(settings: Any) -> None:
    settings.CONTROL_TARGETS = []


def fleet(services: int, checks: int = 1, status: str = "healthy") -> list[Check]:
    """Services that were well so far, with their checks."""
    made = Service.objects.bulk_create(
        Service(slug=f"s{number}", provider="http", status=status) for number in range(services)
    )
    options = {"url": "https://vendor.example.com/"}
    found = Check.objects.bulk_create(
        Check(
            service=each, name=f"c{number}", kind="http", interval=10, options=options, confirm_down=1, confirm_up=1
        )
        for each in made
        for number in range(checks)
    )
    now = timezone.now()
    CheckState.objects.bulk_create(
        CheckState(check_ref=each, status=status, recent=[status], outcome=status, checked_at=now) for each in found
    )
    return found


def probed(checks: Sequence[Check], found: ProbeOutcome, begin: datetime, seconds: float = 1.0) -> list[Finished]:
    """A finished probe of each, spread over a time, under leases that are taken here."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE monitoring_checkstate SET lease_token = gen_random_uuid()")
    states = CheckState.objects.in_bulk([check.id for check in checks], field_name="check_ref_id")
    each = timedelta(seconds=seconds) / len(checks)
    return [
        Finished(
            check_id=check.id,
            service_id=check.service_id,
            token=states[check.id].lease_token,  # type: ignore[arg-type]
            policy=Policy(1, 1),
            interval=check.interval,
            due_at=states[check.id].next_due_at,
            at=begin + number * each,
            outcome=found,
        )
        for number, check in enumerate(checks)
    ]


def settle(results: Sequence[Finished]) -> int:
    """In batches as large as the prober makes them."""
    return sum(store.settle(results[first : first + STORE_LIMIT]) for first in range(0, len(results), STORE_LIMIT))


BAD = outcome("critical", category=Category.SERVER_ERROR, message="answered 503")
LOST = outcome("critical", category=Category.NETWORK_ERROR, message="refused")


@pytest.mark.django_db
class TestQueries:
    @pytest.mark.parametrize("number", [1, 50, 500])
    @pytest.mark.parametrize(
        ("found", "most"),
        [
            (BAD, 35),
            (LOST, 44),  # the first time it is us too, and that is an alert by itself
            (outcome("error", category=Category.AUTHENTICATION_ERROR), 35),
        ],
        ids=["theirs", "network", "ours"],
    )
    def test_what_a_batch_asks_of_the_database_does_not_grow_with_it(
        self, number: int, found: ProbeOutcome, most: int, django_assert_max_num_queries: Any
    ) -> None:
        make_channel()
        make_channel(digest=600)
        checks = fleet(number)
        begin = timezone.now()
        for result in (found, outcome(), found):
            begin += timedelta(seconds=10)
            batch = probed(checks, result, begin)
            with django_assert_max_num_queries(most):
                assert store.settle(batch) == number
        if found.outcome == "critical":
            assert Incident.objects.filter(closed_at=None).count() == number
            assert Incident.objects.filter(closed_at__isnull=False).count() == number

    def test_nor_when_they_get_worse_or_were_resolved_by_a_person(self, django_assert_max_num_queries: Any) -> None:
        make_channel()
        checks = fleet(200)
        begin = timezone.now()
        store.settle(probed(checks, outcome("degraded"), begin))
        Incident.objects.filter(id__in=Incident.objects.order_by("id")[:100]).update(
            closed_at=timezone.now(), closed_by="eve"
        )
        batch = probed(checks, BAD, begin + timedelta(seconds=10))
        with django_assert_max_num_queries(40):
            store.settle(batch)
        assert Incident.objects.filter(closed_at=None, worst="critical", status="critical").count() == 200
        kinds = dict(IncidentEntry.objects.values_list("kind").annotate(Count("id")))
        assert kinds == {"opened": 200, "worse": 100, "reopened": 100}


@pytest.mark.django_db(transaction=True)
class TestFiveThousandChecksInASecond:
    @pytest.fixture
    def channels(self, sink: Sink) -> list[Channel]:
        return [make_channel(slug, sink.address) for slug in ("mail", "chat")]

    @pytest.fixture
    def sink(self, loopback_targets: None) -> Iterator[Sink]:
        with Sink() as server:
            yield server

    def test_each_service_has_its_incident_and_each_channel_one_message_and_then_a_count(
        self, channels: list[Channel], sink: Sink
    ) -> None:
        checks = fleet(SERVICES, CHECKS)
        begin = timezone.now()
        assert settle(probed(checks, BAD, begin)) == len(checks) == 5_000
        self.assert_all_settled("critical", results=5_000)
        assert Incident.objects.filter(closed_at=None).count() == SERVICES
        assert Incident.objects.values("service").distinct().count() == SERVICES
        assert IncidentEntry.objects.filter(kind="opened").count() == SERVICES
        assert Alert.objects.filter(kind="incident", resolved_at=None, told_severity="critical").count() == SERVICES

        send_due()
        assert sink.titles == ["2,500 alerts (2,500 critical)"] * len(channels)
        assert all("and 2,490 more" in body["message"] for body in sink.got)
        self.assert_all_told("opened", channels)

        assert settle(probed(checks, outcome(), begin + timedelta(seconds=30))) == 5_000
        self.assert_all_settled("healthy", results=10_000)
        assert not Incident.objects.filter(closed_at=None).exists()
        assert not Alert.objects.filter(resolved_at=None).exists()
        assert send_due() == [], "the storm was just now: what follows is counted"
        self.wait(61)
        send_due()
        assert sink.titles[2:] == ["2,500 resolved"] * len(channels)
        self.assert_all_told("resolved", channels)
        assert send_due() == []

    def test_what_fails_while_the_first_are_told_already_is_counted_a_minute_later(
        self, channels: list[Channel], sink: Sink
    ) -> None:
        checks = fleet(600)
        results = probed(checks, BAD, timezone.now())
        for first in range(0, 600, 100):
            store.settle(results[first : first + 100])
            send_due()
        assert sink.titles == ["100 alerts (100 critical)"] * len(channels)
        self.wait(61)
        send_due()
        assert sink.titles[2:] == ["500 alerts (500 critical)"] * len(channels)
        assert not Notification.objects.filter(state="pending").exists()

    def test_when_nothing_can_be_reached_it_is_us_and_one_alert(self, channels: list[Channel], sink: Sink) -> None:
        checks = fleet(SERVICES, CHECKS)
        begin = timezone.now()
        settle(probed(checks, LOST, begin))
        self.assert_all_settled("critical", results=5_000)
        assert Incident.objects.filter(closed_at=None).count() == SERVICES, "each is on record"
        assert Alert.objects.filter(kind="incident", inhibited_by="own-connectivity").count() == SERVICES
        send_due()
        title = "Our own network: nearly everything is out of reach at once"
        assert sink.titles == [title] * len(channels)

        settle(probed(checks, outcome(), begin + timedelta(seconds=30)))
        connectivity.settle()
        assert not Alert.objects.filter(resolved_at=None).exists()
        send_due()
        assert sink.titles[2:] == [f"Resolved: {title}"] * len(channels)
        self.wait(61)
        assert send_due() == []

    def assert_all_settled(self, status: str, results: int) -> None:
        assert ProbeResult.objects.count() == results
        assert not CheckState.objects.exclude(lease_token=None, status=status).exists()
        assert not Service.objects.exclude(status=status).exists()
        newest = StateChange.objects.filter(check_ref=None, new=status)
        assert newest.values("service").distinct().count() == SERVICES

    def assert_all_told(self, kind: str, channels: list[Channel]) -> None:
        rows = Notification.objects.filter(kind=kind, state="gathered", gathered_in__state="sent")
        told = dict(rows.values_list("channel").annotate(Count("alert", distinct=True)))
        assert told == {channel.id: SERVICES for channel in channels}
        assert not Notification.objects.filter(kind=kind).exclude(state="gathered").exists()

    def wait(self, seconds: int) -> None:
        span = timedelta(seconds=seconds)
        for name in ("due_at", "sent_at", "created_at"):
            Notification.objects.update(**{name: F(name) - span})


@pytest.mark.django_db(transaction=True)
class TestRaces:
    def together(self, *works: Callable[[], object]) -> None:
        """Run functions in threads, all at the same moment."""
        barrier, problems = threading.Barrier(len(works)), []

        def run(work: Callable[[], object]) -> None:
            try:
                barrier.wait(10)
                work()
            except Exception as problem:
                problems.append(problem)
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert problems == []

    def assert_one_each(self, number: int) -> None:
        assert Incident.objects.filter(closed_at=None).count() == Incident.objects.count() == number
        assert Incident.objects.values("service").distinct().count() == number
        assert Alert.objects.filter(kind="incident", resolved_at=None).count() == number
        assert Notification.objects.filter(kind="opened").count() == Notification.objects.count() == number

    def test_two_processes_that_settle_failures_of_the_same_services_make_one_incident_each(self) -> None:
        make_channel()
        checks = fleet(100, 2)
        results = probed(checks, BAD, timezone.now())
        first, second = results[::2], results[1::2][::-1]
        self.together(
            *(
                lambda part=part: [store.settle(part[n : n + 25]) for n in range(0, 100, 25)]
                for part in (first, second)
            )
        )
        assert ProbeResult.objects.count() == 200
        self.assert_one_each(100)

    def test_failures_and_recoveries_at_once_leave_nothing_open_that_is_well(self) -> None:
        make_channel()
        checks = fleet(40)
        now = timezone.now()
        store.settle(probed(checks, BAD, now))
        results = probed(checks, outcome(), now + timedelta(seconds=5))
        self.together(
            lambda: store.settle(results[:30]),
            lambda: store.settle(results[:9:-1]),
            lambda: store.settle([replace(one, token=one.token) for one in results]),
        )
        assert not Incident.objects.filter(closed_at=None).exists()
        assert not Alert.objects.filter(resolved_at=None).exists()
        assert Notification.objects.filter(kind="resolved").count() == 40

    def test_even_without_the_services_locks_the_second_finds_it_open_and_tells_nothing(self) -> None:
        """The last guard is the database's: one open incident of a service."""
        make_channel()
        service = make_service("stripe", status="critical")
        opened, looked = threading.Event(), threading.Event()

        def follow() -> None:
            incidents.follow({service.id: service}, [], {service.id: timezone.now()})

        def first() -> None:
            with transaction.atomic():
                follow()
                opened.set()
                looked.wait(0.5)  # the second stands at the constraint now

        def second() -> None:
            opened.wait(10)
            with transaction.atomic():
                follow()
            looked.set()

        self.together(first, second)
        self.assert_one_each(1)
        assert Alert.objects.get().count == 1
