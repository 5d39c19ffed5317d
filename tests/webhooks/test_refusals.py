"""webhooks/refusals.py: garbage is counted, and cannot fill the disk."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import Error, connection
from django.db.models import Sum

from providers.hooks import Refused
from webhooks import refusals as module
from webhooks.models import Refusal
from webhooks.refusals import KEPT, KINDS, UNKNOWN, Refusals

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 3, 7, 12, 30, 17, tzinfo=UTC)
WRONG = Refused("signature_mismatch", "the signature does not match any configured secret")
MISSING = Refused("signature_missing", "there is no stripe-signature")


def note(
    one: Refusals, number: int = 0, refused: Refused = WRONG, at: datetime = NOW, source: str = "stripe"
) -> None:
    address = f"10.{number // 65_536}.{number // 256 % 256}.{number % 256}"
    one.note(at, source, refused, address, b"garbage", 7)


def total() -> int:
    return int(Refusal.objects.aggregate(total=Sum("count"))["total"] or 0)


def test_one_leaves_a_row_with_its_reason_size_hash_and_address():
    one = Refusals()
    note(one)
    assert one.write() == 1
    row = Refusal.objects.get()
    assert (row.source, row.code, row.message) == ("stripe", WRONG.code, WRONG.message)
    assert (row.size, bytes(row.sha256 or b"")) == (7, hashlib.sha256(b"garbage").digest())
    assert (row.address, row.count) == ("10.0.0.0", 1)
    assert (row.at, row.last_at) == (NOW.replace(second=0), NOW)


def test_more_of_a_kind_are_counted_in_its_row_over_many_writes():
    one = Refusals()
    for seconds in range(10):
        note(one, at=NOW + timedelta(seconds=seconds))
        one.write()
    row = Refusal.objects.get()
    assert (row.count, row.last_at) == (10, NOW + timedelta(seconds=9))


def test_other_reasons_sources_addresses_and_minutes_have_rows_of_their_own():
    one = Refusals()
    for refused, source, number, minutes in [
        (WRONG, "stripe", 0, 0),
        (MISSING, "stripe", 0, 0),
        (WRONG, UNKNOWN, 0, 0),
        (WRONG, "stripe", 1, 0),
        (WRONG, "stripe", 0, 1),
    ]:
        note(one, number, refused, NOW + timedelta(minutes=minutes), source)
    assert one.write() == 5


def test_ten_thousand_of_many_addresses_leave_a_few_hundred_rows_and_none_is_uncounted():
    one = Refusals()
    for number in range(10_000):
        note(one, number)
        if number % 1_000 == 999:
            one.write()
    assert Refusal.objects.count() <= KINDS + 1
    assert total() == 10_000
    rest = Refusal.objects.get(address=None)
    assert rest.count >= 10_000 - KINDS


def test_each_minute_has_its_own_bound():
    one = Refusals()
    for minute in range(3):
        for number in range(2 * KINDS):
            note(one, number, at=NOW + timedelta(minutes=minute))
    one.write()
    assert Refusal.objects.count() <= 3 * (KINDS + 1)
    assert total() == 3 * 2 * KINDS


def test_a_body_that_was_not_read_to_the_end_has_no_hash():
    one = Refusals()
    one.note(NOW, "stripe", Refused("too_large", "too large", 413), None, b"", 10_000_000)
    one.write()
    row = Refusal.objects.get()
    assert (row.size, row.sha256, row.address) == (10_000_000, None, None)


def test_a_reason_that_the_database_cannot_hold_does_not_stop_the_others():
    one = Refusals()
    note(one, 1, Refused("malformed", "a\0b \ud83d" + "c" * 1_000))
    note(one, 2)
    one.write()
    assert total() == 2
    assert Refusal.objects.get(code="malformed").message.startswith("ab ?c")


def test_while_the_database_is_away_they_are_kept_and_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch):
    one = Refusals()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", lambda _: (_ for _ in ()).throw(Error("gone")))
        note(one, 0)
        with pytest.raises(Error):
            one.write()
        note(one, 0, at=NOW + timedelta(seconds=1))  # the same kind, again
        for number in range(3 * KEPT):
            note(one, number, at=NOW + timedelta(minutes=number // 100))
        with pytest.raises(Error):
            one.write()
        assert len(one._seen) <= KEPT
    one.write()
    assert Refusal.objects.count() <= KEPT
    first = Refusal.objects.get(at=NOW.replace(second=0), address="10.0.0.0")
    assert first.count == 3
    assert one.write() == 0


def test_two_processes_that_refuse_the_same_kind_count_together():
    for one in (Refusals(), Refusals()):
        for number in range(30):
            note(one, number)
        one.write()
    assert Refusal.objects.count() == 30
    assert set(Refusal.objects.values_list("count", flat=True)) == {2}


@pytest.mark.django_db(transaction=True)
def test_threads_that_refuse_at_once_lose_none():
    one = Refusals()

    def refuse() -> None:
        for number in range(500):
            note(one, number % 50)

    threads = [threading.Thread(target=refuse) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        one.write()
    for thread in threads:
        thread.join()
    one.write()
    assert total() == 4_000
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(count) FROM webhooks_refusal")
        assert cursor.fetchone()[0] == 80
