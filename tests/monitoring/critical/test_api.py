from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from monitoring.critical import actions, inforce
from monitoring.models import CriticalOverride, CriticalRule, DeployPass, DeployRequest, Emergency
from tests.callers import person, program
from tests.monitoring.factories import make_service
from wsmon.audit import Actor
from wsmon.callers import reset_limits
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db
FREEZE, STATE = "/api/admin/freeze", "/api/admin/critical-days"
HOUR = timedelta(hours=1)
ANNA = Actor.system("anna")


@pytest.fixture(autouse=True)
def no_limits() -> None:
    reset_limits()


def freeze(**fields: Any) -> None:
    """Every day is a critical day."""
    CriticalRule.objects.create(slug="always", spec={"every": DAYS} | fields)
    inforce.refresh(force=True)


DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


def reader() -> Client:
    return program("monitoring:read")


def operator() -> Client:
    return program("monitoring:admin", "monitoring:read")


class TestFreeze:
    def test_on_a_usual_day_a_pipeline_may_deploy(self):
        answer = reader().get(FREEZE, {"pipeline": "shop/main"})
        assert answer.status_code == 200
        assert answer.json() == {
            "frozen": False,
            "read_only": False,
            "reason": None,
            "until": None,
            "passed": None,
            "next_freeze_at": None,
        }
        asked = DeployRequest.objects.get()
        assert (asked.pipeline, asked.allowed, asked.by[:6]) == ("shop/main", True, "token:")

    def test_while_deployments_are_frozen_it_gets_423_with_reason_and_end(self):
        actions.override(True, timezone.now() + HOUR, "the launch", ANNA)
        answer = reader().get(FREEZE)
        assert answer.status_code == 423
        assert answer["Content-Type"] == "application/problem+json"
        told = answer.json()
        assert (told["title"], told["status"], told["frozen"]) == ("Locked", 423, True)
        assert told["reason"] == "Switched on by anna: the launch"
        assert told["until"] == CriticalOverride.objects.get().ends_at.isoformat()
        assert told["read_only"] is False
        assert 3500 < int(answer["Retry-After"]) <= 3600
        assert not DeployRequest.objects.get().allowed

    def test_a_rule_without_a_freeze_lets_pipelines_deploy(self):
        freeze(freeze=False, read_only=True)
        answer = reader().get(FREEZE)
        assert answer.status_code == 200
        assert answer.json()["read_only"] is True

    def test_one_is_let_through_by_a_person(self):
        freeze()
        answer = operator().post(f"{FREEZE}/pass", {"reason": "the fix"}, content_type="application/json")
        assert answer.status_code == 201
        assert answer.json()["reason"] == "the fix"
        first, second = reader().get(FREEZE), reader().get(FREEZE)
        assert (first.status_code, second.status_code) == (200, 423)
        assert first.json()["passed"] == "the fix"
        assert first.json()["frozen"] is True

    def test_who_has_an_earlier_answer_only_looks(self):
        freeze()
        actions.allow_deploy("the fix", ANNA)
        first = reader().get(FREEZE, headers={"If-None-Match": '"x"'})
        assert first.status_code == 423
        again = reader().get(FREEZE, headers={"If-None-Match": f'"x", {first["ETag"]}'})
        assert (again.status_code, again.content) == (304, b"")
        assert not DeployRequest.objects.exists()
        assert DeployPass.objects.get().used_at is None

    def test_a_permission_needs_a_freeze_and_a_reason(self):
        answer = operator().post(f"{FREEZE}/pass", {"reason": "the fix"}, content_type="application/json")
        assert (answer.status_code, answer.json()["detail"]) == (409, "deployments are not frozen")
        freeze()
        answer = operator().post(f"{FREEZE}/pass", {"reason": " "}, content_type="application/json")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "reason")

    def test_nul_in_a_name_is_no_problem(self):
        assert reader().get(FREEZE, {"pipeline": "a\0b"}).status_code in (200, 400, 422)


class TestState:
    def test_it_says_what_is_in_force_and_why(self):
        freeze()
        told = reader().get(STATE).json()
        assert (told["critical_day"], told["frozen"], told["read_only"]) == (True, True, False)
        assert told["reasons"][0]["rule"] == "always"
        assert told["override"] is None

    def test_on_a_usual_day_nothing_is(self):
        told = reader().get(STATE).json()
        assert told["critical_day"] is False
        assert told["reasons"] == told["emergencies"] == []
        assert told["next_at"] is None

    def test_an_earlier_answer_still_holds(self):
        tag = reader().get(STATE)["ETag"]
        assert reader().get(STATE, headers={"If-None-Match": tag}).status_code == 304
        actions.override(True, timezone.now() + HOUR, "x", ANNA)
        assert reader().get(STATE, headers={"If-None-Match": tag}).status_code == 200


