"""The admin of what every room shares, seen by a superuser, an operator and a stranger."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from tests.callers import colleague
from wsmon.audit import Actor, record
from wsmon.models import ApiToken, AuditEntry
from wsmon.roles import OPERATORS, VIEWERS, ensure_roles

pytestmark = pytest.mark.django_db

AUDIT = "/admin/wsmon/auditentry/"
TOKENS = "/admin/wsmon/apitoken/"


@pytest.fixture
def root() -> Client:
    return colleague("root", superuser=True)


@pytest.fixture
def operator() -> Client:
    return colleague("olga", OPERATORS)


def test_the_audit_trail_is_read_only(root: Client) -> None:
    entry = record(Actor.system("test"), "service.create", "service:our-site", field="value")
    url = f"{AUDIT}{entry.pk}/"

    assert "service:our-site" in root.get(AUDIT).content.decode()
    assert root.get(url + "change/").status_code == 200
    for attempt in (url + "change/", url + "delete/", AUDIT + "add/"):
        assert root.post(attempt, {"post": "yes", "action": "x"}).status_code == 403
    assert AuditEntry.objects.get() == entry


def test_tokens_are_listed_and_revoked_but_not_even_their_digest_is_shown(root: Client) -> None:
    token = ApiToken.objects.create(name="grafana", digest="d" * 64, scopes=["monitoring:read"])

    for html in (root.get(TOKENS), root.get(f"{TOKENS}{token.pk}/change/")):
        assert "grafana" in html.content.decode()
        assert "d" * 64 not in html.content.decode()

    root.post(TOKENS, {"_selected_action": [token.pk], "action": "revoke"})

    token.refresh_from_db()
    assert token.revoked_at is not None
    assert AuditEntry.objects.get().action == "token.revoke"


def test_tokens_and_the_trail_are_not_for_operators(operator: Client) -> None:
    token = ApiToken.objects.create(name="grafana", digest="d" * 64, scopes=["monitoring:read"])

    assert operator.get(TOKENS).status_code == 403
    assert operator.get(AUDIT).status_code == 403
    assert operator.post(TOKENS, {"_selected_action": [token.pk], "action": "revoke"}).status_code == 403
    token.refresh_from_db()
    assert token.revoked_at is None


def test_strangers_are_sent_to_the_login_page() -> None:
    for url in (AUDIT, TOKENS, "/admin/auth/user/"):
        response = Client().get(url)
        assert response.status_code == 302
        assert "/login/" in response["Location"]


def test_making_changing_and_deleting_an_account_leaves_audit_rows(root: Client) -> None:
    password = "a-Long-and-planted-password-4711"

    response = root.post(
        "/admin/auth/user/add/",
        {"username": "vera", "password1": password, "password2": password, "usable_password": "true"},
    )
    assert response.status_code == 302
    vera = get_user_model()._default_manager.get(username="vera")
    root.post(f"/admin/auth/user/{vera.pk}/password/", {"password1": password + "2", "password2": password + "2"})
    root.post(f"/admin/auth/user/{vera.pk}/delete/", {"post": "yes"})

    rows = AuditEntry.objects.order_by("id")
    assert [(row.actor_name, row.action, row.target) for row in rows] == [
        ("root", "user.create", "user:vera"),
        ("root", "user.change", "user:vera"),
        ("root", "user.delete", "user:vera"),
    ]
    assert password not in str([row.details for row in rows])


def test_the_keys_of_second_factors_are_on_no_page(root: Client) -> None:
    user = get_user_model()._default_manager.get(username="root")
    device = TOTPDevice.objects.create(user=user, name="phone", key="00112233445566778899aabbccddeeff00112233")
    codes = StaticDevice.objects.create(user=user, name="codes")
    codes.token_set.create(token="planted7")
    url = f"/admin/otp_totp/totpdevice/{device.pk}/"

    pages = [root.get(url + "change/"), root.get(f"/admin/otp_static/staticdevice/{codes.pk}/change/")]

    assert all(page.status_code == 200 for page in pages)
    for page in pages:
        assert device.key not in page.content.decode()
        assert "planted7" not in page.content.decode()
    for suffix in ("config/", "qrcode/"):
        assert root.get(url + suffix).status_code in {302, 403, 404}


def test_the_roles_are_made_once() -> None:
    ensure_roles()
    ensure_roles()

    viewers, operators = Group.objects.get(name=VIEWERS), Group.objects.get(name=OPERATORS)
    assert viewers.permissions.filter(codename="view_service").exists()
    assert not viewers.permissions.exclude(codename__startswith="view_").exists()
    assert viewers.permissions.filter(codename="view_delivery").exists()
    assert set(operators.permissions.exclude(codename__startswith="view_").values_list("codename", flat=True)) == {
        "operate",
        "replay",
    }


def test_its_pages_name_their_icon(root: Client) -> None:
    """Else every browser asks for /favicon.ico, which is not there."""
    assert '<link rel="icon" href="/static/wsmon/icon' in root.get("/admin/").content.decode()
