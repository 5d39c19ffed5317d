"""Stripe's webhooks, and its own list of events."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import responses

from providers import stripe
from providers.base import NotConfigured
from providers.hooks import NoOptions, Unlisted
from tests.providers.hooks_contract import NOW, HooksContract, changed, fixture
from wsmon.http import Client

SINCE = datetime(2026, 10, 31, tzinfo=UTC)
KEY = {"STRIPE_SECRET_KEY": "sk_test_planted0123456789"}


def _digest(body: bytes, secret: str, at: int) -> str:
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


class TestStripeHooks(HooksContract):
    slug = "stripe"
    secret = "whsec_planted0123456789abcdefghijkl"
    other = "whsec_another0123456789abcdefghijkl"
    sample = fixture("stripe", "invoice_payment_failed")
    required = ("stripe-signature",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {"stripe-signature": f"t={at},v1={_digest(body, secret, at)}"}

    def test_it_reads_a_snapshot_event(self) -> None:
        (found,) = self.events()
        assert found.key == "evt_1SOpsInvented000000000002"
        assert found.type == "invoice.payment_failed"
        assert found.subject == "in_1SOpsInvented0001"
        assert found.occurred_at == datetime.fromtimestamp(1793447996, UTC)
        assert found.body is None
        assert self.scheme.event_url.format(key=found.key, subject="").endswith(f"/events/{found.key}")

    def test_it_reads_a_thin_event(self) -> None:
        (found,) = self.events(fixture("stripe", "thin"))
        assert found.key == "evt_test_65UnInvented"
        assert found.type == "v1.billing.meter.error_report_triggered"
        assert found.subject == "mtr_test_61Invented"
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 56, tzinfo=UTC)

    def test_any_of_several_v1_fits_and_v0_never_does(self) -> None:
        good = _digest(self.sample, self.secret, NOW)
        inbound = self.request()
        self.verify(changed(inbound, stripe_signature=f"v0={'0' * 64},v1={'0' * 64},t={NOW},v1={good}"))
        for value in (f"t={NOW},v0={good}", f"t={NOW}", f"v1={good}", f"t={NOW},t={NOW},v1={good}"):
            assert self.refusal(changed(inbound, stripe_signature=value)).code == "signature_malformed"
        assert self.refusal(changed(inbound, stripe_signature=f"t={NOW},v1={good.upper()}"))

    def test_an_api_key_is_not_a_signing_secret(self) -> None:
        assert "API key" in str(self.scheme.secret_problem("sk_live_planted0123"))
        assert "whsec_" in str(self.scheme.secret_problem("planted0123"))


@pytest.fixture(name="stub")
def _stub() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as stub:
        yield stub


def _event(number: int) -> dict[str, Any]:
    data = {"object": {"id": f"in_{number}"}}
    return {"id": f"evt_{number}", "type": "invoice.paid", "created": 1793447996 - number, "data": data}


def _page(stub: responses.RequestsMock, more: bool, *numbers: int, after: str | None = None) -> None:
    query = {"limit": "100", "created[gte]": str(int(SINCE.timestamp()))}
    match = responses.matchers.query_param_matcher(query | ({"starting_after": after} if after else {}))
    body = {"object": "list", "data": [_event(number) for number in numbers], "has_more": more}
    stub.get("https://api.stripe.com/v1/events", json=body, match=[match])


def test_missed_events_are_listed_page_by_page(stub: responses.RequestsMock) -> None:
    _page(stub, True, 1, 2)
    _page(stub, False, 3, after="evt_2")
    missed = list(stripe.missed(Client(), KEY, NoOptions(), SINCE, 5.0))
    assert [found.key for found, _, _ in missed] == ["evt_1", "evt_2", "evt_3"]
    found, headers, body = missed[0]
    assert (found.type, found.subject) == ("invoice.paid", "in_1")
    assert json.loads(body) == _event(1)
    assert headers["content-type"].startswith("application/json")
    assert all(call.request.headers["Authorization"] == f"Bearer {KEY['STRIPE_SECRET_KEY']}" for call in stub.calls)


def test_known_events_are_left_out_and_pages_are_asked_for_one_by_one(stub: responses.RequestsMock) -> None:
    _page(stub, True, 1, 2)
    iterator = stripe.missed(Client(), KEY, None, SINCE, 5.0, known=lambda key: key == "evt_1")
    assert next(iterator)[0].key == "evt_2"


def test_it_gives_up_after_twenty_pages() -> None:
    with responses.RequestsMock() as stub:
        body = {"data": [_event(1)], "has_more": True}
        stub.get("https://proxy.test/v1/events", json=body)
        variables = KEY | {"STRIPE_API_BASE": "https://proxy.test/"}
        assert len(list(stripe.missed(Client(), variables, None, SINCE, 5.0))) == 20


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 401, "json": {"error": {"message": "Invalid API Key"}}},
        {"status": 500, "body": "<html>"},
        {"status": 200, "json": []},
        {"status": 200, "json": {"data": None}},
        {"body": requests.ReadTimeout()},
    ],
    ids=str,
)
def test_a_list_that_cannot_be_read_is_told_without_the_key(answer: dict[str, Any]) -> None:
    with responses.RequestsMock() as stub:
        stub.get("https://api.stripe.com/v1/events", **answer)
        with pytest.raises(Unlisted) as caught:
            list(stripe.missed(Client(), KEY, None, SINCE, 5.0))
    assert KEY["STRIPE_SECRET_KEY"] not in str(caught.value)


def test_without_a_key_it_says_which_variable_to_set() -> None:
    with pytest.raises(NotConfigured) as caught:
        list(stripe.missed(Client(), {}, None, SINCE, 5.0))
    assert caught.value.variables == ("STRIPE_SECRET_KEY",)
