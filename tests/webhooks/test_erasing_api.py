"""``/api/admin/webhooks/erase``: who may, and what they get."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from tests.callers import person
from tests.webhooks.factories import make_event
from webhooks import erasing
from webhooks.models import Erasure
from wsmon import tokens
from wsmon.audit import Actor
from wsmon.models import AuditEntry

URL = "/api/admin/webhooks/erase"
JANE = "jane.doe@example.com"
BODY = {"subject": JANE, "reason": "she asked"}

pytestmark = pytest.mark.django_db


@pytest.fixture
def superuser() -> Client:
    return person(is_superuser=True)


def post(client: Client, body: dict[str, Any], **headers: str) -> Any:
    return client.post(URL, body, content_type="application/json", headers=headers)


def test_a_superuser_erases_and_reads_the_receipt(superuser: Client) -> None:
    make_event(data={"to": JANE})
    answer = post(superuser, BODY)
    assert answer.status_code == 202
    receipt = answer.json()
    assert receipt["status"] == "running"
    assert JANE not in answer.content.decode()
    erasing.run_due()
    done = superuser.get(f"{URL}/{receipt['id']}").json()
    assert (done["status"], done["events"], done["scanned"]) == ("done", 1, 1)
    entry = AuditEntry.objects.get(action="webhooks.erase")
    assert entry.reason == "she asked"
    assert JANE not in str(entry.details)


def test_a_token_may_not_whatever_its_scopes() -> None:
    _, text = tokens.create("all", list(tokens.SCOPES), Actor.system("test"))
    assert post(Client(), BODY, authorization=f"Bearer {text}").status_code == 401
    assert not Erasure.objects.exists()


def test_an_operator_may_not() -> None:
    assert post(person("webhooks.replay", "monitoring.operate"), BODY).status_code == 403
    assert post(Client(), BODY).status_code == 401
    assert not Erasure.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"subject": JANE},
        {"subject": "ab", "reason": "x"},
        {"subject": "....", "reason": "x"},
        BODY | {"reason": ""},
    ],
)
def test_a_bad_request_is_told_which_field_is_wrong(superuser: Client, body: dict[str, Any]) -> None:
    answer = post(superuser, body)
    assert answer.status_code == 422
    assert answer.json()["errors"]
    assert not Erasure.objects.exists()


def test_an_unknown_receipt_is_not_found(superuser: Client) -> None:
    assert superuser.get(f"{URL}/{uuid.uuid4()}").status_code == 404
    assert superuser.get(f"{URL}/nonsense").status_code == 422


def test_reading_is_for_the_same_people() -> None:
    assert person("webhooks.view_event").get(f"{URL}/{uuid.uuid4()}").status_code == 403