class TestOverride:
    def post(self, client: Client | None = None, **body: Any) -> Any:
        return (client or operator()).post(f"{STATE}/override", body, content_type="application/json")

    def test_on_for_some_minutes(self):
        answer = self.post(on=True, reason="the launch", minutes=60)
        assert answer.status_code == 200
        told = answer.json()
        assert (told["critical_day"], told["override"]["on"], told["override"]["reason"]) == (
            True,
            True,
            "the launch",
        )
        assert AuditEntry.objects.filter(action="critical_day.override").exists()

    def test_off_until_a_time(self):
        freeze()
        until = (timezone.now() + HOUR).isoformat()
        assert self.post(on=False, reason="no launch", until=until).json()["critical_day"] is False

    def test_null_lets_the_calendar_decide_again(self):
        self.post(on=True, reason="the launch", minutes=60)
        assert self.post(on=None).json()["critical_day"] is False
        assert self.post(on=None).status_code == 200

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"on": True, "minutes": 60}, "reason"),
            ({"on": True, "reason": "x"}, "until"),
            ({"on": True, "reason": "x", "minutes": 5, "until": "2026-10-18T02:00:00Z"}, "until"),
            ({"on": True, "reason": "x", "until": "2001-10-18T02:00:00Z"}, "until"),
            ({"on": True, "reason": "x", "until": "2026-10-18T02:00:00"}, "until"),
            ({"on": True, "reason": "x", "minutes": 0}, "minutes"),
            ({"on": True, "reason": "x", "minutes": 1e9}, "minutes"),
            ({"on": "perhaps", "reason": "x", "minutes": 5}, "on"),
            ({"reason": "x", "minutes": 5}, "on"),
            ({"on": True, "reason": "x", "minutes": 5, "more": 1}, "more"),
        ],
    )
    def test_a_bad_one_is_refused_with_the_field_named(self, body: dict[str, Any], field: str):
        answer = self.post(**body)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field
        assert not CriticalOverride.objects.exists()


class TestEmergency:
    def post(self, **body: Any) -> Any:
        return operator().post(f"{STATE}/emergency", body, content_type="application/json")

    def test_of_all_services(self):
        told = self.post(on=True, reason="fire").json()
        assert (told["critical_day"], told["read_only"]) == (True, True)
        assert told["emergencies"][0]["service"] is None
        told = self.post(on=False, reason="out").json()
        assert (told["critical_day"], told["emergencies"]) == (False, [])

    def test_of_one_service(self):
        make_service("stripe")
        told = self.post(on=True, service="stripe", reason="payments fail", minutes=30).json()
        assert told["critical_day"] is False
        assert told["emergencies"][0]["service"] == "stripe"
        assert Emergency.objects.get().ends_at < timezone.now() + HOUR

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"on": True}, 422),
            ({"on": True, "reason": "x", "minutes": 121}, 422),
            ({"on": True, "reason": "x", "service": "nobody"}, 404),
        ],
    )
    def test_a_bad_one_is_refused(self, body: dict[str, Any], status: int):
        assert self.post(**body).status_code == status
        assert not Emergency.objects.exists()


class TestWhoMay:
    @pytest.mark.parametrize("path", [FREEZE, STATE])
    def test_reading_needs_the_scope_or_the_permission(self, path: str):
        assert Client().get(path).status_code == 401
        assert program("webhooks:read").get(path).status_code == 403
        assert person().get(path).status_code == 403
        assert person("monitoring.view_service").get(path).status_code == 200

    @pytest.mark.parametrize("path", [f"{FREEZE}/pass", f"{STATE}/override", f"{STATE}/emergency"])
    def test_acting_needs_more(self, path: str):
        body = {"on": True, "reason": "x"}
        assert reader().post(path, body, content_type="application/json").status_code == 403
        assert person("monitoring.view_service").post(path, body, content_type="application/json").status_code == 403
        assert Client().post(path, body, content_type="application/json").status_code == 401
        assert reader().get(path).status_code == 405
