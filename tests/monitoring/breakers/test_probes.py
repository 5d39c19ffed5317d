"""wsmon's own probes: they feed their service's breaker, and its trial is the only probe while it is open."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from monitoring import claims, selfwatch, store
from monitoring.breakers import store as breakers
from monitoring.breakers.judging import of_probe
from monitoring.breakers.machine import Mode
from monitoring.breakers.policy import Kind
from monitoring.models import Breaker, BreakerTransition, CheckState, RecoveryFactor, Service
from tests.monitoring.factories import finished, make_check, make_service, outcome
from tests.monitoring.fakes import Vendors, down, healthy
from tests.monitoring.test_prober import make, running, stored
from tests.whole import eventually
from wsmon.vocabulary import Category


def claimed() -> set[str]:
    found = claims.claim(uuid.uuid4(), 100, {}, 100)
    claims.release([state.lease_owner for state in CheckState.objects.exclude(lease_owner=None) if state.lease_owner])
    return {one.name for one in found}


def hold(service: Service, **fields: Any) -> Breaker:
    defaults: dict[str, Any] = {
        "state": "OPEN", "opened_at": timezone.now() - timedelta(seconds=10), "open_for": 30, "since": timezone.now()
    }  # fmt: skip
    Breaker.objects.filter(service=service).delete()
    return Breaker.objects.create(service=service, **defaults | fields)


TRIAL = {"token": "x", "until": (timezone.now() + timedelta(seconds=9)).isoformat(), "by": "a"}


@pytest.mark.django_db
class TestClaims:
    @pytest.fixture
    def service(self) -> Service:
        service = make_service("site")
        for name in ("one", "two"):
            make_check(service, name=name)
        make_check(service, "heartbeat", name="job")
        make_check(service, "status_page", name="their-word")
        make_check(make_service("other"), name="other")
        return service

    everything = {"one", "two", "job", "their-word", "other"}
    held = {"job", "their-word", "other"}

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({}, held),
            ({"state": "CLOSED"}, everything),
            ({"open_for": 5}, held | {"two"}),
            ({"open_for": 5, "not_before": timezone.now() + timedelta(hours=1)}, held),
            ({"open_for": 5, "trials": [TRIAL]}, held),
            ({"open_for": 5, "state": "HALF_OPEN"}, held | {"two"}),
            ({"open_for": 5, "state": "HALF_OPEN", "trials": [TRIAL]}, held),
            ({"forced": "OPEN"}, everything),
            ({"forced": "CLOSED"}, everything),
        ],
        ids=[
            "open", "closed", "open and due", "asked to wait", "a trial runs", "half open", "half open, a trial runs",
            "forced open", "forced closed",
        ],
    )  # fmt: skip
    def test_an_open_breaker_holds_its_checks(self, service: Service, fields: Any, expected: set[str]):
        CheckState.objects.filter(check_ref__name="two").update(status="critical")
        hold(service, **fields)
        assert claimed() == expected

    def test_the_trial_is_made_with_the_check_that_failed_last(self, service: Service):
        hold(service, open_for=5)
        CheckState.objects.filter(check_ref__name="one").update(outcome="healthy", status="critical")
        CheckState.objects.filter(check_ref__name="two").update(outcome="critical", status="healthy")
        assert claimed() == self.held | {"two"}

    def test_a_critical_day_lets_the_trial_come_sooner(self, service: Service):
        hold(service, open_for=15)
        assert claimed() == self.held
        RecoveryFactor.objects.create(factor=0.5)
        assert claimed() == self.held | {"one"}

    def test_what_it_holds_is_not_late(self, service: Service):
        CheckState.objects.update(next_due_at=timezone.now() - timedelta(seconds=100))
        assert selfwatch.look().lateness_s == pytest.approx(100, abs=5)
        CheckState.objects.exclude(check_ref__service=service).update(next_due_at=timezone.now())
        CheckState.objects.filter(check_ref__name__in=["job", "their-word"]).update(next_due_at=timezone.now())
        hold(service)
        assert selfwatch.look().lateness_s < 5


@pytest.mark.parametrize(
    ("kind", "word", "category", "expected"),
    [
        ("http", "healthy", None, Kind.OK),
        ("http", "degraded", None, Kind.OK),
        ("http", "critical", Category.TIMEOUT_ERROR, Kind.FAIL),
        ("authentication", "error", Category.AUTHENTICATION_ERROR, Kind.CREDENTIAL),
        ("functionality", "degraded", Category.RATE_LIMITED, Kind.LIMITED),
        ("connectivity", "healthy", Category.RATE_LIMITED, Kind.OK),
        ("http", "error", Category.CONFIGURATION_ERROR, Kind.NEUTRAL),
        ("http", "error", Category.UNKNOWN_ERROR, Kind.NEUTRAL),
        ("heartbeat", "critical", None, Kind.NEUTRAL),
        ("status_page", "critical", None, Kind.NEUTRAL),
    ],
)
def test_what_a_probe_counts_as(kind: str, word: str, category: Category | None, expected: Kind):
    assert of_probe(kind, outcome(word, category=category)).kind is expected


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("syncer")
class TestProber:
    def fast(self, check_interval: float = 0.1) -> Service:
        """A service of a fake vendor, probed ten times a second, whose breaker is tried after a second."""
        (check,) = make(1, interval=check_interval)
        check.service.breaker = {"policy": "counting", "recovery_timeout": 1.0, "recovery_max": 1.0}
        check.service.save()
        return check.service

    def test_failing_probes_open_it_and_then_there_are_only_trials(self, vendors: Vendors):
        vendors.fake.answer = down
        service = self.fast()
        with running():
            eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "it opens")
            before = vendors.fake.total
            eventually(lambda: BreakerTransition.objects.filter(trigger="trial failed").count() >= 2, "trials fail")
            probes = vendors.fake.total - before
            trials = BreakerTransition.objects.filter(trigger="trial admitted").count()
        assert probes <= trials + 1, "nothing but trials was probed"
        assert Service.objects.get(id=service.id).status == "critical"

    def test_a_trial_that_succeeds_closes_it_and_probing_goes_on(self, vendors: Vendors):
        vendors.fake.answer = down
        service = self.fast()
        with running():
            eventually(lambda: Breaker.objects.filter(state="OPEN").exists(), "it opens")
            vendors.fake.answer = healthy
            eventually(lambda: Breaker.objects.filter(state="CLOSED").exists(), "it closes")
            eventually(lambda: Service.objects.get(id=service.id).status == "healthy", "the service is healthy")
        assert BreakerTransition.objects.filter(trigger="trial succeeded").count() == 1

    def test_one_forced_open_is_watched_all_the_same(self, vendors: Vendors):
        service = self.fast()
        breakers.force(service.id, Mode.OPEN, "ann", "moving house", None)
        with running():
            stored(list(service.checks.all()), 3)
        assert not Breaker.objects.exclude(forced="OPEN").exists()
        found = Service.objects.get(id=service.id)
        assert (found.status, found.reason) == ("degraded", "its breaker is open: moving house")


@pytest.mark.django_db
class TestStatus:
    def test_an_open_breaker_makes_its_service_degraded_at_best(self):
        service = make_service()
        check = make_check(service, confirm_down=1, confirm_up=1)
        store.settle([finished(check)])
        assert Service.objects.get().status == "healthy"
        breakers.force(service.id, Mode.OPEN, "ann", "moving house", None)
        assert Service.objects.get().status == "degraded"
        change = service.changes.filter(check_ref=None).first()
        assert change is not None
        assert (change.new, change.category) == ("degraded", "BREAKER_OPEN")
        CheckState.objects.update(next_due_at=Now())
        store.settle([finished(check, outcome("critical"))])
        assert Service.objects.get().status == "critical"
        store.settle([finished(check)])
        breakers.reset(service.id, "ann", "")
        assert Service.objects.get().status == "healthy"
