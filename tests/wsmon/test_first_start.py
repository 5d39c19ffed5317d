"""What happens between an empty database and one that can be served."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection

from wsmon.launcher import first_start


def limits() -> list[str]:
    found = []
    with connection.cursor() as cursor:
        for name in ("statement_timeout", "lock_timeout"):
            cursor.execute(f"SHOW {name}")
            found.append(cursor.fetchone()[0])
    return found


@pytest.mark.django_db(transaction=True)
def test_migrations_take_the_time_they_need_and_everything_after_them_does_not() -> None:
    usual = limits()
    assert "0" not in usual
    with first_start._one_at_a_time():
        assert limits() == ["0", "0"]
    assert limits() == usual


@pytest.mark.django_db
@pytest.mark.parametrize(("password", "why"), [("short-1", "too short"), ("password123", "too common")])
def test_a_weak_password_of_the_first_account_is_taken_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, password: str, why: str
) -> None:
    monkeypatch.setenv("WSMON_ADMIN_PASSWORD", password)
    first, warning = first_start.create_first_admin()
    assert first == "first account: admin, with WSMON_ADMIN_PASSWORD"
    assert warning.startswith("WARNING: WSMON_ADMIN_PASSWORD IS WEAK")
    assert why in warning
    assert password not in warning
    assert User.objects.get().check_password(password)
    assert first_start.create_first_admin() == []


@pytest.mark.django_db
def test_a_good_password_of_the_first_account_gives_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSMON_ADMIN_PASSWORD", "correct-horse-battery")
    assert first_start.create_first_admin() == ["first account: admin, with WSMON_ADMIN_PASSWORD"]


@pytest.mark.django_db
def test_a_generated_password_is_told_once_and_never_weak() -> None:
    (line,) = first_start.create_first_admin()
    assert "shown only now" in line
    assert first_start.create_first_admin() == []
