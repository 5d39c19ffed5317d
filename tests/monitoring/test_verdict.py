from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from monitoring.verdict import (
    LONGEST_CONFIRMATION,
    CheckVerdict,
    Policy,
    judge,
    overall_status,
    remember,
    service_status,
    unconfirmed,
    with_threshold,
)
from providers.base import ProbeOutcome
from tests.monitoring.factories import outcome
from wsmon.vocabulary import Category, Outcome, Status, Timings

WORDS = {
    "h": "healthy",
    "d": "degraded",
    "e": "error",
    "c": "critical",
    "u": "unknown",
    "p": "paused",
    "n": "not_configured",
}


def feed(start: str, outcomes: str, policy: Policy) -> str:
    """The status after each outcome, one letter each."""
    letters = {word: letter for letter, word in WORDS.items()}
    status, found = Status(WORDS[start]), ""
    recent: list[str] = []
    for letter in outcomes:
        recent = remember(recent, Outcome(WORDS[letter]))
        status = judge(status, recent, policy)
        found += letters[status.value]
    return found


# (what it shows, confirm_down, confirm_up, first status, outcomes, the status after each)
SEQUENCES = [
    ("one outcome is enough to be healthy", 2, 2, "u", "hh", "hh"),
    ("one failure is none when two are needed", 2, 2, "h", "chhch", "hhhhh"),
    ("two failures in a row are", 2, 2, "h", "hcc", "hhc"),
    ("confirm_down of one reacts at once", 1, 1, "h", "chch", "chch"),
    ("confirm_down of three waits for the third", 3, 2, "h", "cchccc", "hhhhhc"),
    ("a healthy outcome starts the count anew", 3, 1, "h", "cchcchccc", "hhhhhhhhc"),
    ("it recovers after confirm_up healthy outcomes", 2, 2, "c", "hh", "ch"),
    ("it recovers after three of three", 2, 3, "c", "hhchhh", "ccccch"),
    ("a failure between starts the recovery anew", 2, 2, "c", "hchh", "ccch"),
    ("slow outcomes make it degraded", 2, 2, "h", "dd", "hd"),
    ("degraded gets critical", 2, 2, "d", "cc", "dc"),
    ("critical gets degraded before it is healthy", 2, 2, "c", "ddhh", "cddh"),
    ("of mixed bad outcomes the mildest is confirmed", 2, 2, "h", "cd", "hd"),
    ("of mixed bad outcomes the mildest, in any order", 2, 2, "h", "dc", "hd"),
    ("and the harsher one as soon as it was seen often enough", 2, 2, "h", "dcc", "hdc"),
    ("of mixed better outcomes the harshest is taken", 2, 2, "c", "hd", "cd"),
    ("our own errors are worse than slow, milder than critical", 2, 2, "h", "ec", "he"),
    ("an error alone becomes error", 2, 2, "h", "ee", "he"),
    ("an error never looks like the vendor's failure", 1, 1, "h", "eeee", "eeee"),
    ("error recovers", 2, 2, "e", "hh", "eh"),
    ("unknown stays unknown until it is confirmed", 2, 2, "u", "cc", "uc"),
    ("unknown with a mixture", 3, 2, "u", "dce", "uud"),
    ("unknown and a first failure that was none", 2, 2, "u", "ch", "uh"),
    ("a paused check starts anew", 2, 2, "p", "ch", "ph"),
    ("a paused check that fails", 2, 2, "p", "cc", "pc"),
    ("a check that was not configured starts anew", 2, 2, "n", "h", "h"),
    ("a check that was not configured and is refused", 2, 2, "n", "ee", "ne"),
    ("the longest confirmation works", 20, 20, "h", "c" * 20, "h" * 19 + "c"),
    ("the longest recovery works", 2, 20, "c", "h" * 20, "c" * 19 + "h"),
    ("staying as it is needs no confirmation", 5, 5, "c", "ccc", "ccc"),
]


