"""What a call counts as, and how long a breaker stays open: pure functions."""

from __future__ import annotations

import asyncio
import concurrent.futures
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from monitoring.breakers import judging
from monitoring.breakers.policy import FAIL, NEUTRAL, OK, Ending, Kind, Policy
from tests.monitoring.factories import outcome
from wsmon.vocabulary import Category

DEFAULT = Policy()


def test_nothing_stored_means_the_defaults():
    assert Policy.of({}) == DEFAULT == Policy("rolling", 0.5, 20, 10.0, 5, 1, 30.0, 300.0, 1, None, frozenset())


def test_counting_wants_two_successful_trials_unless_told_otherwise():
    assert Policy.of({"policy": "counting"}).success_threshold == 2
    assert Policy.of({"policy": "counting", "success_threshold": 1}).success_threshold == 1
    assert Policy.of({"policy": "rolling"}).success_threshold == 1


def test_what_is_stored_is_taken_over_and_what_is_unknown_ignored():
    found = Policy.of({"min_volume": 3, "ignore_status": [500, 404], "colour": "red"})
    assert (found.min_volume, found.ignore_status) == (3, frozenset({404, 500}))


def test_a_window_has_ten_slots():
    assert DEFAULT.slot_seconds == 1.0
    assert Policy(window=60).slot_seconds == 6.0


# (status, what it counts as)
STATUSES = [
    (200, Kind.OK),
    (204, Kind.OK),
    (302, Kind.OK),
    (400, Kind.NEUTRAL),
    (401, Kind.CREDENTIAL),
    (402, Kind.NEUTRAL),
    (403, Kind.CREDENTIAL),
    (404, Kind.NEUTRAL),
    (408, Kind.FAIL),
    (422, Kind.NEUTRAL),
    (425, Kind.FAIL),
    (429, Kind.LIMITED),
    (499, Kind.NEUTRAL),
    (500, Kind.FAIL),
    (503, Kind.FAIL),
    (599, Kind.FAIL),
]


@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_an_http_status_counts_as(status: int, kind: Kind):
    ending = DEFAULT.of_status(status)
    assert ending.kind is kind
    assert ending.failed is (kind in (Kind.FAIL, Kind.CREDENTIAL, Kind.LIMITED))


@pytest.mark.parametrize("status", [401, 429, 500, 200])
def test_an_ignored_status_counts_nowhere(status: int):
    assert Policy(ignore_status=frozenset({status})).of_status(status, 5.0) == NEUTRAL


@pytest.mark.parametrize(("status", "wait"), [(429, 7.0), (503, 7.0), (403, 7.0), (404, None), (200, None)])
def test_retry_after_is_kept_with_what_failed(status: int, wait: float | None):
    assert DEFAULT.of_status(status, 7.0).retry_after == wait


# (slow_over, ending, seconds, expected)
TIMED = [
    (1.0, OK, 0.9, OK),
    (1.0, OK, 1.0, OK),
    (1.0, OK, 1.1, FAIL),
    (1.0, NEUTRAL, 9.0, NEUTRAL),
    (1.0, Ending(Kind.LIMITED, 3.0), 9.0, Ending(Kind.LIMITED, 3.0)),
    (None, OK, 9e9, OK),
]


@pytest.mark.parametrize(("slow_over", "ending", "seconds", "expected"), TIMED)
def test_a_success_that_took_too_long_is_a_failure(
    slow_over: float | None, ending: Ending, seconds: float, expected: Ending
):
    assert Policy(slow_over=slow_over).timed(ending, seconds) == expected


def test_open_times_double_up_to_the_cap():
    assert [DEFAULT.open_for(n) for n in range(1, 7)] == [30, 60, 120, 240, 300, 300]
    assert DEFAULT.open_for(10_000) == 300


def test_the_cap_is_never_below_the_first_wait():
    assert Policy(recovery_timeout=50, recovery_max=10).open_for(1) == 50
    assert Policy(recovery_timeout=50, recovery_max=10).open_for(9) == 50


