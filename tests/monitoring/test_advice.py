from __future__ import annotations

from dataclasses import dataclass

import pytest

from monitoring.advice import BY_CATEGORY, HEARTBEAT, advice
from wsmon.vocabulary import Category, Status


@dataclass(frozen=True)
class Found:
    category: str
    kind: str = "http"


@pytest.mark.parametrize("category", [one for one in Category if one is not Category.BREAKER_OPEN])
@pytest.mark.parametrize("status", [Status.CRITICAL, Status.ERROR, Status.DEGRADED])
def test_it_knows_what_to_do_about_every_category(category: Category, status: Status):
    sentence = advice(status, Found(category.value), [])
    assert sentence == BY_CATEGORY[category]
    assert sentence.endswith((".", "where.", "log."))


def test_every_category_has_advice_of_its_own():
    assert len(set(BY_CATEGORY.values())) == len(BY_CATEGORY)


def test_it_names_the_variable_to_set():
    said = advice(Status.NOT_CONFIGURED, None, ["STRIPE_SECRET_KEY"])
    assert said == "Set STRIPE_SECRET_KEY in the environment, or store it in the admin."


@pytest.mark.parametrize("status", [Status.HEALTHY, Status.UNKNOWN])
def test_it_names_what_is_missing_beside_what_works(status: Status):
    assert advice(status, Found(""), ["A", "B"]).startswith("Set A, B in")


def test_a_failure_matters_more_than_a_missing_variable():
    assert advice(Status.CRITICAL, Found("DNS_ERROR"), ["A"]) == BY_CATEGORY[Category.DNS_ERROR]


def test_slowness_has_no_category():
    assert "too slowly" in advice(Status.DEGRADED, Found(""), [])


@pytest.mark.parametrize("status", [Status.CRITICAL, Status.ERROR, Status.DEGRADED])
def test_a_recovery_that_awaits_confirmation_needs_only_patience(status: Status):
    assert advice(status, None, []).startswith("The last probe was better")


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (Status.HEALTHY, Found("")),
        (Status.HEALTHY, None),
        (Status.PAUSED, Found("TIMEOUT_ERROR")),
        (Status.UNKNOWN, None),
        (Status.NOT_CONFIGURED, None),
        (Status.CRITICAL, Found("")),
        (Status.CRITICAL, Found("A_WORD_OF_ANOTHER_VERSION")),
    ],
)
def test_it_says_nothing_when_there_is_nothing_to_say(status: Status, found: Found | None):
    assert advice(status, found, []) == ""


@pytest.mark.parametrize("category", [Category.TIMEOUT_ERROR, Category.SERVER_ERROR])
def test_a_late_job_is_not_a_slow_vendor(category: Category):
    assert advice(Status.CRITICAL, Found(category.value, "heartbeat"), []) == HEARTBEAT
