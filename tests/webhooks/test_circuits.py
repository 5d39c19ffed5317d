"""webhooks/circuits.py: whose breaker a destination has."""

from __future__ import annotations

import pytest

from monitoring.breakers.policy import Policy
from tests.monitoring.factories import make_service
from tests.webhooks.factories import make_destination
from webhooks import catalog, circuits

pytestmark = pytest.mark.django_db


def test_a_destination_has_its_own_breaker():
    destination = make_destination("app")
    assert circuits.name_of(destination) == "destination:app" == circuits.own_name("app")


def test_or_shares_that_of_the_service_it_names():
    service = make_service("stripe")
    one, other = make_destination("one", service=service), make_destination("other", service=service)
    assert circuits.name_of(one) == circuits.name_of(other) == "stripe"
    known = catalog.refresh(force=True).destinations
    assert {known[one.id].breaker, known[other.id].breaker} == {"stripe"}


def test_by_default_a_few_calls_that_hang_open_it():
    policy = Policy.of(circuits.DEFAULT_POLICY)
    assert policy.policy == "counting"
    assert policy.failure_threshold <= 8  # no more than a destination gets at once