class Carries(Exception):
    """An exception with some attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        self.__dict__ |= attributes


def response(status: int, **headers: str) -> requests.Response:
    made = requests.Response()
    made.status_code = status
    made.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return made


# (what, the exception, what it counts as)
EXCEPTIONS: list[tuple[str, BaseException, Ending]] = [
    ("a refused connection", ConnectionRefusedError(), FAIL),
    ("a timeout", TimeoutError(), FAIL),
    ("a bug", ZeroDivisionError(), FAIL),
    ("a cancelled task", asyncio.CancelledError(), NEUTRAL),
    ("a cancelled future", concurrent.futures.CancelledError(), NEUTRAL),
    ("Ctrl-C", KeyboardInterrupt(), NEUTRAL),
    ("the end of a program", SystemExit(), NEUTRAL),
    ("a generator that is closed", GeneratorExit(), NEUTRAL),
    ("Stripe's declined card", Carries(http_status=402, headers={}), NEUTRAL),
    ("aiohttp's 503", Carries(status=503, headers={"Retry-After": "7"}), Ending(Kind.FAIL, 7.0)),
    ("requests' 404", requests.HTTPError(response=response(404)), NEUTRAL),
    ("requests' 429", requests.HTTPError(response=response(429, Retry_After="12")), Ending(Kind.LIMITED, 12.0)),
    (
        "an error with a status of its own and an answer that is false in a boolean context",
        Carries(status_code=429, response=response(429, Retry_After="12")),
        Ending(Kind.LIMITED, 12.0),
    ),
    ("a status that is none", Carries(status="failed"), FAIL),
    ("a status out of range", Carries(status=7), FAIL),
    ("an answer of 200 that nobody could read", Carries(response=response(200)), FAIL),
    ("an endless redirect", requests.TooManyRedirects(response=response(302)), FAIL),
]


@pytest.mark.parametrize(("error", "ending"), [one[1:] for one in EXCEPTIONS], ids=[one[0] for one in EXCEPTIONS])
def test_an_exception_counts_as(error: BaseException, ending: Ending):
    assert judging.of_exception(error, DEFAULT) == ending


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0", 0.0), ("1.5", 1.5), ("-1", None), ("nan", None), ("inf", None), ("soon", None), (None, None)],
)
def test_retry_after_is_read_where_it_is_a_number(text: str | None, seconds: float | None):
    assert judging.retry_after_of(SimpleNamespace(headers={"Retry-After": text})) == seconds


def test_an_answer_without_headers_asks_for_no_wait():
    assert judging.retry_after_of(object()) is None


def test_an_answer_counts_by_its_status_if_it_has_one():
    assert judging.of_answer(response(503, Retry_After="9"), DEFAULT) == Ending(Kind.FAIL, 9.0)
    assert judging.of_answer(SimpleNamespace(status=200), DEFAULT) == OK
    assert judging.of_answer({"any": "thing"}, DEFAULT) == OK


# (kind of check, outcome, category, what it counts as)
PROBES = [
    ("http", "healthy", None, Kind.OK),
    ("http", "degraded", None, Kind.OK),
    ("http", "critical", Category.TIMEOUT_ERROR, Kind.FAIL),
    ("http", "error", Category.AUTHENTICATION_ERROR, Kind.CREDENTIAL),
    ("http", "error", Category.CONFIGURATION_ERROR, Kind.NEUTRAL),
    ("http", "error", Category.RATE_LIMITED, Kind.LIMITED),
    ("http", "degraded", Category.RATE_LIMITED, Kind.LIMITED),
    ("http", "healthy", Category.RATE_LIMITED, Kind.OK),
    ("heartbeat", "critical", Category.TIMEOUT_ERROR, Kind.NEUTRAL),
    ("status_page", "critical", Category.TIMEOUT_ERROR, Kind.NEUTRAL),
]


@pytest.mark.parametrize(("check", "word", "category", "kind"), PROBES)
def test_a_probe_counts_as(check: str, word: str, category: Category | None, kind: Kind):
    assert judging.of_probe(check, outcome(word, category=category)).kind is kind