@pytest.mark.parametrize(
    ("down", "up", "start", "outcomes", "expected"),
    [case[1:] for case in SEQUENCES],
    ids=[case[0].replace(" ", "_") for case in SEQUENCES],
)
def test_it_confirms_before_it_changes_its_mind(down: int, up: int, start: str, outcomes: str, expected: str):
    assert feed(start, outcomes, Policy(down, up)) == expected


def test_it_has_no_opinion_without_outcomes():
    assert judge(Status.UNKNOWN, [], Policy(1, 1)) is Status.UNKNOWN


def test_it_remembers_as_much_as_the_longest_confirmation_needs():
    recent: list[str] = []
    for _ in range(50):
        recent = remember(recent, Outcome.HEALTHY)
    recent = remember(recent, Outcome.CRITICAL)
    assert len(recent) == LONGEST_CONFIRMATION
    assert recent[-1] == "critical"


class Model(RuleBasedStateMachine):
    """``judge`` beside a plain model that keeps every outcome ever and counts in words, not in slices."""

    order = ("healthy", "degraded", "error", "critical")

    @initialize(down=st.integers(1, 20), up=st.integers(1, 20), start=st.sampled_from(list(Status)))
    def begin(self, down: int, up: int, start: Status) -> None:
        self.policy = Policy(down, up)
        self.recent: list[str] = []
        self.status = start
        self.history: list[str] = []
        self.expected = start.value

    @rule(word=st.sampled_from(order), times=st.integers(1, 21))
    def probe(self, word: str, times: int) -> None:
        for _ in range(times):
            self.recent = remember(self.recent, Outcome(word))
            self.status = judge(self.status, self.recent, self.policy)
            self.history.append(word)
            self.expected = self.model()
            assert self.status.value == self.expected

    @invariant()
    def a_status_was_seen_as_often_as_it_takes(self) -> None:
        assert getattr(self, "status", None) == getattr(self, "expected", None)

    def model(self) -> str:
        last_down = self.history[-self.policy.confirm_down :]
        last_up = self.history[-self.policy.confirm_up :]
        begun = self.expected in self.order
        present = self.order.index(self.expected) if begun else 0
        ranks_down = [self.order.index(word) for word in last_down]
        ranks_up = [self.order.index(word) for word in last_up]
        if len(ranks_down) == self.policy.confirm_down and all(rank > present for rank in ranks_down):
            return self.order[min(ranks_down)]
        if not begun:
            return "healthy" if self.history[-1] == "healthy" else self.expected
        if len(ranks_up) == self.policy.confirm_up and all(rank < present for rank in ranks_up):
            return self.order[max(ranks_up)]
        return self.expected


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@given(st.lists(st.sampled_from(["degraded", "error", "critical"]), max_size=40), st.integers(2, 20))
def test_it_is_never_critical_without_confirm_down_critical_outcomes(words: list[str], down: int):
    recent: list[str] = []
    status = Status.HEALTHY
    for place, word in enumerate(words):
        recent = remember(recent, Outcome(word))
        status = judge(status, recent, Policy(down, 2))
        if status is Status.CRITICAL:
            assert words[: place + 1].count("critical") >= down


@pytest.mark.parametrize(
    ("status", "word", "expected"),
    [
        ("unknown", "critical", True),
        ("paused", "error", True),
        ("not_configured", "degraded", True),
        ("unknown", "healthy", False),
        ("healthy", "critical", False),
        ("critical", "critical", False),
    ],
)
def test_a_check_without_a_status_is_confirmed_soon(status: str, word: str, expected: bool):
    assert unconfirmed(Status(status), Outcome(word)) is expected


