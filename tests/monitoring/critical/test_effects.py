from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.critical import effects
from monitoring.critical.effects import (
    AS_USUAL,
    IN_AN_EMERGENCY,
    ON_A_CRITICAL_DAY,
    Strictness,
    Values,
    effective,
)
from monitoring.models import Posture

# usual (interval, timeout, confirm_down, degraded_over) -> on a critical day, for a critical service
CRITICAL_DAY: list[tuple[tuple[Any, ...], tuple[Any, ...]]] = [
    ((30, 5, 2, None), (15, 2.5, 1, None, False)),
    ((30, 5, 1, None), (15, 2.5, 1, None, False)),
    ((30, 5, 3, None), (15, 2.5, 1, None, False)),
    ((30, 5, 4, None), (15, 2.5, 2, None, True)),  # to be confirmed at once
    ((30, 5, 2, 4.0), (15, 4.0, 1, 4.0, False)),  # slow answers must not fail
    ((30, 5, 2, 9.0), (15, 5, 1, 9.0, False)),
    ((1.5, 1.2, 2, None), (1, 1, 1, None, False)),  # no closer than a second
    ((1, 0.5, 2, None), (1, 0.5, 1, None, False)),
    ((3600, 30, 2, None), (1800, 15, 1, None, False)),
]


@pytest.mark.parametrize(("usual", "now"), CRITICAL_DAY)
@pytest.mark.parametrize("criticality", ["critical", "high"])
def test_what_matters_is_watched_harder_on_a_critical_day(
    usual: tuple[Any, ...], now: tuple[Any, ...], criticality: str
):
    assert effective(Values(*usual), ON_A_CRITICAL_DAY, criticality, "http", healthy=True) == Values(*now)


# (interval, kind, healthy?, what it becomes) of a service that matters less
SPARED = [
    (60, "http", True, 180),
    (60, "http", False, 60),  # what fails is not looked at less
    (60, "heartbeat", True, 60),  # it costs no quota
    (300, "http", True, 600),
    (3600, "http", True, 3600),
]


@pytest.mark.parametrize(("interval", "kind", "healthy", "becomes"), SPARED)
@pytest.mark.parametrize("criticality", ["normal", "low"])
def test_what_matters_less_makes_room_while_it_is_healthy(
    interval: float, kind: str, healthy: bool, becomes: float, criticality: str
):
    usual = Values(interval, 5, 2)
    assert effective(usual, ON_A_CRITICAL_DAY, criticality, kind, healthy) == Values(becomes, 5, 2)


@pytest.mark.parametrize(("interval", "becomes"), [(30, 5), (60, 5), (4, 2), (1, 1)])
@pytest.mark.parametrize("criticality", ["critical", "low"])
def test_in_an_emergency_everything_is_probed_every_5_seconds(interval: float, becomes: float, criticality: str):
    found = effective(Values(interval, 8, 5), IN_AN_EMERGENCY, criticality, "http", healthy=False)
    assert found == Values(becomes, 4, 1)


words = st.sampled_from(["critical", "high", "normal", "low"])
kinds = st.sampled_from(["http", "heartbeat", "status_page"])
values = st.builds(
    Values,
    st.floats(1, 86_400),
    st.floats(0.1, 120),
    st.integers(1, 20),
    st.none() | st.floats(0.001, 120),
)


@given(values, words, kinds, st.booleans())
def test_on_a_usual_day_everything_is_as_configured(usual: Values, criticality: str, kind: str, healthy: bool):
    assert effective(usual, AS_USUAL, criticality, kind, healthy) == usual


@given(values, words, kinds, st.booleans(), st.sampled_from([ON_A_CRITICAL_DAY, IN_AN_EMERGENCY]))
def test_values_stay_within_reason(usual: Values, criticality: str, kind: str, healthy: bool, strict: Strictness):
    found = effective(usual, strict, criticality, kind, healthy)
    assert min(usual.interval, effects.SHORTEST_INTERVAL) <= found.interval
    assert found.interval <= max(usual.interval, effects.LONGEST_SPARED)
    assert 0 < found.timeout <= usual.timeout
    assert 1 <= found.confirm_down <= usual.confirm_down
    assert found.degraded_over == usual.degraded_over
    if usual.degraded_over is not None and usual.degraded_over <= usual.timeout:
        assert found.timeout >= usual.degraded_over


@pytest.mark.django_db
class TestRetryFactor:
    @pytest.fixture(autouse=True)
    def _forget(self):
        effects.forget()
        yield
        effects.forget()

    def test_it_is_1_when_nothing_was_ever_worked_out(self):
        assert effects.retry_factor() == 1.0

    @pytest.mark.parametrize(("critical", "factor"), [(True, 0.5), (False, 1.0)])
    def test_it_is_less_while_a_critical_day_is_in_force(self, critical: bool, factor: float):
        Posture.objects.create(critical=critical)
        assert effects.retry_factor() == factor

    def test_it_asks_once_a_second(self, django_assert_num_queries: Any):
        with django_assert_num_queries(1):
            effects.retry_factor()
            effects.retry_factor()
