"""Forcing, releasing and resetting a breaker: what they do, what they refuse, what they leave behind."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from monitoring.actions import Refused
from monitoring.breakers import actions, store
from monitoring.breakers.machine import Mode
from monitoring.models import Breaker, BreakerTransition, Service
from tests.monitoring.factories import make_service
from wsmon.audit import Actor
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

GRACE = Actor.system("grace")


@pytest.fixture
def service() -> Service:
    return make_service("stripe", name="Stripe")


def effective() -> Mode:
    return store.read(["stripe"])["stripe"].state.effective


class TestForce:
    @pytest.mark.parametrize("mode", [Mode.OPEN, Mode.CLOSED])
    def test_it_puts_a_persons_word_above_the_state_and_leaves_an_audit_row(
        self, service: Service, mode: Mode
    ) -> None:
        actions.force(service, mode, GRACE, " the vendor moves ", 600)
        row = Breaker.objects.get(service=service)
        assert (row.forced, row.forced_by, row.forced_reason) == (mode, "grace", "the vendor moves")
        assert row.forced_until is not None
        assert timedelta(minutes=9) < row.forced_until - timezone.now() <= timedelta(minutes=10)
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.target, entry.actor_name) == ("breaker.force", "breaker:stripe", "grace")
        assert entry.reason == "the vendor moves"
        assert entry.details == {"state": mode.value, "until": row.forced_until.isoformat()}
        assert effective() is mode

    def test_without_a_time_it_holds_until_somebody_ends_it(self, service: Service) -> None:
        actions.force(service, Mode.OPEN, GRACE, "for good", None)
        assert Breaker.objects.get().forced_until is None
        assert AuditEntry.objects.get().details == {"state": "OPEN", "until": None}

    @pytest.mark.parametrize(
        ("mode", "reason", "seconds"),
        [
            (Mode.OPEN, "", 600),
            (Mode.OPEN, " \n", 600),
            (Mode.HALF_OPEN, "why not", 600),
            (Mode.OPEN, "why not", 0),
            (Mode.OPEN, "why not", -1),
            (Mode.OPEN, "why not", float("nan")),
            (Mode.OPEN, "why not", float("inf")),
            (Mode.OPEN, "why not", 400 * 86_400.0),
        ],
    )
    def test_what_makes_no_sense_is_refused_and_changes_nothing(
        self, service: Service, mode: Mode, reason: str, seconds: float
    ) -> None:
        with pytest.raises(Refused):
            actions.force(service, mode, GRACE, reason, seconds)
        assert not Breaker.objects.exists()
        assert not AuditEntry.objects.exists()
        assert not BreakerTransition.objects.exists()

    def test_a_service_that_was_removed_meanwhile_is_refused(self, service: Service) -> None:
        Service.objects.update(archived_at=timezone.now())
        with pytest.raises(Refused, match="does not exist"):
            actions.force(service, Mode.OPEN, GRACE, "why not", None)
        assert not AuditEntry.objects.exists()

    def test_a_long_reason_is_cut_and_what_cannot_be_stored_left_out(self, service: Service) -> None:
        actions.force(service, Mode.OPEN, GRACE, "\x00" + "é" * 600, None)
        assert Breaker.objects.get().forced_reason == "é" * 500

    def test_a_failed_audit_undoes_the_force(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(actions, "record", lambda *_args, **_more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            actions.force(service, Mode.OPEN, GRACE, "why not", None)
        assert effective() is Mode.CLOSED

    def test_pages_are_told(self, service: Service) -> None:
        with CaptureQueriesContext(connection) as seen:
            actions.force(service, Mode.OPEN, GRACE, "why not", None)
        assert any('["breaker",{"services":' in query["sql"] for query in seen)


class TestRelease:
    def test_it_ends_a_force(self, service: Service) -> None:
        actions.force(service, Mode.OPEN, GRACE, "why not", None)
        assert actions.release(service, GRACE, "") is True
        assert effective() is Mode.CLOSED
        entry = AuditEntry.objects.latest("id")
        assert (entry.action, entry.details) == ("breaker.release", {"state": "CLOSED", "until": None})

    def test_where_none_holds_it_does_nothing(self, service: Service) -> None:
        assert actions.release(service, GRACE, "why not") is False
        assert not AuditEntry.objects.exists()


class TestReset:
    def test_it_closes_and_forgets(self, service: Service) -> None:
        Breaker.objects.create(
            service=service, state="OPEN", openings=4, opened_at=timezone.now(), since=timezone.now(), open_for=300
        )
        actions.reset(service, GRACE)
        row = Breaker.objects.get()
        assert (row.state, row.openings, row.opened_at) == ("CLOSED", 0, None)
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.reason) == ("breaker.reset", "")

    def test_it_ends_a_force_too(self, service: Service) -> None:
        actions.force(service, Mode.OPEN, GRACE, "why not", None)
        actions.reset(service, GRACE, "it works again")
        assert effective() is Mode.CLOSED
        assert AuditEntry.objects.latest("id").reason == "it works again"

    def test_a_service_that_was_removed_meanwhile_is_refused(self, service: Service) -> None:
        Service.objects.update(archived_at=timezone.now())
        with pytest.raises(Refused):
            actions.reset(service, GRACE)
