from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from monitoring.models import CriticalRule, Posture
from tests.callers import person
from tests.monitoring.critical.calendars import NOW
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db
ADMIN = "/admin/monitoring/criticalrule/"


@pytest.fixture(autouse=True)
def posture() -> Posture:
    return Posture.objects.create(until=NOW)


def superuser() -> Client:
    return person(is_superuser=True)


def save(path: str = "add/", **fields: Any) -> Any:
    return superuser().post(f"{ADMIN}{path}", fields)


def look_again() -> bool:
    """Whether what is in force is worked out anew at once."""
    return Posture.objects.get().until is None


def test_a_rule_is_added_as_the_file_would_have_it():
    answer = save(slug="saturdays", settings="every: saturday\ntrail: 2h\n")
    assert answer.status_code == 302
    row = CriticalRule.objects.get()
    assert (row.slug, row.spec, row.lead, row.trail) == ("saturdays", {"every": ["saturday"]}, 7200, 7200)
    assert AuditEntry.objects.filter(action="criticalrule.create", target="criticalrule:saturdays").exists()
    assert look_again()


def test_it_is_shown_as_in_the_file_and_changed():
    row = CriticalRule.objects.create(slug="saturdays", spec={"every": ["saturday"]}, trail=7200)
    body = superuser().get(f"{ADMIN}{row.id}/change/").content.decode()
    assert "every: saturday\ntrail: 2h" in body
    save(f"{row.id}/change/", slug="weekends", settings="every: weekend")
    row.refresh_from_db()
    assert (row.slug, row.spec, row.trail) == ("weekends", {"every": ["saturday", "sunday"]}, 0)
    assert AuditEntry.objects.filter(action="criticalrule.change").exists()
    assert look_again()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("every: caturday", "is not a weekday"),
        ("", "says no days"),
        ("every: saturday\nrenamed_from: x", "renamed_from: has no use here"),
        ("[", "settings"),
    ],
)
def test_a_bad_one_is_refused_with_the_words_of_the_file(settings: str, words: str):
    answer = save(slug="days", settings=settings)
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert not CriticalRule.objects.exists()
    assert not look_again()


def test_a_name_that_is_taken_is_refused_and_an_archived_one_comes_back():
    row = CriticalRule.objects.create(slug="days", spec={"every": ["saturday"]})
    assert "There is a critical rule" in save(slug="days", settings="every: sunday").content.decode()
    CriticalRule.objects.update(archived_at=timezone.now())
    assert save(slug="days", settings="every: sunday").status_code == 302
    row.refresh_from_db()
    assert (row.archived_at, row.spec) == (None, {"every": ["sunday"]})


def test_an_archived_one_makes_room_for_another_of_its_name():
    CriticalRule.objects.create(slug="old", spec={"every": ["saturday"]}, archived_at=timezone.now())
    row = CriticalRule.objects.create(slug="days", spec={"every": ["sunday"]})
    save(f"{row.id}/change/", slug="old", settings="every: sunday")
    assert set(CriticalRule.objects.values_list("slug", flat=True)) == {"old", "old-archived"}


def test_taken_away_it_is_archived():
    row = CriticalRule.objects.create(slug="days", spec={"every": ["saturday"]})
    assert save(f"{row.id}/delete/", post="yes").status_code == 302
    row.refresh_from_db()
    assert row.archived_at is not None
    assert AuditEntry.objects.filter(action="criticalrule.archive").exists()
    assert look_again()


def test_the_list_tells_rules_in_words():
    CriticalRule.objects.create(slug="days", spec={"every": ["saturday"]}, trail=7200)
    assert "every Saturday, 2 h before until 2 h after" in superuser().get(ADMIN).content.decode()


def test_others_see_it_and_change_nothing():
    row = CriticalRule.objects.create(slug="days", spec={"every": ["saturday"]})
    client = person("monitoring.view_criticalrule", "monitoring.change_criticalrule", "monitoring.operate")
    assert "critical" in client.get(f"{ADMIN}{row.id}/change/").content.decode().lower()
    answer = client.post(f"{ADMIN}{row.id}/change/", {"slug": "days", "settings": "every: sunday"})
    assert answer.status_code == 403
    assert client.get(f"{ADMIN}add/").status_code == 403
