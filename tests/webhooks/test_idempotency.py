"""``webhooks.idempotency``: what is asked for twice is done once."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from webhooks import idempotency
from webhooks.idempotency import BadKey, Conflict
from webhooks.models import IdempotencyKey

pytestmark = pytest.mark.django_db


class Counter:
    """Counts how often it is called, and answers with the number."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, Any]:
        self.calls += 1
        return {"call": self.calls, "at": "then"}


def test_the_second_time_gets_the_first_answer() -> None:
    act = Counter()
    first = idempotency.once("op", "k", {"a": 1}, act)
    again = idempotency.once("op", "k", {"a": 1}, act)
    assert (first.value, first.first) == ({"call": 1, "at": "then"}, True)
    assert (again.value, again.first) == ({"call": 1, "at": "then"}, False)
    assert act.calls == 1


def test_the_order_of_keys_is_no_difference() -> None:
    act = Counter()
    idempotency.once("op", "k", {"a": 1, "b": 2}, act)
    assert not idempotency.once("op", "k", {"b": 2, "a": 1}, act).first


def test_another_request_under_the_same_key_is_a_conflict() -> None:
    act = Counter()
    idempotency.once("op", "k", {"a": 1}, act)
    with pytest.raises(Conflict):
        idempotency.once("op", "k", {"a": 2}, act)
    assert act.calls == 1


def test_scopes_and_keys_are_apart() -> None:
    act = Counter()
    idempotency.once("op", "k", {}, act)
    idempotency.once("other", "k", {}, act)
    idempotency.once("op", "l", {}, act)
    assert act.calls == 3


def test_without_a_key_it_is_always_done() -> None:
    act = Counter()
    assert idempotency.once("op", "", {}, act).first
    assert idempotency.once("op", "", {}, act).first
    assert act.calls == 2
    assert not IdempotencyKey.objects.exists()


def test_what_failed_may_be_tried_again() -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        idempotency.once("op", "k", {}, fail)
    assert idempotency.once("op", "k", {}, Counter()).first


def test_a_key_is_kept_for_a_day() -> None:
    act = Counter()
    idempotency.once("op", "k", {"a": 1}, act)
    IdempotencyKey.objects.update(created_at=timezone.now() - idempotency.KEPT + timedelta(minutes=1))
    assert not idempotency.once("op", "k", {"a": 1}, act).first
    IdempotencyKey.objects.update(created_at=timezone.now() - idempotency.KEPT - timedelta(minutes=1))
    assert idempotency.once("op", "k", {"a": 2}, act).value["call"] == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [False, True])
def test_one_that_comes_meanwhile_waits_for_the_answer(fails: bool) -> None:
    """Eight at once, the first of them fails or not: it is done exactly once, and all get one answer."""
    began, answers, act = threading.Event(), [], Counter()

    def slow() -> dict[str, Any]:
        began.set()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.3)")
        if fails:
            raise RuntimeError
        return act()

    def first() -> None:
        with contextlib.suppress(RuntimeError):
            answers.append(idempotency.once("op", "k", {}, slow).value)
        connection.close()

    def other() -> None:
        began.wait(10)
        answers.append(idempotency.once("op", "k", {}, act).value)
        connection.close()

    threads = [threading.Thread(target=first), *(threading.Thread(target=other) for _ in range(7))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == [{"call": 1, "at": "then"}] * (7 if fails else 8)


@pytest.mark.parametrize("text", ["a b", "é", "a\n", "x" * 256, "\x00", "\x7f"])
def test_a_key_is_printable_and_short(text: str) -> None:
    with pytest.raises(BadKey):
        idempotency.read(text)


@pytest.mark.parametrize("text", ["a", "x" * 255, "order:17/paid", "019f4c1e-7c1a-7d3e-8f00-2b1c5d9e0a11"])
def test_any_other_text_is_a_key(text: str) -> None:
    assert idempotency.read(text) == text


def test_no_key_is_no_key() -> None:
    assert idempotency.read(None) == idempotency.read("") == ""
