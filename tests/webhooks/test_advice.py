"""What is advised on failures: always something, in whole sentences, and never to replay against an open breaker."""

from __future__ import annotations

import pytest

from webhooks.advice import BY_CATEGORY, BY_STATUS, advice
from wsmon.vocabulary import Category


@pytest.mark.parametrize("category", list(Category))
@pytest.mark.parametrize("status", [None, 500, *BY_STATUS])
def test_there_is_a_sentence_for_every_category_and_status(category: str, status: int | None) -> None:
    text = advice("app", category, status, failed=1, waiting=0)
    assert text.endswith(".")
    assert "{" not in text


def test_every_category_is_known() -> None:
    assert set(BY_CATEGORY) == set(Category)


def test_the_status_says_more_than_the_category() -> None:
    assert "no such path" in advice("app", "CLIENT_ERROR", 404, failed=1, waiting=0)
    assert "does not accept" in advice("app", "CLIENT_ERROR", 418, failed=1, waiting=0)


@pytest.mark.parametrize(
    ("hold", "words"),
    [
        ("breaker", "Replaying now would not help"),
        ("paused", "when somebody resumes it"),
        ("disabled", "when it is enabled again"),
        ("", "tried again by the schedule of app"),
    ],
)
def test_what_only_waits_is_not_to_be_replayed(hold: str, words: str) -> None:
    assert words in advice("app", "SERVER_ERROR", 500, failed=0, waiting=3, hold=hold)


def test_what_was_replayed_needs_nothing() -> None:
    assert "Nothing to do" in advice("app", "SERVER_ERROR", 500, failed=0, waiting=0)


def test_a_sentence_begins_with_a_capital_unless_a_name_begins_it() -> None:
    assert advice("the destination", "SERVER_ERROR", 500, failed=1, waiting=0).startswith("The destination fails")
    assert advice("app", "SERVER_ERROR", 500, failed=1, waiting=0).startswith("app fails")