@pytest.mark.parametrize(
    ("word", "took", "limit", "expected"),
    [
        ("healthy", 801.0, 800.0, "degraded"),
        ("healthy", 800.0, 800.0, "healthy"),
        ("healthy", 9_999.0, None, "healthy"),
        ("healthy", None, 800.0, "healthy"),
        ("critical", 9_999.0, 800.0, "critical"),
        ("error", 9_999.0, 800.0, "error"),
        ("degraded", 9_999.0, 800.0, "degraded"),
    ],
)
def test_slowness_degrades_what_is_healthy(word: str, took: float | None, limit: float | None, expected: str):
    assert with_threshold(outcome(word, ms=took), Policy(degraded_over_ms=limit)).outcome == expected


def test_a_slow_outcome_says_by_how_much():
    slow = with_threshold(outcome("healthy", ms=1234, message="200 OK"), Policy(degraded_over_ms=800))
    assert slow.message == "200 OK; slow: 1,234 ms, limit 800 ms"
    mute = ProbeOutcome(Outcome.HEALTHY, timings=Timings(total_ms=900))
    assert with_threshold(mute, Policy(degraded_over_ms=800)).message == "slow: 900 ms, limit 800 ms"


def verdicts(words: Sequence[str]) -> list[CheckVerdict]:
    return [CheckVerdict(Status(word), f"check-{place}", f"is {word}", "") for place, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "unknown"),
        (["healthy", "healthy"], "healthy"),
        (["healthy", "degraded"], "degraded"),
        (["degraded", "error"], "error"),
        (["error", "critical", "healthy"], "critical"),
        (["healthy", "unknown"], "healthy"),
        (["healthy", "paused"], "healthy"),
        (["healthy", "not_configured"], "healthy"),
        (["critical", "paused", "not_configured"], "critical"),
        (["unknown", "not_configured"], "unknown"),
        (["paused", "not_configured"], "not_configured"),
        (["paused", "paused"], "paused"),
        (["unknown"], "unknown"),
    ],
)
def test_a_service_is_as_bad_as_the_worst_check_that_counts(words: list[str], expected: str):
    assert service_status(verdicts(words)).status == expected


def test_a_service_says_which_check_is_to_blame():
    checks = [
        CheckVerdict(Status.HEALTHY, "connectivity", "200"),
        CheckVerdict(Status.CRITICAL, "health", "timed out", Category.TIMEOUT_ERROR),
        CheckVerdict(Status.CRITICAL, "other", "refused", Category.NETWORK_ERROR),
    ]
    found = service_status(checks)
    assert (found.reason, found.category) == ("health: timed out", "TIMEOUT_ERROR")


def test_a_healthy_service_gives_no_reason():
    found = service_status([CheckVerdict(Status.HEALTHY, "health", "200 OK", "")])
    assert (found.reason, found.category) == ("", "")


def test_a_long_reason_fits_its_column():
    assert len(service_status([CheckVerdict(Status.CRITICAL, "health", "x" * 600)]).reason) == 500


@pytest.mark.parametrize(
    ("healthy", "counted", "expected"),
    [
        (0, 0, "unknown"),
        (1, 1, "healthy"),
        (0, 1, "critical"),
        (8, 10, "degraded"),  # exactly 80% is not more than 80%
        (9, 10, "healthy"),
        (81, 100, "healthy"),
        (4, 5, "degraded"),
        (5, 10, "critical"),  # exactly 50% is not more than 50%
        (51, 100, "degraded"),
        (1, 2, "critical"),
        (2, 3, "degraded"),
    ],
)
def test_the_overall_status_follows_the_contract(healthy: int, counted: int, expected: str):
    assert overall_status(healthy, counted) == expected


@given(st.integers(1, 500).flatmap(lambda counted: st.tuples(st.integers(0, counted), st.just(counted))))
def test_the_overall_status_is_exact_for_any_number(numbers: tuple[int, int]):
    healthy, counted = numbers
    more_than_80, more_than_50 = 5 * healthy > 4 * counted, 2 * healthy > counted
    expected = "healthy" if more_than_80 else "degraded" if more_than_50 else "critical"
    assert overall_status(healthy, counted) == expected
