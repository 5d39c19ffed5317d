"""webhooks/schedule.py: what becomes of a delivery after a try."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks.schedule import JITTER, LONGEST_HOLD, LONGEST_RETRY_AFTER, Answer, Decision, decide, wait
from webhooks.vocabulary import DEFAULT_RETRY, DeliveryStatus

DELIVERED, RETRYING, FAILED = DeliveryStatus.DELIVERED, DeliveryStatus.RETRYING, DeliveryStatus.FAILED
TRIES = len(DEFAULT_RETRY) + 1
waits = st.lists(st.floats(0, 100_000), max_size=12).map(tuple)
chances = st.floats(0, 1)
answers = st.builds(
    Answer,
    http_status=st.none() | st.integers(100, 599),
    retry_after=st.none() | st.floats(0, 1e9),
)


def after(status: int | None, tries: int = 1, **fields: Any) -> Decision:
    return decide(Answer(status, **fields), tries, TRIES, DEFAULT_RETRY, 0.0)


def test_a_receiver_that_never_answers_is_tried_by_the_whole_schedule_and_then_given_up():
    sequence = [after(None, number) for number in range(1, TRIES + 1)]
    assert [one.due_in for one in sequence[:-1]] == list(DEFAULT_RETRY)
    assert [one.status for one in sequence] == [RETRYING] * (TRIES - 1) + [FAILED]


def test_a_receiver_that_comes_back_ends_it():
    assert [after(status, number).status for number, status in enumerate((500, None, 200), start=1)] == [
        RETRYING,
        RETRYING,
        DELIVERED,
    ]


STATUSES = [
    (200, DELIVERED),
    (201, DELIVERED),
    (204, DELIVERED),
    (299, DELIVERED),
    (100, RETRYING),
    (301, RETRYING),
    (302, RETRYING),
    (400, RETRYING),
    (401, RETRYING),
    (404, RETRYING),
    (408, RETRYING),
    (410, RETRYING),
    (429, RETRYING),
    (500, RETRYING),
    (503, RETRYING),
    (None, RETRYING),
]


@pytest.mark.parametrize(("status", "next_"), STATUSES)
def test_any_2xx_is_success_and_nothing_else(status: int | None, next_: DeliveryStatus):
    assert after(status).status == next_


def test_410_disables_the_destination_and_keeps_the_delivery_even_after_its_last_try():
    for number in (1, TRIES):
        decision = after(410, number)
        assert (decision.status, decision.due_in) == (RETRYING, 0.0)
        assert "410" in decision.disable
    assert not any(after(status).disable for status in (200, 404, 429, 500, None))


RETRY_AFTER = [
    (429, 120.0, 120.0, 120.0),
    (503, 120.0, 120.0, 120.0),
    (500, 120.0, 120.0, None),  # it counts for this delivery, and says nothing of the others
    (503, 1.0, DEFAULT_RETRY[0], 1.0),
    (429, 0.0, DEFAULT_RETRY[0], None),
    (429, 1e9, LONGEST_RETRY_AFTER, LONGEST_HOLD),
    (503, 7_200.0, 7_200.0, LONGEST_HOLD),
    (429, None, DEFAULT_RETRY[0], None),
]


@pytest.mark.parametrize(("status", "asked", "due_in", "hold"), RETRY_AFTER)
def test_retry_after_is_honoured_within_reason(status: int, asked: float, due_in: float, hold: float | None):
    assert after(status, retry_after=asked) == Decision(RETRYING, due_in, hold)


def test_what_no_further_try_can_change_is_given_up_at_once():
    assert after(None, final=True) == Decision(FAILED)


def test_the_last_try_still_holds_up_the_others():
    assert after(429, TRIES, retry_after=60.0) == Decision(FAILED, 0.0, 60.0)


def test_a_success_with_retry_after_holds_nobody():
    assert after(200, retry_after=60.0) == Decision(DELIVERED)


@given(waits, st.integers(1, 20), chances)
def test_jitter_lengthens_a_wait_by_a_fifth_at_most(retry: tuple[float, ...], tries: int, chance: float):
    plain, found = wait(retry, tries, 0.0), wait(retry, tries, chance)
    assert plain <= found <= plain * (1 + JITTER) + 1e-6
    assert plain == (retry[min(tries, len(retry)) - 1] if retry else 0.0)


@given(answers, st.integers(1, 12), st.integers(1, 12), waits, chances)
def test_whatever_comes_the_decision_is_sound(
    answer: Answer, tries: int, max_tries: int, retry: tuple[float, ...], chance: float
):
    decision = decide(answer, tries, max_tries, retry, chance)
    assert decision.status in (DELIVERED, RETRYING, FAILED)
    assert (decision.status == DELIVERED) is answer.ok
    assert 0 <= decision.due_in <= max([LONGEST_RETRY_AFTER, *(each * (1 + JITTER) + 1e-6 for each in retry)])
    assert decision.hold is None or 0 < decision.hold <= LONGEST_HOLD
    if decision.status == RETRYING and not decision.disable:
        assert tries < max_tries
        assert decision.due_in >= min(answer.retry_after or 0.0, LONGEST_RETRY_AFTER)
    if decision.status == FAILED:
        assert tries >= max_tries


@given(st.lists(answers, min_size=1, max_size=30), st.integers(1, 10), waits, chances)
def test_no_delivery_is_tried_more_often_than_it_may_be(
    stream: list[Answer], max_tries: int, retry: tuple[float, ...], chance: float
):
    tried = 0
    for answer in stream:
        tried += 1
        decision = decide(answer, tried, max_tries, retry, chance)
        if decision.status != RETRYING or decision.disable:
            break
    assert tried <= max_tries
