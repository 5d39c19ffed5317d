"""The audit trail: who, from where, and nothing secret."""

from __future__ import annotations

from typing import Any

import pytest
from axes.helpers import get_client_ip_address
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.test import RequestFactory

from wsmon.audit import Actor, address_of, record
from wsmon.models import ApiToken, AuditEntry


def ask(forwarded: str | None = None, remote: str = "10.0.0.1") -> Any:
    headers = {"x-forwarded-for": forwarded} if forwarded is not None else {}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=remote)
    request.user = AnonymousUser()
    return request


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, None, "10.0.0.1"),
        (0, "6.6.6.6", "10.0.0.1"),
        (1, "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        (1, "6.6.6.6,evil,203.0.113.7", "203.0.113.7"),
        (2, "6.6.6.6, 203.0.113.7, 10.1.1.1", "203.0.113.7"),
        (2, "203.0.113.7", "10.0.0.1"),
        (1, None, "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "nonsense", "10.0.0.1"),
        (1, "203.0.113.7:4711", "203.0.113.7"),
        (1, "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "fe80::1%eth0", "fe80::1"),
        (1, "::ffff:203.0.113.7", "203.0.113.7"),
        (1, "'; DROP TABLE", "10.0.0.1"),
    ],
)
def test_it_believes_only_what_its_own_proxies_wrote(
    settings: Any, proxies: int, forwarded: str | None, address: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    assert address_of(ask(forwarded)) == address


def test_it_knows_no_address_on_a_unix_socket() -> None:
    assert address_of(ask(remote="")) is None


def test_it_names_the_token_before_the_session() -> None:
    request = ask()
    request.user = User(username="anna")
    assert Actor.of(request).name == "anna"
    request.api_token = ApiToken(name="grafana")
    actor = Actor.of(request)
    assert (actor.user, actor.name, actor.address) == (None, "token:grafana", "10.0.0.1")


def test_it_calls_a_stranger_anonymous() -> None:
    assert Actor.of(ask()) == Actor(None, "anonymous", "10.0.0.1")


@pytest.mark.django_db
class TestRecord:
    """Writing rows."""

    def test_it_writes_who_what_when_from_where_and_why(self) -> None:
        anna = User.objects.create_user("anna")
        record(Actor(anna, "anna", "203.0.113.7"), "check.pause", "check:stripe/http", "deploy", minutes=30)
        row = AuditEntry.objects.get()
        assert (row.actor, row.actor_name, row.address) == (anna, "anna", "203.0.113.7")
        assert (row.action, row.target, row.reason) == ("check.pause", "check:stripe/http", "deploy")
        assert row.details == {"minutes": 30}
        assert row.at.tzinfo is not None

    def test_it_keeps_the_name_when_the_account_goes(self) -> None:
        anna = User.objects.create_user("anna")
        record(Actor(anna, "anna"), "check.pause", "check:stripe/http")
        anna.delete()
        row = AuditEntry.objects.get()
        assert (row.actor, row.actor_name) == (None, "anna")

    def test_it_masks_secrets_in_reason_and_details(self) -> None:
        key = "sk_live_" + "a1B2c3D4e5F6g7H8"
        row = record(
            Actor.system("test"),
            "service.change",
            "service:stripe",
            f"rotated {key}",
            value=key,
            nested=[{"password": "hunter2-hunter2"}],
            url=f"https://user:{key}@example.com/",
        )
        row.refresh_from_db()
        assert key not in row.reason + str(row.details)
        assert "hunter2" not in str(row.details)

    def test_it_cuts_long_texts_to_their_columns(self) -> None:
        row = record(Actor.system("n" * 300), "a" * 100, "t" * 300, "r" * 1000 + "\x00")
        row.refresh_from_db()
        assert (len(row.actor_name), len(row.action), len(row.target), len(row.reason)) == (200, 60, 200, 500)

    def test_it_stores_text_that_postgresql_would_refuse(self) -> None:
        row = record(Actor.system("test"), "a", "t\x00t", "r\x00r", note=["x\x00y", {"a\x00": "\ud800"}])
        row.refresh_from_db()
        assert (row.target, row.reason, row.details) == ("tt", "rr", {"note": ["xy", {"a": "?"}]})

    def test_it_stands_and_falls_with_the_action(self) -> None:
        def pause_and_fail() -> None:
            with transaction.atomic():
                record(Actor.system("test"), "check.pause", "check:x")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            pause_and_fail()
        assert not AuditEntry.objects.exists()


def test_the_sign_in_limit_counts_by_the_same_address(settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    assert get_client_ip_address(ask("6.6.6.6, 203.0.113.7")) == "203.0.113.7"
    settings.TRUSTED_PROXIES = 0
    assert get_client_ip_address(ask("6.6.6.6, 203.0.113.7")) == "10.0.0.1"
