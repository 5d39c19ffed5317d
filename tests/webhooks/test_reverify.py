"""``webhooks.reverify``: whether a stored event may be sent again."""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.webhooks.factories import JSON_TYPE, make_event, make_source, set_secrets
from webhooks import catalog, reverify, sealing
from webhooks.models import Event, Source
from webhooks.reverify import Ok, Skip
from webhooks.sealing import Content

SECRET = "whsec_of_stripe"
OTHER = "whsec_the_new_one"
LONG_AGO = datetime(2024, 2, 29, 12, tzinfo=UTC)
BODY = b'{"id": "evt_1", "type": "payment_intent.succeeded"}'

pytestmark = pytest.mark.django_db


def signed(body: bytes = BODY, secret: str = SECRET, at: datetime = LONG_AGO) -> list[tuple[str, str]]:
    """Headers as Stripe sends them (https://docs.stripe.com/webhooks#verify-manually)."""
    stamp = int(at.timestamp())
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return [*JSON_TYPE, ("stripe-signature", f"t={stamp},v1={digest}")]


def stored(source: Source, body: bytes = BODY, headers: Any = None, secret: str = SECRET, **fields: Any) -> Event:
    """An event that came signed, long ago."""
    fields = {"verification": {"secret_id": catalog.secret_id(secret)}, "received_at": LONG_AGO} | fields
    return make_event(source, body=body, headers=signed(body, secret) if headers is None else headers, **fields)


@pytest.fixture
def stripe() -> Source:
    """A source with one secret."""
    return make_source("stripe", secrets=[SECRET])


def test_what_was_signed_may_go_however_long_ago_it_came(stripe: Source) -> None:
    found = reverify.verdict(stored(stripe))
    assert isinstance(found, Ok)
    assert (found.content.body, found.proof) == (BODY, "signature")


def test_it_is_signed_with_any_of_the_present_secrets(stripe: Source) -> None:
    event = stored(stripe)
    set_secrets(stripe, [OTHER, SECRET])
    found = reverify.verdict(event)
    assert isinstance(found, Ok)
    assert found.proof == "signature"


def test_a_signature_that_does_not_fit_is_tampered(stripe: Source) -> None:
    assert reverify.verdict(stored(stripe, headers=signed(b"{}"))) == Skip("tampered")


def test_a_signature_that_is_missing_is_tampered(stripe: Source) -> None:
    assert reverify.verdict(stored(stripe, headers=JSON_TYPE)) == Skip("tampered")


def test_a_time_of_arrival_that_was_moved_is_tampered(stripe: Source) -> None:
    assert reverify.verdict(stored(stripe, received_at=datetime(2024, 2, 29, 13, tzinfo=UTC))) == Skip("tampered")


def test_a_body_that_is_not_the_one_hashed_is_tampered(stripe: Source) -> None:
    other = sealing.seal(Content(signed(b"{}"), "", b"{}"))
    assert reverify.verdict(stored(stripe, sealed=other)) == Skip("tampered")


def test_what_somebody_sealed_with_another_key_is_unreadable(stripe: Source, settings: Any) -> None:
    event = stored(stripe)
    settings.ENCRYPTION_KEYS = ["somebody-elses-key"]
    set_secrets(stripe, [SECRET])
    assert reverify.verdict(event) == Skip("unreadable")


def test_bytes_changed_in_the_database_are_unreadable(stripe: Source) -> None:
    event = stored(stripe)
    event.sealed = bytes(event.sealed)[:-1] + bytes([bytes(event.sealed)[-1] ^ 1])
    assert reverify.verdict(event) == Skip("unreadable")


def test_what_is_erased_is_erased(stripe: Source) -> None:
    assert reverify.verdict(stored(stripe, sealed=None)) == Skip("erased")


def test_after_a_rotation_the_seal_has_to_do(stripe: Source) -> None:
    event = stored(stripe)
    set_secrets(stripe, [OTHER])
    found = reverify.verdict(event)
    assert isinstance(found, Ok)
    assert found.proof == "seal"


def test_a_rotation_excuses_no_changed_body(stripe: Source) -> None:
    event = stored(stripe, sha256=hashlib.sha256(b"other").digest())
    set_secrets(stripe, [OTHER])
    assert reverify.verdict(event) == Skip("tampered")


@pytest.mark.parametrize("provider", ["published", "gone"])
def test_events_of_a_source_that_verifies_nothing_need_no_signature(provider: str) -> None:
    source = make_source(provider=provider, secrets=())
    assert isinstance(reverify.verdict(make_event(source)), Ok)


def test_what_we_fetched_ourselves_came_unsigned(stripe: Source) -> None:
    found = reverify.verdict(stored(stripe, headers=JSON_TYPE, verification={"scheme": "fetched"}))
    assert isinstance(found, Ok)


def test_a_token_that_is_only_compared_is_not_kept_to_compare_again() -> None:
    source = make_source(provider="google_calendar", secrets=["the-token"])
    verification = {"secret_id": catalog.secret_id("the-token")}
    event = make_event(source, headers=[("x-goog-channel-id", "1")], verification=verification)
    assert isinstance(reverify.verdict(event), Ok)


def test_events_of_an_archived_source_may_go(stripe: Source) -> None:
    event = stored(stripe)
    Source.objects.update(archived_at=LONG_AGO)
    catalog.forget()
    assert isinstance(reverify.verdict(event), Ok)


class TestBatches:
    """Parts of a request: the whole of it was signed."""

    whole = json.dumps([{"id": 1}, {"id": 2}]).encode()

    def first(self, stripe: Source, headers: Any = None) -> Event:
        request = Content(headers or signed(self.whole), "", self.whole)
        return stored(stripe, body=b'{"id": 1}', headers=headers, request=sealing.seal(request))

    def test_each_part_is_verified_by_the_whole(self, stripe: Source) -> None:
        first = self.first(stripe)
        second = stored(stripe, body=b'{"id": 2}', batch=first.id)
        for event, body in ((first, b'{"id": 1}'), (second, b'{"id": 2}')):
            found = reverify.verdict(event)
            assert isinstance(found, Ok)
            assert (found.proof, found.content.body) == ("signature", body)

    def test_a_whole_that_does_not_fit_is_tampered(self, stripe: Source) -> None:
        first = self.first(stripe, headers=signed(b"[]"))
        second = stored(stripe, body=b'{"id": 2}', batch=first.id)
        assert reverify.verdict(first) == reverify.verdict(second) == Skip("tampered")

    def test_a_part_whose_whole_is_gone_has_its_own_seal(self, stripe: Source) -> None:
        first = self.first(stripe)
        second = stored(stripe, body=b'{"id": 2}', batch=first.id)
        Event.objects.filter(id=first.id).update(request=None)
        orphan = stored(stripe, body=b'{"id": 3}', batch=uuid.uuid4())
        for event in (second, orphan):
            found = reverify.verdict(event)
            assert isinstance(found, Ok)
            assert found.proof == "seal"
