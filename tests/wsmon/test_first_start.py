"""What happens between an empty database and one that can be served."""

from __future__ import annotations

import pytest
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
