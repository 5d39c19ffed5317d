"""What people do to incidents: each once, each told, each audited."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from monitoring.actions import Refused
from monitoring.incidents import actions, store
from monitoring.incidents.actions import Taken
from monitoring.models import Alert, Incident, IncidentEntry, Service
from tests.monitoring.incidents.makers import open_incident, probe, vendor
from wsmon.audit import Actor
from wsmon.models import AuditEntry

OPS = Actor.system("ops")


def person(name: str = "ann") -> Actor:
    return Actor(User.objects.create_user(name, is_staff=True), name)


def entry(incident: Incident) -> IncidentEntry:
    found = incident.entries.first()
    assert found is not None
    return found


@pytest.mark.django_db
class TestAcknowledging:
    def test_it_says_who_has_it_and_stops_the_escalation(self) -> None:
        probe(vendor(), "hcc")
        Alert.objects.update(next_step_at=timezone.now())
        ann = person()
        found = actions.acknowledge(Incident.objects.get().id, ann, "by the link in the message")
        assert (found.acknowledged_by, found.assignee) == ("ann", ann.user)
        alert = Alert.objects.get()
        assert (alert.acknowledged_by, alert.acknowledged_at) == ("ann", found.acknowledged_at)
        assert alert.next_step_at is None
        assert (entry(found).by, entry(found).text) == ("ann", "acknowledged by the link in the message")
        row = AuditEntry.objects.get(action="incident.acknowledge")
        assert (row.target, row.details) == (f"incident:{found.id}", {"service": "stripe"})

    def test_the_second_is_told_who_was_first(self) -> None:
        incident = open_incident()
        actions.acknowledge(incident.id, person())
        with pytest.raises(Taken) as taken:
            actions.acknowledge(incident.id, person("bob"))
        assert taken.value.by == "ann"
        incident.refresh_from_db()
        assert incident.acknowledged_by == "ann"
        assert incident.entries.count() == 1

    def test_what_is_over_cannot_be_acknowledged(self) -> None:
        incident = open_incident(closed_at=timezone.now())
        with pytest.raises(Refused, match="over"):
            actions.acknowledge(incident.id, OPS)

    def test_whoever_was_assigned_stays(self) -> None:
        incident, ann = open_incident(), person()
        actions.assign(incident.id, ann.user, OPS)
        assert actions.acknowledge(incident.id, person("bob")).assignee == ann.user


@pytest.mark.django_db(transaction=True)
class TestAtOnce:
    def together(self, *works: Callable[[], Any]) -> list[Any]:
        barrier, found = threading.Barrier(len(works)), [None] * len(works)

        def run(number: int) -> None:
            try:
                barrier.wait(10)
                found[number] = works[number]()
            except Refused as why:
                found[number] = why  # type: ignore[call-overload]
            finally:
                connection.close()

        threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return found

    def test_of_two_who_acknowledge_one_wins_and_the_other_is_told(self) -> None:
        for number in range(5):
            incident = open_incident(vendor(f"stripe-{number}").service)
            names = ("ann", "bob")
            found = self.together(*(partial(actions.acknowledge, incident.id, Actor.system(one)) for one in names))
            (lost,) = [one for one in found if isinstance(one, Taken)]
            (won,) = [one for one in found if isinstance(one, Incident)]
            assert lost.by == won.acknowledged_by
            assert incident.entries.count() == 1

    def test_resolving_while_it_recovers_closes_it_once(self) -> None:
        for number in range(5):
            check = vendor(f"stripe-{number}")
            probe(check, "hcch")
            incident = Incident.objects.get(service=check.service)
            self.together(
                lambda: actions.resolve(incident.id, "fixed", OPS),  # noqa: B023
                lambda: probe(check, "h"),  # noqa: B023
            )
            incident.refresh_from_db()
            assert incident.closed_at is not None
            assert incident.entries.filter(kind="resolved").count() == 1
            assert not Alert.objects.filter(resolved_at=None).exists()


@pytest.mark.django_db
class TestAssigning:
    def test_to_somebody_and_to_nobody(self) -> None:
        incident, ann = open_incident(), person()
        assert actions.assign(incident.id, ann.user, OPS).assignee == ann.user
        assert entry(incident).text == "assigned it to ann"
        assert actions.assign(incident.id, None, OPS).assignee is None
        assert entry(incident).text == "assigned it to nobody"
        assert AuditEntry.objects.filter(action="incident.assign").count() == 2

    def test_an_account_that_goes_leaves_the_incident(self) -> None:
        incident, ann = open_incident(), person()
        actions.assign(incident.id, ann.user, OPS)
        assert ann.user is not None
        ann.user.delete()
        incident.refresh_from_db()
        assert incident.assignee is None


@pytest.mark.django_db
class TestNotes:
    def test_a_note_enters_the_timeline(self) -> None:
        incident = open_incident()
        actions.note(incident.id, "  switched to the other region \0", OPS)
        assert (entry(incident).kind, entry(incident).by) == ("note", "ops")
        assert entry(incident).detail == "switched to the other region "

    def test_secrets_in_it_are_masked(self) -> None:
        incident = open_incident()
        actions.note(incident.id, "used sk_live_abcdefghijklmnop1234 there", OPS)
        assert "abcdefghijklmnop" not in entry(incident).detail
        assert "abcdefghijklmnop" not in AuditEntry.objects.get().reason

    @pytest.mark.parametrize("text", ["", "   "])
    def test_it_needs_words(self, text: str) -> None:
        with pytest.raises(Refused):
            actions.note(open_incident().id, text, OPS)

    def test_also_when_it_is_over(self) -> None:
        actions.note(open_incident(closed_at=timezone.now()).id, "learned", OPS)

    def test_one_that_does_not_exist(self) -> None:
        with pytest.raises(Incident.DoesNotExist):
            actions.note(1, "x", OPS)


@pytest.mark.django_db
class TestResolvingAndReopening:
    def test_resolving_needs_a_reason_and_tells_everybody(self) -> None:
        probe(vendor(), "hcc")
        incident = Incident.objects.get()
        with pytest.raises(Refused):
            actions.resolve(incident.id, " ", OPS)
        found = actions.resolve(incident.id, "known issue", OPS)
        assert (found.closed_by, entry(found).text) == ("ops", "resolved it: known issue")
        assert Alert.objects.get().resolved_at is not None
        row = AuditEntry.objects.get(action="incident.resolve")
        assert (row.reason, row.details["service_is"]) == ("known issue", "critical")
        with pytest.raises(Refused, match="over"):
            actions.resolve(incident.id, "again", OPS)

    def test_reopening_raises_its_alert_again_and_nobody_has_it(self) -> None:
        probe(vendor(), "hcchh")
        incident = Incident.objects.get()
        Incident.objects.update(acknowledged_at=timezone.now(), acknowledged_by="ann")
        found = actions.reopen(incident.id, "not over", OPS)
        assert (found.closed_at, found.acknowledged_at, found.acknowledged_by) == (None, None, "")
        assert Alert.objects.get(resolved_at=None).key == store.key_of(incident)
        with pytest.raises(Refused, match="open already"):
            actions.reopen(incident.id, "again", OPS)

    def test_only_one_of_a_service_may_be_open(self) -> None:
        service = vendor().service
        old = open_incident(service, closed_at=timezone.now(), began_at=timezone.now() - timedelta(days=1))
        new = open_incident(service)
        with pytest.raises(Refused, match=f"#{new.id}"):
            actions.reopen(old.id, "x", OPS)

    def test_not_of_a_service_that_was_removed(self) -> None:
        incident = open_incident(closed_at=timezone.now())
        Service.objects.update(archived_at=timezone.now())
        with pytest.raises(Refused, match="removed"):
            actions.reopen(incident.id, "x", OPS)
