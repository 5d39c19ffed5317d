"""What becomes of a forecast: sequences of looks in, steps out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.forecasts.expecting import Expectation
from monitoring.forecasts.promises import Outcome, Promise, Step, step
from tests.monitoring.forecasts.synthetic import NOW

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def expects(hours: float | None, now=NOW):  # type: ignore[no-untyped-def]
    if hours is None:
        return None
    at = now + hours * HOUR
    return Expectation(500, 50, at, at - HOUR, at + HOUR, 0.9, ())


def said(hours: float = 6) -> Promise:
    """At NOW the number stood at 500 and was to reach 800, in six hours, at the latest in eight."""
    return Promise(NOW, 500, 800, NOW + (hours + 2) * HOUR, NOW)


@pytest.mark.parametrize(
    ("ahead", "level", "expected"),
    [
        (None, 500.0, Step()),
        (None, None, Step()),
        (6, 500.0, Step(make=True, alert=True)),
        (24, 500.0, Step(make=True, alert=True)),
        (25, 500.0, Step(make=True)),
        (100, 500.0, Step(make=True)),
    ],
)
def test_a_forecast_is_made_when_something_is_expected(
    ahead: float | None, level: float | None, expected: Step
) -> None:
    found = step(None, level, expects(ahead), NOW)
    assert replace(found, alert=found.alert or None) == expected


LOOKS = {
    "it comes in time": [
        (5 * MINUTE, 504, 5.9, "renewed, warned"),
        (3 * HOUR, 650, 3.0, "renewed, warned"),
        (6 * HOUR, 801, None, "came, resolved"),
    ],
    "it comes at once": [(5 * MINUTE, 900, None, "came, resolved")],
    "it comes later than the latest moment but within its grace": [
        (8.5 * HOUR, 780, 0.2, "renewed, warned"),
        (8.7 * HOUR, 800, None, "came, resolved"),
    ],
    "one look without a trend ends nothing": [
        (5 * MINUTE, 504, None, ""),
        (10 * MINUTE, 508, 5.8, "renewed, warned"),
    ],
    "the trend is gone for half an hour, the forecast still open": [
        (10 * MINUTE, 504, None, ""),
        (30 * MINUTE, 504, None, "resolved"),
        (9 * HOUR, 504, None, "wrong, resolved"),
    ],
    "somebody mends it": [(2 * HOUR, 424, None, "averted, resolved")],
    "it falls while the trend of the week goes on": [(2 * HOUR, 424, 5.0, "renewed, warned")],
    "it stays where it was": [(8.9 * HOUR, 500, None, "wrong, resolved")],
    "it is late and still on its way": [(8.9 * HOUR, 700, 3.0, "wrong")],
    "it slows down": [
        (5 * MINUTE, 504, 30.0, "renewed"),
        (10 * MINUTE, 504, 40.0, "renewed, resolved"),
    ],
    "nobody looks any more": [
        (10 * MINUTE, None, None, ""),
        (1 * HOUR, None, None, "resolved"),
        (9 * HOUR, None, None, "forgotten, resolved"),
    ],
}


def words(found: Step) -> str:
    told = [
        *(["renewed"] if found.renew else []),
        *([found.settle.value] if found.settle else []),
        *(["forgotten"] if found.forget else []),
        *({True: ["warned"], False: ["resolved"]}.get(found.alert, [])),  # type: ignore[call-overload]
    ]
    return ", ".join(told)


@pytest.mark.parametrize("name", LOOKS)
def test_the_course_of_a_forecast_when(name: str) -> None:
    promise = said()
    for after, level, ahead, expected in LOOKS[name]:
        now = NOW + after
        found = step(promise, level, expects(ahead, now), now)
        assert words(found) == expected, f"{after} after it was made"
        if found.renew:
            promise = replace(promise, renewed_at=now)


def test_a_number_that_falls_to_its_limit_is_measured_the_other_way_round() -> None:
    promise = Promise(NOW, 60, 10, NOW + 8 * HOUR, NOW)
    assert step(promise, 10, None, NOW + HOUR).settle is Outcome.CAME
    assert step(promise, 75, None, NOW + HOUR).settle is Outcome.AVERTED
    assert step(promise, 55, None, NOW + HOUR).settle is None


def test_one_that_stood_at_its_limit_has_come() -> None:
    assert step(Promise(NOW, 8, 8, NOW + HOUR, NOW), 8, None, NOW).settle is Outcome.CAME


@given(
    level=st.none() | st.floats(0, 2000), ahead=st.none() | st.floats(0.01, 200), minutes=st.integers(0, 3000),
    renewed=st.integers(0, 3000),
)  # fmt: skip
def test_a_step_is_one_thing_and_ends_what_is_over(
    level: float | None, ahead: float | None, minutes: int, renewed: int
) -> None:
    now = NOW + minutes * MINUTE
    promise = replace(said(), renewed_at=NOW + min(renewed, minutes) * MINUTE)
    found = step(promise, level, expects(ahead, now), now)
    assert sum((found.renew, found.settle is not None, found.forget)) <= 1
    assert not found.make
    if promise.is_over(now):
        assert found.settle or found.forget
    if found.alert:
        assert found.renew
        assert ahead is not None
        assert ahead <= 24
