"""webhooks/inbound.py: cap -> verify -> dedupe -> store -> acknowledge."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import Sum

from tests.webhooks import vendors
from tests.webhooks.factories import make_destination, make_route, make_source
from tests.webhooks.receivers import SECRET, Answered, call, post, stripe_event, stripe_headers
from tests.whole import eventually
from webhooks import catalog, inbound, ingest, sealing, store
from webhooks.ingest import Ingest, Unavailable
from webhooks.models import Delivery, Event, Message, Refusal, Source
from webhooks.refusals import KINDS, Refusals
from wsmon.embedded import Server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("inlet")]
STRIPE = "/api/webhooks/stripe"


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    """What is refused, written when a test says so."""
    one = Refusals()
    monkeypatch.setattr(inbound, "refusals", one)
    return one


@pytest.fixture
def stripe() -> str:
    make_route(make_source("stripe"), make_destination("app"))
    return STRIPE


def send(path: str, body: bytes, **options: Any) -> Answered:
    return post(path, body, stripe_headers(body), **options)


def refusal(refused: Refusals) -> Refusal:
    refused.write()
    return Refusal.objects.get()


class TestAccepted:
    def test_the_answer_comes_when_the_event_and_its_deliveries_are_committed(self, stripe: str):
        body = stripe_event()
        answer = send(stripe, body)
        event = Event.objects.get()
        assert answer.status == 200
        assert answer.json() == {"received": 1, "duplicates": 0, "events": [str(event.id)]}
        assert answer.headers["content-type"] == "application/json"
        assert (event.key, event.type, event.subject) == ("evt_1", "payment_intent.succeeded", "pi_1")
        assert event.address == "203.0.113.7"
        assert Delivery.objects.get().event_id == event.id

    def test_exactly_what_came_is_kept(self, stripe: str):
        body = b'{ "id": "evt_1",\n "type":"x.y",  "data":{"object":{"id":"\xc3\xa5"}} }\n'
        headers = stripe_headers(body) | {"x-odd": "caf\xe9"}
        assert post(stripe, body, headers, query="a=1&b=%20").status == 200
        content = sealing.unseal(bytes(Event.objects.get().sealed or b""))
        assert content.body == body
        assert dict(content.headers) == headers
        assert content.url.endswith("/api/webhooks/stripe?a=1&b=%20")

    def test_why_it_was_believed_is_kept_without_any_secret(self):
        make_source("stripe", secrets=["whsec_new", SECRET])
        body = stripe_event()
        post(STRIPE, body, stripe_headers(body, at=time.time() - 100))
        kept = Event.objects.get().verification
        assert (kept["scheme"], kept["secret"], kept["secrets"]) == ("Stripe-Signature v1, HMAC-SHA256", 1, 2)
        assert kept["secret_id"] == catalog.secret_id(SECRET)
        assert 99 <= kept["age"] <= 130
        assert SECRET not in json.dumps(kept)

    def test_what_comes_again_is_acknowledged_and_counted(self, stripe: str):
        first = send(stripe, stripe_event()).json()
        again = send(stripe, stripe_event()).json()
        assert again == {"received": 1, "duplicates": 1, "events": first["events"]}
        assert Event.objects.get().duplicates == 1
        assert Delivery.objects.count() == 1

    def test_fifty_copies_at_the_same_instant_are_one_event_and_one_delivery_for_each_route(self, stripe: str):
        make_route(Source.objects.get(slug="stripe"), make_destination("other"))
        body = stripe_event()

        async def all_of_them() -> list[Answered]:
            return await asyncio.gather(*(call(stripe, body, stripe_headers(body)) for _ in range(50)))

        answers = asyncio.run(all_of_them())
        assert {one.status for one in answers} == {200}
        assert sum(1 - one.json()["duplicates"] for one in answers) == 1
        assert Event.objects.get().duplicates == 49
        assert Delivery.objects.count() == 2

    def test_a_body_in_pieces_is_one_body(self, stripe: str):
        body = stripe_event()
        pieces = [body[:1], body[1:50], b"", body[50:], b""]
        assert post(stripe, pieces, stripe_headers(body)).status == 200
        assert sealing.unseal(bytes(Event.objects.get().sealed or b"")).body == body

    def test_a_large_one_is_verified_too(self, stripe: str):
        body = stripe_event()[:-1] + b', "x": "' + b"x" * inbound.LARGE + b'"}'
        assert send(stripe, body).status == 200
        assert post(stripe, body + b" ", stripe_headers(body)).status == 401

    def test_a_source_that_is_new_is_found_at_once(self, stripe: str):
        send(stripe, stripe_event())
        make_source("another")
        body = stripe_event(2)
        eventually(lambda: send("/api/webhooks/another", body).status == 200, "it is known", 5)

    @pytest.mark.parametrize("path", [STRIPE, f"{STRIPE}/"])
    def test_a_slash_at_the_end_makes_no_difference(self, stripe: str, path: str):
        assert send(path, stripe_event()).status == 200


class TestRefused:
    # Signed when the test runs: by then these lines may be older than what is accepted.
    WRONG: dict[str, tuple[Callable[[], dict[str, str]], str]] = {
        "no signature": (lambda: {"content-type": "application/json"}, "signature_missing"),
        "rubbish": (lambda: {"stripe-signature": "rubbish"}, "signature_malformed"),
        "another secret": (lambda: stripe_headers(stripe_event(), "whsec_other"), "signature_mismatch"),
        "too old": (lambda: stripe_headers(stripe_event(), at=time.time() - 3_600), "too_old"),
        "from the future": (lambda: stripe_headers(stripe_event(), at=time.time() + 36_000), "from_the_future"),
    }

    @pytest.mark.parametrize("what", WRONG)
    def test_what_is_not_believed_is_not_stored_and_leaves_a_row(self, stripe: str, refused: Refusals, what: str):
        headers, code = self.WRONG[what]
        answer = post(stripe, stripe_event(), headers())
        assert (answer.status, answer.json()["status"]) == (401, 401)
        assert answer.headers["content-type"] == "application/problem+json"
        row = refusal(refused)
        assert (row.source, row.code, row.size, row.address) == ("stripe", code, len(stripe_event()), "203.0.113.7")
        assert row.sha256
        assert not Event.objects.exists()
        assert SECRET.encode() not in answer.body

    def test_a_source_that_nobody_knows(self, stripe: str, refused: Refusals):
        for path in ("/api/webhooks/nobody", "/api/webhooks/", "/api/webhooks/a/b/c", "/api/webhooks/a%00b\0"):
            answer = post(path, b"x")
            assert (answer.status, answer.headers["connection"]) == (404, "close")
        row = refusal(refused)
        assert (row.source, row.code, row.count) == ("?", "unknown_source", 4)

    def test_a_source_without_its_secret_says_which_variable_to_set(self, refused: Refusals):
        make_source("stripe", secrets=["env:STRIPE_WEBHOOK_SECRET"])
        answer = send(STRIPE, stripe_event())
        assert answer.status == 401
        assert "STRIPE_WEBHOOK_SECRET" in answer.json()["detail"]
        assert refusal(refused).code == "not_configured"

    def test_an_empty_secret_is_none(self, refused: Refusals):
        make_source("stripe", secrets=[])
        body = stripe_event()
        assert post(STRIPE, body, stripe_headers(body, "")).status == 401
        assert not Event.objects.exists()

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
    def test_any_other_method(self, stripe: str, refused: Refusals, method: str):
        answer = send(stripe, stripe_event(), method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert (answer.body == b"") is (method == "HEAD")
        assert refusal(refused).code == "method"

    def test_a_declared_size_over_the_cap_is_refused_before_a_byte_is_read(self, stripe: str, refused: Refusals):
        async def never() -> dict[str, Any]:
            raise AssertionError("it was read")

        sent: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            sent.append(message)

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": STRIPE,
            "query_string": b"",
            "client": None,
        }
        scope |= {"headers": [(b"content-length", b"99999999999")], "client": None}
        asyncio.run(inbound.application(scope, never, keep))
        assert sent[0]["status"] == 413
        assert (b"connection", b"close") in sent[0]["headers"]
        row = refusal(refused)
        assert (row.code, row.size, row.sha256, row.address) == ("too_large", 2**31 - 1, None, None)

    def test_a_body_in_pieces_is_not_read_beyond_the_cap(self, refused: Refusals):
        make_source("stripe", max_bytes=1_000)
        taken: list[int] = []

        class Endless(list[bytes]):
            def __iter__(self) -> Any:
                for number in range(1_000):
                    taken.append(number)
                    yield b"x" * 100

        pieces = iter(Endless())

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": next(pieces), "more_body": True}

        sent: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            sent.append(message)

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": STRIPE,
            "query_string": b"",
            "client": None,
        }
        scope |= {"headers": [], "client": None}
        asyncio.run(inbound.application(scope, receive, keep))
        assert (sent[0]["status"], len(taken)) == (413, 11)
        assert refusal(refused).size == 1_100

    @pytest.mark.parametrize("declared", ["-5", "1e3", "many", "9" * 400, "\xb2"])
    def test_a_content_length_that_is_none_is_not_believed(self, stripe: str, declared: str):
        body = stripe_event()
        assert post(stripe, body, stripe_headers(body) | {"content-length": declared}).status == 200

    def test_exactly_the_cap_is_fine(self):
        body = stripe_event()
        make_source("stripe", max_bytes=len(body))
        assert send(STRIPE, body).status == 200
        assert send(STRIPE, body + b" ").status == 413

    @pytest.mark.parametrize("extra", [[("x-large", "x" * 40_000)], [(f"x-{n}", "x" * 100) for n in range(400)]])
    def test_too_many_or_too_large_headers(self, stripe: str, refused: Refusals, extra: list[tuple[str, str]]):
        body = stripe_event()
        assert post(stripe, body, [*stripe_headers(body).items(), *extra]).status == 431
        assert refusal(refused).size == 0

    def test_a_second_signature_header_does_not_make_a_wrong_one_right(self, stripe: str):
        body = stripe_event()
        right, wrong = stripe_headers(body), stripe_headers(body, "whsec_other")
        assert post(stripe, body, [*wrong.items(), *wrong.items()]).status == 401
        assert post(stripe, body, [*right.items(), ("stripe-signature", "rubbish")]).status == 401

    def test_ten_thousand_bad_requests_of_many_addresses_leave_a_few_hundred_rows(
        self, stripe: str, refused: Refusals, settings: Any
    ):
        settings.TRUSTED_PROXIES = 1

        async def flood() -> set[int]:
            statuses = set()
            for number in range(10_000):
                forwarded = {"x-forwarded-for": f"10.{number // 65_536}.{number // 256 % 256}.{number % 256}"}
                path = STRIPE if number % 3 else f"/api/webhooks/guess-{number}"
                statuses.add((await call(path, b"garbage %d" % number, forwarded)).status)
                if number % 1_000 == 0:
                    await asyncio.to_thread(_write, refused)
            return statuses

        assert asyncio.run(flood()) == {401, 404}
        refused.write()
        minutes = Refusal.objects.values("at").distinct().count()
        assert Refusal.objects.count() <= minutes * (KINDS + 2)
        assert Refusal.objects.aggregate(total=Sum("count"))["total"] == 10_000


def _write(refused: Refusals) -> None:
    refused.write()
    connection.close()


class TestFaults:
    def test_a_client_that_hangs_up_in_its_body_leaves_nothing(self, stripe: str, refused: Refusals):
        body = stripe_event()
        assert post(stripe, body, stripe_headers(body), hang_up=True) == Answered(0, {}, b"")
        assert refused.write() == 0
        assert not Event.objects.exists()

    def test_a_body_that_never_ends_is_not_waited_for(
        self, stripe: str, refused: Refusals, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(inbound, "BODY_SECONDS", 0.1)
        sent: list[dict[str, Any]] = []

        async def keep(message: dict[str, Any]) -> None:
            sent.append(message)

        async def drip() -> dict[str, Any]:
            await asyncio.sleep(0.03)
            return {"type": "http.request", "body": b"x", "more_body": True}

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": STRIPE,
            "query_string": b"",
            "client": None,
        }
        scope |= {"headers": [], "client": None}
        asyncio.run(inbound.application(scope, drip, keep))
        assert sent[0]["status"] == 408
        assert refusal(refused).code == "malformed"

    def test_while_the_database_is_away_the_vendor_is_asked_to_come_again(
        self, stripe: str, refused: Refusals, embedded_database: Server
    ):
        assert send(stripe, stripe_event(1)).status == 200
        connection.close()
        embedded_database.stop()
        try:
            answer = send(stripe, stripe_event(2))
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert answer.headers["content-type"] == "application/problem+json"
            # What is no vendor's is refused all the same, and a name that may be new is not denied.
            assert post(stripe, b"garbage").status == 401
            time.sleep(0.2)  # for a tenth of a second what was just looked at is believed
            assert post("/api/webhooks/may-be-new", b"x").status == 503
        finally:
            embedded_database.start()
        eventually(lambda: send(stripe, stripe_event(2)).status == 200, "it is accepted")
        assert sorted(Event.objects.values_list("key", flat=True)) == ["evt_1", "evt_2"]
        assert Delivery.objects.count() == 2
        assert refusal(refused).count == 1

    def test_a_process_that_has_never_reached_the_database_denies_nothing(
        self, stripe: str, embedded_database: Server
    ):
        catalog.forget()
        connection.close()
        embedded_database.stop()
        try:
            assert send(stripe, stripe_event()).status == 503
        finally:
            embedded_database.start()
        eventually(lambda: send(stripe, stripe_event()).status == 200, "it is accepted")

    @pytest.mark.parametrize("problem", [OperationalError("gone"), ValueError("a bug")], ids=["away", "a bug"])
    def test_what_cannot_be_stored_is_never_acknowledged(
        self, stripe: str, monkeypatch: pytest.MonkeyPatch, problem: Exception
    ):
        def fails(_: object) -> None:
            raise problem

        with monkeypatch.context() as patch:
            patch.setattr(store, "save", fails)
            assert send(stripe, stripe_event()).status == 503
        assert send(stripe, stripe_event()).status == 200

    def test_when_too_much_waits_the_vendor_is_asked_to_come_again(
        self, stripe: str, monkeypatch: pytest.MonkeyPatch, inlet: Ingest
    ):
        monkeypatch.setattr(ingest, "WAITING", 0)
        answer = send(stripe, stripe_event())
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")

    def test_a_bug_in_a_scheme_is_no_500(self, stripe: str, monkeypatch: pytest.MonkeyPatch):
        def broken(*_: object) -> None:
            raise KeyError("a bug")

        monkeypatch.setattr(inbound, "_judge", broken)
        assert send(stripe, stripe_event()).status == 503

    def test_the_store_is_asked_only_for_what_is_believed(
        self, stripe: str, monkeypatch: pytest.MonkeyPatch, inlet: Ingest
    ):
        async def never(*_: object) -> None:
            raise Unavailable("it was asked")

        monkeypatch.setattr(inlet, "save", never)
        assert post(stripe, stripe_event(), stripe_headers(stripe_event(), "whsec_other")).status == 401
        assert send(stripe, stripe_event()).status == 503


class TestStatuses:
    def test_out_of_order_statuses_of_a_message_never_move_it_backwards(self):
        make_source("whatsapp", "whatsapp", [vendors.WHATSAPP_SECRET])
        for word, now in [("delivered", "delivered"), ("sent", "delivered"), ("read", "read"), ("delivered", "read")]:
            body, headers = vendors.whatsapp(("wamid.1", word))
            assert post("/api/webhooks/whatsapp", body, headers).status == 200
            assert Message.objects.get().status == now
