from __future__ import annotations

import pytest

from monitoring import store, summaries
from monitoring.models import CheckState, ProbeResult, Rollup, Service, StateChange
from monitoring.overview import Filter, overall, page
from monitoring.periods import PERIODS
from tests.monitoring.factories import finished, make_check, outcome

pytestmark = pytest.mark.django_db


def test_it_stores_a_result_with_its_rollups_and_state():
    check = make_check()
    assert store.settle([finished(check, outcome(ms=120))]) == 1

    state = CheckState.objects.get(check_ref=check)
    assert (state.status, state.outcome, state.total_ms, state.recent_ms) == ("healthy", "healthy", 120, [120])
    assert state.lease_token is None
    assert ProbeResult.objects.filter(check_ref=check).count() == 1
    assert sorted(Rollup.objects.values_list("level", "healthy")) == [(60, 1), (960, 1), (3600, 1), (86400, 1)]
    assert Service.objects.get().status == "healthy"
    assert [(c.old, c.new) for c in StateChange.objects.all()] == [("unknown", "healthy")] * 2
    summaries.refresh(PERIODS["24h"])
    view = page(Filter()).services[0]
    assert view.uptime == 1.0
    assert view.bar[-1].status == "healthy"
    assert overall().status == "healthy"
