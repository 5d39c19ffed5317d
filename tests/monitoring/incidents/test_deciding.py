"""When incidents open, worsen and close: statuses in, steps out."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from monitoring.breakers.machine import Cause
from monitoring.incidents import deciding
from monitoring.incidents.deciding import Standing, Step, next_step
from wsmon.vocabulary import Category, Criticality, Status

S = Status
LETTERS = {
    "h": S.HEALTHY, "d": S.DEGRADED, "c": S.CRITICAL, "e": S.ERROR, "?": S.UNKNOWN, "p": S.PAUSED,
    "n": S.NOT_CONFIGURED,
}  # fmt: skip


def run(letters: str, dismiss_at: int | None = None) -> tuple[list[str], Standing | None]:
    """Feed statuses one at a time, acting as the store does; the steps by name, and what stands at the end."""
    standing: Standing | None = None
    steps = []
    for place, letter in enumerate(letters):
        status = LETTERS[letter]
        if standing and standing.dismissed and status not in (S.CRITICAL, S.DEGRADED, S.ERROR):
            standing = None  # it healed: what a person said is over
        step = next_step(standing, status)
        steps.append(step.value)
        if step is Step.OPEN:
            standing = Standing(status, status)
        elif step in (Step.CHANGE, Step.WORSE, Step.REOPEN):
            assert standing is not None
            standing = Standing(status, status if step is not Step.CHANGE else standing.worst)
        elif step in (Step.CLOSE, Step.ABANDON):
            standing = None
        if place == dismiss_at and standing:
            standing = Standing(standing.status, standing.worst, dismissed=True)
    return steps, standing


@pytest.mark.parametrize(
    ("letters", "steps"),
    [
        ("h", "nothing"),
        ("?h", "nothing nothing"),
        ("hch", "nothing open close"),
        ("hdh", "nothing open close"),
        ("hdch", "nothing open worse close"),
        ("hcdch", "nothing open change change close"),
        ("hdcdc", "nothing open worse change change"),
        ("hcc", "nothing open nothing"),
        ("hchch", "nothing open close open close"),
        ("heh", "nothing nothing nothing"),
        ("hec", "nothing nothing open"),
        ("hceh", "nothing open change close"),
        ("hdec", "nothing open change worse"),
        ("hp", "nothing nothing"),
        ("hn", "nothing nothing"),
        ("hcp", "nothing open abandon"),
        ("hcn", "nothing open abandon"),
        ("hc?c", "nothing open nothing nothing"),
        ("hcp?c", "nothing open abandon nothing open"),
        ("?c", "nothing open"),
    ],
)
def test_statuses_one_by_one(letters: str, steps: str) -> None:
    assert " ".join(run(letters)[0]) == steps


@pytest.mark.parametrize(
    ("letters", "steps"),
    [
        ("hcc", "nothing open nothing"),
        ("hcd", "nothing open nothing"),
        ("hch", "nothing open nothing"),
        ("hchc", "nothing open nothing open"),
        ("hdc", "nothing open reopen"),
        ("hdch", "nothing open reopen close"),
        ("hdec", "nothing open nothing reopen"),
        ("hcp?c", "nothing open nothing nothing open"),
    ],
)
def test_what_a_person_resolved_stays_so_until_it_is_worse_or_was_healthy(letters: str, steps: str) -> None:
    assert " ".join(run(letters, dismiss_at=1)[0]) == steps


@given(st.text(alphabet="hdce?pn", max_size=40))
def test_an_incident_is_open_exactly_between_opening_and_closing(letters: str) -> None:
    steps, standing = run(letters)
    opened = steps.count("open")
    closed = steps.count("close") + steps.count("abandon")
    assert opened - closed == (1 if standing else 0)
    if letters.endswith(("h", "p", "n")):
        assert standing is None
    if letters.endswith(("c", "d")):
        assert standing is not None


@given(st.text(alphabet="hdce?pn", max_size=40))
def test_worse_is_told_at_most_twice_in_one_incident(letters: str) -> None:
    told = 0
    for step in run(letters)[0]:
        told = 0 if step == "open" else told + (step == "worse")
        assert told <= 1  # degraded to critical: there is nothing above it


@pytest.mark.parametrize(
    ("status", "criticality", "cut_off", "severity"),
    [
        (S.CRITICAL, Criticality.CRITICAL, False, "critical"),
        (S.CRITICAL, Criticality.NORMAL, False, "critical"),
        (S.CRITICAL, Criticality.LOW, False, "warning"),
        (S.DEGRADED, Criticality.CRITICAL, False, "warning"),
        (S.DEGRADED, Criticality.LOW, False, "info"),
        (S.ERROR, Criticality.HIGH, False, "warning"),
        (S.DEGRADED, Criticality.NORMAL, True, "critical"),
        (S.DEGRADED, Criticality.LOW, True, "warning"),
        (S.CRITICAL, Criticality.HIGH, True, "critical"),
        (S.ERROR, Criticality.HIGH, True, "warning"),
    ],
)
def test_how_urgent_it_is(status: Status, criticality: Criticality, cut_off: bool, severity: str) -> None:
    assert deciding.severity(status, criticality, cut_off=cut_off) == severity


@pytest.mark.parametrize(
    ("cause", "forced", "cuts_off"),
    [
        (Cause.OUTAGE, "", True),
        (Cause.CREDENTIAL, "", False),
        (Cause.RATE_LIMIT, "", False),
        (Cause.NONE, "", False),
        (Cause.OUTAGE, "OPEN", False),
    ],
)
def test_only_a_breaker_that_real_failures_opened_says_that_the_service_fails(
    cause: Cause, forced: str, cuts_off: bool
) -> None:
    assert deciding.cuts_off(cause.value, forced) is cuts_off


@pytest.mark.parametrize(
    ("status", "category", "title"),
    [
        (S.DEGRADED, "", "Stripe answers slowly"),
        (S.CRITICAL, Category.TIMEOUT_ERROR, "Stripe does not answer in time"),
        (S.CRITICAL, Category.SERVER_ERROR, "Stripe answers with errors of its own"),
        (S.DEGRADED, Category.SERVER_ERROR, "Stripe answers with errors of its own at times"),
        (S.DEGRADED, Category.BREAKER_OPEN, "Stripe is held back by its breaker"),
        (S.ERROR, Category.AUTHENTICATION_ERROR, "Stripe refuses our credential"),
        (S.CRITICAL, "", "Stripe does not work"),
        (S.CRITICAL, "SOMETHING_NEW", "Stripe does not work"),
    ],
)
def test_the_title_is_a_sentence(status: Status, category: str, title: str) -> None:
    assert deciding.title("Stripe", status, category) == title


@pytest.mark.parametrize(
    ("kinds", "title"),
    [
        ({"status_page"}, "Stripe says itself that it has trouble"),
        ({"heartbeat"}, "Stripe did not run as it should"),
        ({"status_page", "http"}, "Stripe answers with errors of its own"),
        (set(), "Stripe answers with errors of its own"),
    ],
)
def test_what_calls_nobody_has_words_of_its_own(kinds: set[str], title: str) -> None:
    assert deciding.title("Stripe", S.CRITICAL, Category.SERVER_ERROR, kinds) == title


@pytest.mark.parametrize("category", list(Category))
def test_every_category_has_words(category: Category) -> None:
    if category is not Category.UNKNOWN_ERROR:
        assert deciding.title("X", S.CRITICAL, category) != "X does not work"
