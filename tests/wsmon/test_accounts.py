"""Signing in and out, passwords and the second factor."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.template.loader import get_template
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from wsmon.accounts import two_factor
from wsmon.accounts.views import SECOND_STEP, SECOND_STEP_TRIES
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery"
WRONG = "User name or password is wrong."


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", password=PASSWORD, is_staff=True, is_superuser=True)


@pytest.fixture
def device(ada: User) -> TOTPDevice:
    StaticToken.objects.create(device=StaticDevice.objects.create(user=ada, name="codes"), token="abc234")
    return TOTPDevice.objects.create(user=ada, name="phone", confirmed=True)


@pytest.fixture
def inside(ada: User, client: Client) -> Client:
    client.force_login(ada, backend="django.contrib.auth.backends.ModelBackend")
    return client


def code_of(device: TOTPDevice, offset: int = 0) -> str:
    return f"{totp(device.bin_key, device.step, device.t0, device.digits, device.drift + offset):06d}"


def sign_in(client: Client, name: str = "ada", password: str = PASSWORD, **more: str) -> Any:
    return client.post("/login/", {"username": name, "password": password} | more)


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


# the first step ------------------------------------------------------------------------------------


def test_staff_signs_in(client: Client, ada: User) -> None:
    response = sign_in(client)
    assert (response.status_code, response["Location"]) == (302, "/")
    assert is_in(client)


def test_one_comes_back_to_where_one_was_but_never_to_another_site(client: Client, ada: User) -> None:
    assert sign_in(client, next="/services/stripe/?period=7d")["Location"] == "/services/stripe/?period=7d"
    for trap in ("https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"):
        assert sign_in(Client(), next=trap)["Location"] == "/"


def test_the_session_gets_a_new_key_at_sign_in(client: Client, ada: User) -> None:
    session = client.session
    session["planted"] = True
    session.save()
    before = session.session_key
    client.cookies[settings.SESSION_COOKIE_NAME] = before or ""
    sign_in(client)
    assert client.session.session_key != before


@pytest.mark.parametrize(("name", "password"), [
    ("ada", "wrong"), ("nobody", PASSWORD), ("eve", PASSWORD), ("gone", PASSWORD), ("", ""), ("ada\x00", PASSWORD),
])  # fmt: skip
def test_every_refusal_reads_the_same(client: Client, ada: User, name: str, password: str) -> None:
    User.objects.create_user("eve", password=PASSWORD, is_staff=False)
    User.objects.create_user("gone", password=PASSWORD, is_staff=True, is_active=False)
    response = sign_in(client, name, password)
    assert response.status_code == 200
    assert WRONG in response.content.decode()
    assert not is_in(client)


def test_after_five_wrong_tries_even_the_right_password_has_to_wait(client: Client, ada: User) -> None:
    answers = [sign_in(client, password="wrong").status_code for _ in range(settings.AXES_FAILURE_LIMIT)]
    response = sign_in(client)
    assert set(answers[:-1]) == {200}
    assert response.status_code == 429
    assert "Too many wrong tries." in response.content.decode()
    assert not is_in(client)


def test_somebody_elses_wrong_tries_do_not_lock_one_out(client: Client, ada: User) -> None:
    for _ in range(settings.AXES_FAILURE_LIMIT + 1):
        client.post("/login/", {"username": "ada", "password": "wrong"}, REMOTE_ADDR="203.0.113.9")
    assert sign_in(client).status_code == 302


def test_a_form_of_another_site_cannot_sign_in(ada: User) -> None:
    assert sign_in(Client(enforce_csrf_checks=True)).status_code == 403


def test_the_admin_has_no_login_of_its_own(client: Client, ada: User) -> None:
    assert client.get("/admin/login/?next=/admin/")["Location"] == "/login/?next=%2Fadmin%2F"
    client.post("/admin/login/", {"username": "ada", "password": PASSWORD})
    assert not is_in(client)


# signing out ---------------------------------------------------------------------------------------


def test_signing_out_ends_the_session(inside: Client) -> None:
    response = inside.post("/logout/")
    assert response["Location"] == "/login/"
    assert not is_in(inside)


@pytest.mark.parametrize("path", ["/logout/", "/admin/logout/"])
def test_a_link_cannot_sign_out(inside: Client, path: str) -> None:
    assert inside.get(path).status_code == 405
    assert is_in(inside)


# the second step -----------------------------------------------------------------------------------


def test_with_a_device_the_password_alone_does_not_let_in(client: Client, device: TOTPDevice) -> None:
    response = sign_in(client, next="/changes/")
    assert response["Location"] == "/login/code/?next=%2Fchanges%2F"
    assert not is_in(client)


def test_the_right_code_lets_in_and_leads_on(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    before = client.session.session_key
    response = client.post("/login/code/", {"code": code_of(device), "next": "/changes/"})
    assert response["Location"] == "/changes/"
    assert is_in(client)
    assert client.session.session_key != before
    assert SECOND_STEP not in client.session


def test_the_code_may_be_typed_with_a_space(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    code = code_of(device)
    assert client.post("/login/code/", {"code": f"{code[:3]} {code[3:]}"}).status_code == 302


def test_a_code_is_good_only_once(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    code = code_of(device)
    client.post("/login/code/", {"code": code})
    second = Client()
    sign_in(second)
    assert "wrong or was used already" in second.post("/login/code/", {"code": code}).content.decode()
    assert not is_in(second)


def test_a_recovery_code_lets_in_once(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    assert client.post("/login/code/", {"code": "ABC234"}).status_code == 302
    assert two_factor.codes_left(device.user) == 0


def test_a_wrong_code_is_refused_and_the_next_has_to_wait(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    assert "This code is wrong" in client.post("/login/code/", {"code": "000000"}).content.decode()
    assert "Too soon after a wrong code." in client.post("/login/code/", {"code": code_of(device)}).content.decode()
    assert not is_in(client)


def test_too_many_wrong_codes_lead_back_to_the_password(
    client: Client, device: TOTPDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_factor, "locked_until", lambda user: None)
    sign_in(client)
    answers = [client.post("/login/code/", {"code": "000000"}) for _ in range(SECOND_STEP_TRIES)]
    assert [answer.status_code for answer in answers] == [200] * (SECOND_STEP_TRIES - 1) + [302]
    assert client.get("/login/code/")["Location"] == "/login/"


def test_the_second_step_needs_the_first(client: Client, device: TOTPDevice) -> None:
    assert client.get("/login/code/")["Location"] == "/login/"
    assert client.post("/login/code/", {"code": code_of(device)})["Location"] == "/login/"
    assert not is_in(client)


def test_the_second_step_runs_out(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    session = client.session
    session[SECOND_STEP] = session[SECOND_STEP] | {"until": 0}
    session.save()
    assert client.post("/login/code/", {"code": code_of(device)})["Location"] == "/login/"


def test_a_password_changed_meanwhile_ends_the_first_step(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    device.user.set_password("another-one-entirely")
    device.user.save()
    assert client.post("/login/code/", {"code": code_of(device)})["Location"] == "/login/"


def test_the_second_step_leads_to_no_other_site(client: Client, device: TOTPDevice) -> None:
    sign_in(client)
    response = client.post("/login/code/", {"code": code_of(device), "next": "https://evil.example/"})
    assert response["Location"] == "/"


# one's own account ---------------------------------------------------------------------------------

PAGES = ["account", "password_change", "two_factor", "two_factor_off", "recovery_codes"]


@pytest.mark.parametrize("name", PAGES)
def test_strangers_see_no_account(client: Client, name: str) -> None:
    assert client.get(reverse(name))["Location"].startswith("/login/?next=/account/")


@pytest.mark.parametrize("name", PAGES)
def test_accounts_that_are_not_staff_get_a_page_that_says_so(client: Client, name: str) -> None:
    client.force_login(User.objects.create_user("eve"), backend="django.contrib.auth.backends.ModelBackend")
    response = client.get(reverse(name))
    assert response.status_code == 403
    assert "You are signed in as <b>eve</b>" in response.content.decode()


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(inside: Client, ada: User) -> None:
    other = Client()
    sign_in(other)
    new = "a-wholly-new-phrase"
    response = inside.post("/account/password/", {
        "old_password": PASSWORD, "new_password1": new, "new_password2": new,
    })  # fmt: skip
    assert response["Location"] == "/account/"
    assert is_in(inside)
    assert not is_in(other)
    assert AuditEntry.objects.latest("id").action == "account.password"


@pytest.mark.parametrize(("old", "new", "again", "words"), [
    ("wrong", "a-wholly-new-phrase", "a-wholly-new-phrase", "Your present password is wrong."),
    (PASSWORD, "short", "short", "too short"),
    (PASSWORD, "password123", "password123", "too common"),
    (PASSWORD, "a-wholly-new-phrase", "another", "match"),
])  # fmt: skip
def test_a_bad_new_password_is_refused(inside: Client, ada: User, old: str, new: str, again: str, words: str) -> None:
    response = inside.post("/account/password/", {"old_password": old, "new_password1": new, "new_password2": again})
    ada.refresh_from_db()
    assert words in response.content.decode()
    assert ada.check_password(PASSWORD)


def test_guessing_the_present_password_is_limited_like_signing_in(inside: Client, ada: User) -> None:
    data = {"old_password": "guess", "new_password1": "a-wholly-new-phrase", "new_password2": "a-wholly-new-phrase"}
    for _ in range(settings.AXES_FAILURE_LIMIT):
        last = inside.post("/account/password/", data)
    assert last.status_code == 429


# setting up the second factor ----------------------------------------------------------------------


def start(client: Client, user: User) -> TOTPDevice:
    assert client.post("/account/two-factor/start/")["Location"] == "/account/two-factor/"
    found = two_factor.pending(user)
    assert found
    return found


def test_the_second_factor_is_set_up_by_scanning_and_confirming(inside: Client, ada: User) -> None:
    device = start(inside, ada)
    page = inside.get("/account/two-factor/").content.decode()
    assert "<svg" in page
    assert two_factor.readable_key(device) in page
    assert not two_factor.is_on(ada)
    page = inside.post("/account/two-factor/", {"code": code_of(device)}).content.decode()
    codes = re.findall(r"<li><code>(\w+)</code>", page)
    assert len(set(codes)) == two_factor.RECOVERY_CODES
    assert two_factor.is_on(ada)
    assert AuditEntry.objects.get().action == "account.two_factor_on"


def test_turning_it_on_ends_the_other_sessions_of_the_account_and_no_others(inside: Client, ada: User) -> None:
    User.objects.create_user("bob", password=PASSWORD, is_staff=True)
    other, bob = Client(), Client()
    sign_in(other)
    sign_in(bob, "bob")
    page = inside.post("/account/two-factor/", {"code": code_of(start(inside, ada))}).content.decode()
    assert "Your other sessions are signed out." in page
    assert [is_in(client) for client in (inside, other, bob)] == [True, False, True]
    assert AuditEntry.objects.latest("id").details == {"sessions_ended": 1}


def test_a_wrong_code_when_turning_it_on_ends_no_session(inside: Client, ada: User) -> None:
    other = Client()
    sign_in(other)
    start(inside, ada)
    inside.post("/account/two-factor/", {"code": "000000"})
    assert is_in(other)


def test_recovery_codes_are_shown_once_and_never_cached(inside: Client, ada: User) -> None:
    device = start(inside, ada)
    response = inside.post("/account/two-factor/", {"code": code_of(device)})
    assert "no-store" in response["Cache-Control"]
    code = re.findall(r"<li><code>(\w+)</code>", response.content.decode())[0]
    assert code not in inside.get("/account/").content.decode()


def test_a_wrong_code_does_not_turn_it_on(inside: Client, ada: User) -> None:
    start(inside, ada)
    assert "This code is wrong." in inside.post("/account/two-factor/", {"code": "000000"}).content.decode()
    assert not two_factor.is_on(ada)


def test_the_qr_code_needs_no_style(inside: Client, ada: User) -> None:
    start(inside, ada)
    assert "style=" not in str(two_factor.qr(two_factor.pending(ada)))  # type: ignore[arg-type]


def test_it_is_not_started_by_a_link(inside: Client) -> None:
    assert inside.get("/account/two-factor/start/").status_code == 405


def test_without_a_key_to_confirm_there_is_no_page_for_it(inside: Client) -> None:
    for path in ("/account/two-factor/", "/account/two-factor/off/", "/account/two-factor/recovery/"):
        assert inside.get(path)["Location"] == "/account/"


def test_turning_it_off_needs_the_password(inside: Client, device: TOTPDevice) -> None:
    page = inside.post("/account/two-factor/off/", {"password": "wrong"}).content.decode()
    assert "Your present password is wrong." in page
    assert two_factor.is_on(device.user)
    inside.post("/account/two-factor/off/", {"password": PASSWORD})
    assert not two_factor.is_on(device.user)
    assert two_factor.codes_left(device.user) == 0
    assert AuditEntry.objects.get().action == "account.two_factor_off"


def test_new_recovery_codes_replace_the_old_ones(inside: Client, device: TOTPDevice) -> None:
    page = inside.post("/account/two-factor/recovery/", {"password": PASSWORD}).content.decode()
    assert len(re.findall(r"<li><code>", page)) == two_factor.RECOVERY_CODES
    assert not StaticToken.objects.filter(token="abc234").exists()


def test_a_device_in_force_is_not_replaced_without_the_password(inside: Client, device: TOTPDevice) -> None:
    assert inside.post("/account/two-factor/start/")["Location"] == "/account/"
    new = two_factor.start(device.user)  # a set-up left over from before
    assert inside.post("/account/two-factor/", {"code": code_of(new)})["Location"] == "/account/"
    assert list(TOTPDevice.objects.filter(confirmed=True)) == [device]


# the audit trail -----------------------------------------------------------------------------------


def trail() -> list[tuple[str, str, str, str | None]]:
    rows = AuditEntry.objects.order_by("id")
    return [(row.action, row.actor_name, row.target, row.address) for row in rows]


def test_signing_in_and_out_are_written_down(client: Client, ada: User) -> None:
    sign_in(client, password="wrong")
    sign_in(client)
    client.post("/logout/")
    client.post("/logout/")  # nobody is there any more
    assert trail() == [
        ("account.sign_in", "ada", "user:ada", "127.0.0.1"),
        ("account.sign_out", "ada", "user:ada", "127.0.0.1"),
    ]


def test_a_failed_second_step_is_written_down_and_so_is_the_factor_that_worked(
    client: Client, device: TOTPDevice
) -> None:
    sign_in(client)
    client.post("/login/code/", {"code": "000000"})
    StaticDevice.objects.update(throttling_failure_count=0, throttling_failure_timestamp=None)  # the wait is over
    client.post("/login/code/", {"code": "abc234"})
    assert trail() == [
        ("account.second_step_failed", "anonymous", "user:ada", "127.0.0.1"),
        ("account.sign_in", "ada", "user:ada", "127.0.0.1"),
    ]
    assert AuditEntry.objects.latest("id").details == {"second_factor": "recovery code"}
    assert "000000" not in str(list(AuditEntry.objects.values()))


# error pages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["400.html", "403.html", "404.html", "500.html"])
def test_error_pages_need_nothing_but_themselves(template: str) -> None:
    page = get_template(template).render()
    assert '<main class="ws-login"' in page
    assert not re.search(r"<[^>]+\sstyle=|<script(?![^>]*\ssrc=)", page)


def test_an_unknown_address_gets_the_page_for_it(inside: Client) -> None:
    response = inside.get("/nowhere/")
    assert response.status_code == 404
    assert "Nothing here" in response.content.decode()


def test_the_sign_in_page_never_sends_one_back_to_itself(inside: Client) -> None:
    response = inside.get("/login/?next=/login/")
    assert (response.status_code, response["Location"]) == (302, "/")
