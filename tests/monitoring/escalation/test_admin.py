"""Rotations, escalations and thresholds in the admin: under the file's rules, superusers only, audited."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from monitoring.alertrules import thresholds
from monitoring.models import AlertThresholds, Channel, Escalation, Rotation
from tests.callers import colleague
from tests.monitoring.factories import make_service
from wsmon.models import AuditEntry
from wsmon.roles import OPERATORS, VIEWERS

pytestmark = pytest.mark.django_db
ROTATIONS, ESCALATIONS, THRESHOLDS = (
    f"/admin/monitoring/{name}/" for name in ("rotation", "escalation", "alertthresholds")
)
PEOPLE = "people: [{name: Ana, channels: [chat]}]"


@pytest.fixture
def root() -> Client:
    Channel.objects.create(slug="chat")
    return colleague("root", superuser=True)


def errors(response: Any) -> str:
    return str(response.context["errors"])


class TestRotations:
    def test_adding_changing_and_archiving(self, root: Client) -> None:
        assert root.post(f"{ROTATIONS}add/", {"slug": "ops", "settings": PEOPLE}).status_code == 302
        row = Rotation.objects.get()
        assert row.people == [{"name": "Ana", "channels": ["chat"]}]
        page = f"{ROTATIONS}{row.pk}/change/"
        assert "name: Ana" in root.get(page).content.decode()
        changed = root.post(page, {"slug": "team", "settings": f"{PEOPLE}\nhandover: 10:00"})
        assert changed.status_code == 302
        row.refresh_from_db()
        assert (row.slug, row.handover.hour) == ("team", 10)
        assert root.post(f"{ROTATIONS}{row.pk}/delete/", {"post": "yes"}).status_code == 302
        row.refresh_from_db()
        assert row.archived_at is not None
        assert list(AuditEntry.objects.order_by("id").values_list("action", "target")) == [
            ("rotation.create", "rotation:ops"),
            ("rotation.change", "rotation:team"),
            ("rotation.archive", "rotation:team"),
        ]

    def test_the_same_again_is_no_change(self, root: Client) -> None:
        root.post(f"{ROTATIONS}add/", {"slug": "ops", "settings": PEOPLE})
        row = Rotation.objects.get()
        root.post(f"{ROTATIONS}{row.pk}/change/", {"slug": "ops", "settings": PEOPLE})
        assert AuditEntry.objects.count() == 1

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ("people: []", "people"),
            ("people: [{name: Ana, channels: [nochat]}]", "is not a channel"),
            (f"{PEOPLE}\nrenamed_from: x", "has no use here"),
            ("people: [", "is not valid YAML"),
            ("- a", "key: value"),
        ],
    )
    def test_it_is_judged_as_the_file_is(self, root: Client, settings: str, problem: str) -> None:
        response = root.post(f"{ROTATIONS}add/", {"slug": "ops", "settings": settings})
        assert response.status_code == 200
        assert problem in errors(response)
        assert not Rotation.objects.exists()

    def test_an_archived_one_of_that_name_comes_back_or_makes_room(self, root: Client) -> None:
        old = Rotation.objects.create(slug="ops", people=[], archived_at=timezone.now())
        root.post(f"{ROTATIONS}add/", {"slug": "ops", "settings": PEOPLE})
        old.refresh_from_db()
        assert (old.archived_at, len(old.people)) == (None, 1)
        gone = Rotation.objects.create(slug="team", people=[], archived_at=timezone.now())
        root.post(f"{ROTATIONS}{old.pk}/change/", {"slug": "team", "settings": PEOPLE})
        gone.refresh_from_db()
        assert gone.slug == "team-archived"
        twice = root.post(f"{ROTATIONS}add/", {"slug": "team", "settings": PEOPLE})
        assert "already" in errors(twice)

    def test_others_read_at_most(self, root: Client) -> None:
        root.post(f"{ROTATIONS}add/", {"slug": "ops", "settings": PEOPLE})
        row = Rotation.objects.get()
        page = f"{ROTATIONS}{row.pk}/change/"
        for client in (colleague("olga", OPERATORS), colleague("vera", VIEWERS)):
            assert client.post(page, {"slug": "x", "settings": PEOPLE}).status_code == 403
            assert client.get(f"{ROTATIONS}add/").status_code == 403
            assert client.post(f"{ROTATIONS}{row.pk}/delete/", {"post": "yes"}).status_code == 403
        reader = colleague("vera2", VIEWERS)
        assert "Ana" in reader.get(page).content.decode()
        assert "Ana" in root.get(ROTATIONS).content.decode()


class TestEscalations:
    def test_adding_one(self, root: Client) -> None:
        settings = "steps: [{notify: [chat]}, {after: 5m, notify: ['rotation:ops']}]"
        refused = root.post(f"{ESCALATIONS}add/", {"slug": "ops", "settings": settings})
        assert "is not a rotation" in errors(refused)
        Rotation.objects.create(slug="ops", people=[])
        assert root.post(f"{ESCALATIONS}add/", {"slug": "ops", "settings": settings}).status_code == 302
        row = Escalation.objects.get()
        assert row.steps[1] == {"after": 300.0, "notify": ["rotation:ops"]}
        assert AuditEntry.objects.get().action == "escalation.create"
        assert "5m: rotation:ops" in root.get(ESCALATIONS).content.decode()
        assert "after: 5m" in root.get(f"{ESCALATIONS}{row.pk}/change/").content.decode()
        assert "after: 5m" in colleague("vera", VIEWERS).get(f"{ESCALATIONS}{row.pk}/change/").content.decode()


class TestThresholds:
    def test_the_one_row(self, root: Client) -> None:
        make_service("stripe")
        response = root.post(f"{THRESHOLDS}add/", {"values": "flapping: {changes: 3}\nservices: {stripe: {slo: 99}}"})
        assert response.status_code == 302
        assert thresholds.present().flapping.changes == 3
        assert AuditEntry.objects.get().details["values"]["flapping"] == {"changes": 3}
        assert root.get(f"{THRESHOLDS}add/").status_code == 403, "there is only one"
        page = f"{THRESHOLDS}1/change/"
        assert "changes: 3" in root.get(page).content.decode()
        assert root.post(page, {"values": ""}).status_code == 302
        assert AlertThresholds.objects.get().values == {}
        assert root.post(f"{THRESHOLDS}1/delete/", {"post": "yes"}).status_code == 403
        assert "nothing" in root.get(THRESHOLDS).content.decode()

    def test_it_is_judged_as_the_file_is(self, root: Client) -> None:
        for values, problem in (
            ("flapping: {changes: 1}", "must be at least 2"),
            ("services: {nobody: {slo: 99}}", "is not a service"),
        ):
            assert problem in errors(root.post(f"{THRESHOLDS}add/", {"values": values}))
        assert not AlertThresholds.objects.exists()

    def test_others_read(self, root: Client) -> None:
        root.post(f"{THRESHOLDS}add/", {"values": "scheduler_late: 30s"})
        viewer = colleague("vera", VIEWERS)
        assert "scheduler_late: 30s" in viewer.get(f"{THRESHOLDS}1/change/").content.decode()
        assert viewer.post(f"{THRESHOLDS}1/change/", {"values": ""}).status_code == 403
