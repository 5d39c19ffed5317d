"""webhooks/sending.py: one try, against real sockets."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from tests import servers
from tests.servers import Handler, Peer, Server, answering, dripping, endless, http, once, redirecting, silent
from webhooks import sending
from webhooks.catalog import Destination
from webhooks.schedule import Answer
from webhooks.sealing import Content
from webhooks.sending import ANSWER_BYTES, Outgoing, fingerprint, headers_of
from wsmon.http import Client
from wsmon.vocabulary import Category

EVENT = uuid.UUID("01948a5e-0000-7000-8000-000000000001")
NEW, OLD = (f"whsec_{base64.b64encode(text * 3).decode()}" for text in (b"the-new-", b"the-old-"))
BODY = b'{ "id":"evt_1",\n "x":"\xc3\xa5"  }\n'
HEADERS = [
    ("host", "ops.example.com"),
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "30"),
    ("stripe-signature", "t=1,v1=abc"),
    ("user-agent", "Stripe/1.0"),
    ("x-odd", "one"),
    ("x-odd", "two"),
]
NOW = 1_772_000_000.0


def destination(url: str = "http://127.0.0.1:9/", **fields: Any) -> Destination:
    defaults: dict[str, Any] = {
        "timeout": 2.0,
        "headers": {},
        "secrets": (),
        "retry": (1.0,),
        "forward_headers": True,
        "breaker": "destination:app",
    }
    return Destination(1, "app", url, **defaults | fields)


def outgoing(where: Destination | None = None, **fields: Any) -> Outgoing:
    content = Content(fields.pop("headers", HEADERS), "https://ops.example.com/in", fields.pop("body", BODY))
    return Outgoing(EVENT, where or destination(), content, ("stripe-signature",), **fields)


def sent(one: Outgoing) -> dict[str, str]:
    """The headers of a try, by their lower-case names."""
    return {name.lower(): value for name, value in headers_of(one, NOW).items()}


def make(handler: Handler, client: Client | None = None, **fields: Any) -> tuple[Answer, list[bytes]]:
    """One try at a server of that kind: what it found, and what the server was sent."""
    with Server(handler) as server:
        where = destination(server.url("/hooks?a=1"), **fields)
        answer = sending.send(outgoing(where), client or Client(servers.LOOPBACK))
        return answer, server.requests


class TestHeaders:
    def test_the_vendors_own_go_along_in_their_own_words(self):
        found = sent(outgoing())
        assert found["stripe-signature"] == "t=1,v1=abc"
        assert found["content-type"] == "application/json; charset=utf-8"
        assert found["x-odd"] == "one, two"
        assert found["user-agent"] == "Stripe/1.0"

    @pytest.mark.parametrize(
        "name",
        [
            "host",
            "connection",
            "content-length",
            "transfer-encoding",
            "te",
            "upgrade",
            "keep-alive",
            "trailer",
            "expect",
            "cookie",
            "authorization",
            "proxy-authorization",
            "accept-encoding",
            "forwarded",
            "via",
            "x-real-ip",
            "cf-connecting-ip",
            "x-forwarded-for",
            "x-forwarded-host",
            "X-Forwarded-Proto",
            "Webhook-Replay",
        ],
    )
    def test_what_is_about_the_way_to_us_or_meant_for_us_alone_does_not(self, name: str):
        found = sent(outgoing(headers=[*HEADERS, (name, "planted")]))
        assert "planted" not in " ".join(found.values())

    def test_nor_does_what_the_connection_header_names(self):
        found = sent(outgoing(headers=[("connection", "close, X-Hop"), ("x-hop", "planted"), ("x-stays", "1")]))
        assert "x-hop" not in found
        assert found["x-stays"] == "1"

    def test_a_destination_may_want_none_of_them_but_what_the_body_is(self):
        found = sent(outgoing(destination(forward_headers=False)))
        assert set(found) == {"content-type", "webhook-id", "webhook-timestamp"}

    def test_of_a_part_of_what_was_signed_the_signature_stays_behind(self):
        found = sent(outgoing(partial=True))
        assert "stripe-signature" not in found
        assert found["x-odd"] == "one, two"

    def test_what_has_no_type_is_json(self):
        assert sent(outgoing(headers=[]))["content-type"] == "application/json"

    def test_a_destinations_own_stand_above_all(self):
        where = destination(headers={"authorization": "Bearer t", "x-odd": "mine"})
        found = sent(outgoing(where))
        assert (found["authorization"], found["x-odd"]) == ("Bearer t", "mine")

    def test_every_try_names_the_event_and_only_a_replay_says_that_it_is_one(self):
        assert sent(outgoing())["webhook-id"] == str(EVENT)
        assert "webhook-replay" not in sent(outgoing())
        replayed = sent(outgoing(replay_id=uuid.UUID(int=7)))
        assert (replayed["webhook-id"], replayed["webhook-replay"]) == (str(EVENT), str(uuid.UUID(int=7)))

    def test_a_vendors_standard_webhooks_signature_is_kept_as_it_is_unless_we_sign_ourselves(self):
        vendors = [("webhook-id", "msg_1"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,abc")]
        kept = sent(outgoing(headers=vendors))
        assert [kept[name] for name, _ in vendors] == ["msg_1", "1", "v1,abc"]
        ours = sent(outgoing(destination(secrets=(NEW,)), headers=vendors))
        assert (ours["webhook-id"], ours["webhook-timestamp"]) == (str(EVENT), "1772000000")
        assert "abc" not in ours["webhook-signature"]

    @given(
        st.lists(
            st.tuples(st.from_regex(r"[A-Za-z-]{1,12}", fullmatch=True), st.text("ab ,;=", max_size=9)), max_size=8
        )
    )
    def test_no_name_is_sent_twice(self, pairs: list[tuple[str, str]]):
        names = [name.lower() for name in headers_of(outgoing(headers=pairs), NOW)]
        assert len(names) == len(set(names))


class TestSigning:
    @pytest.mark.parametrize("secret", [NEW, OLD])
    def test_the_standard_webhooks_library_believes_it_with_either_of_two_secrets(self, secret: str):
        found = headers_of(outgoing(destination(secrets=(NEW, OLD))), time.time())
        lower = {name.lower(): value for name, value in found.items()}
        assert Webhook(secret).verify(BODY, lower) == json.loads(BODY)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(BODY + b" ", lower)

    def test_and_not_with_a_third(self):
        found = headers_of(outgoing(destination(secrets=(NEW,))), time.time())
        with pytest.raises(WebhookVerificationError):
            Webhook(OLD).verify(BODY, {name.lower(): value for name, value in found.items()})

    def test_without_a_secret_nothing_is_signed(self):
        assert "webhook-signature" not in sent(outgoing())


class TestReceivers:
    def test_the_exact_bytes_and_headers_arrive_where_they_should(self):
        answer, (request,) = make(answering(b"thanks"), secrets=(NEW,), headers={"X-Token": "t0ken"})
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert (lines[0], body) == (b"post /hooks?a=1 http/1.1", BODY)
        assert b"stripe-signature: t=1,v1=abc" in lines
        assert b"content-length: %d" % len(BODY) in lines
        assert b"x-token: t0ken" in lines
        assert sum(line.startswith(b"host:") for line in lines) == 1
        assert (answer.ok, answer.http_status, answer.category, answer.message) == (True, 200, None, "")
        assert answer.exchanged.body == b"thanks"
        assert answer.timings.total_ms is not None

    STATUSES = [
        ("204 No Content", True, None),
        ("400 Bad Request", False, Category.CLIENT_ERROR),
        ("401 Unauthorized", False, Category.AUTHENTICATION_ERROR),
        ("403 Forbidden", False, Category.AUTHENTICATION_ERROR),
        ("404 Not Found", False, Category.CLIENT_ERROR),
        ("408 Request Timeout", False, Category.TIMEOUT_ERROR),
        ("410 Gone", False, Category.CLIENT_ERROR),
        ("429 Too Many Requests", False, Category.RATE_LIMITED),
        ("500 Oops", False, Category.SERVER_ERROR),
        ("503 Busy", False, Category.SERVER_ERROR),
    ]

    @pytest.mark.parametrize(("status", "ok", "category"), STATUSES)
    def test_an_answer_is_what_its_status_says(self, status: str, ok: bool, category: Category | None):
        answer, _ = make(answering(b"" if ok else b"why not\n", status))
        assert (answer.ok, answer.category, answer.http_status) == (ok, category, int(status[:3]))
        assert answer.message == ("" if ok else "why not")
        assert bool(answer.fingerprint) is not ok

    BROKEN: list[tuple[str, Handler, Category]] = [
        ("hangs", silent, Category.TIMEOUT_ERROR),
        ("drips its headers", dripping(b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 99), Category.TIMEOUT_ERROR),
        (
            "drips its body",
            dripping(http(b"", headers={"Content-Length": "999"}, length=False), b"x" * 999),
            Category.TIMEOUT_ERROR,
        ),
        ("hangs up", lambda peer: None, Category.NETWORK_ERROR),
        ("hangs up after reading", once(b""), Category.NETWORK_ERROR),
        ("talks something else", once(b"SSH-2.0-OpenSSH_9.2\r\n"), Category.NETWORK_ERROR),
    ]

    @pytest.mark.parametrize(("handler", "category"), [one[1:] for one in BROKEN], ids=[one[0] for one in BROKEN])
    def test_one_that_does_not_answer_is_no_exception(self, handler: Handler, category: Category):
        answer, _ = make(handler, timeout=0.5)
        assert not answer.ok
        assert answer.http_status is None
        assert answer.category in (category, Category.VALIDATION_ERROR)
        assert answer.message
        assert answer.exchanged.sent

    def test_one_that_resets_the_connection(self):
        def reset(peer: Peer) -> None:
            peer.read_request()
            peer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER, 0 s: close is a reset
            peer.sock.close()

        answer, _ = make(reset)
        assert (answer.http_status, answer.category) == (None, Category.NETWORK_ERROR)

    def test_nobody_there(self):
        with servers.refusing_port() as port:
            where = destination(f"http://127.0.0.1:{port}/")
            answer = sending.send(outgoing(where), Client(servers.LOOPBACK))
        assert (answer.http_status, answer.category) == (None, Category.NETWORK_ERROR)

    def test_an_endless_answer_is_a_success_of_which_16_kb_are_kept(self):
        answer, _ = make(endless, timeout=10)
        assert answer.ok
        assert answer.exchanged.truncated
        assert len(answer.exchanged.body) <= ANSWER_BYTES

    def test_so_is_a_small_one_that_unpacks_to_megabytes(self):
        answer, _ = make(servers.sending(servers.gzip_bomb(50)), timeout=10)
        assert answer.ok
        assert len(answer.exchanged.body) <= ANSWER_BYTES

    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
    def test_a_redirect_is_not_followed_and_is_no_success(self, status: str):
        with Server(answering()) as other:
            answer, _ = make(redirecting(other.url("/secret"), status))
            assert other.requests == []
        assert not answer.ok
        assert (answer.http_status, answer.category) == (int(status[:3]), Category.CLIENT_ERROR)

    def test_a_private_address_is_refused_unless_it_is_allowed(self):
        answer, requests = make(answering(), Client())
        assert requests == []
        assert answer.http_status is None
        assert answer.category == Category.CONFIGURATION_ERROR

    def test_what_is_kept_of_an_answer_is_masked(self):
        secret = b'{"error": "jane@example.com paid by 4242424242424242", "email": "jane@example.com"}'
        answer, _ = make(answering(secret, "500 Oops", {"Content-Type": "application/json", "Set-Cookie": "sid=1"}))
        kept = answer.exchanged.body + answer.message.encode() + repr(answer.exchanged.answered).encode()
        assert b"jane@example.com" not in kept
        assert b"4242424242424242" not in kept
        assert b"sid=1" not in kept

    def test_no_secret_of_the_destination_is_kept(self):
        echo = once(http(b"you sent t0ken-planted\n", "400 Bad Request"))
        answer, _ = make(echo, headers={"Authorization": "t0ken-planted"}, secrets=(NEW,))
        kept = repr(answer.exchanged.sent) + answer.message + answer.exchanged.body.decode()
        assert "t0ken-planted" not in kept
        assert NEW not in kept

    def test_a_destination_that_is_not_configured_says_so_and_is_not_called(self):
        answer, requests = make(answering(), problem="env:APP_HOOKS is not set")
        assert requests == []
        assert (answer.category, answer.message) == (Category.CONFIGURATION_ERROR, "env:APP_HOOKS is not set")

    ODD: dict[str, Callable[[Destination], Destination]] = {
        "a URL that is none": lambda one: replace(one, url="no url"),
        "a header's value that cannot be": lambda one: replace(one, headers={"X": "a\r\nb: c"}),
        "a header's name that cannot be": lambda one: replace(one, headers={"a b": "c"}),
        "a header of another alphabet": lambda one: replace(one, headers={"X": "\u20ac"}),
        "a length of its own": lambda one: replace(one, headers={"Content-Length": "1"}),
    }

    @pytest.mark.parametrize("what", ODD)
    def test_odd_configuration_is_our_own_fault_and_no_exception(self, what: str):
        answer = sending.send(outgoing(self.ODD[what](destination())), Client(servers.LOOPBACK))
        assert (answer.http_status, answer.category) == (None, Category.CONFIGURATION_ERROR)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120.0),
            (" 7 ", 7.0),
            ("0", 0.0),
            ("-5", None),
            ("soon", None),
            ("1.5", None),
            ("9" * 12, None),
            ("", None),
        ],
    )
    def test_a_number_of_seconds(self, value: str, seconds: float | None):
        answer, _ = make(answering(b"", "503 Busy", {"Retry-After": value}))
        assert answer.retry_after == seconds

    def test_a_date(self):
        answer, _ = make(answering(b"", "503 Busy", {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}))
        assert answer.retry_after is not None
        assert answer.retry_after > 1e9
        answer, _ = make(answering(b"", "503 Busy", {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}))
        assert answer.retry_after == 0.0


class TestFingerprints:
    def of(self, body: bytes, status: str = "500 Oops") -> str:
        return make(answering(body, status))[0].fingerprint

    def test_equal_answers_are_equal_apart_from_numbers_and_ids(self):
        one = self.of(b"no such row 4711 (request 0f3a9bc27d)")
        assert one == self.of(b"no such row 4712 (request 77aa01bb3e)")
        assert one != self.of(b"no such column 4711 (request 0f3a9bc27d)")
        assert one != self.of(b"no such row 4711 (request 0f3a9bc27d)", "502 Oops")
        assert len(one) == 16

    @given(st.text(), st.none() | st.integers(100, 599))
    def test_anything_has_one(self, text: str, status: int | None):
        assert len(fingerprint(None, status, text)) == 16
