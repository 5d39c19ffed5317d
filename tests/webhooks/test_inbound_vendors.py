"""webhooks/inbound.py with each kind of vendor: handshakes, batches, signed URLs, odd bodies, proxies."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import providers
from providers.hooks import Found, Inbound, Refused, Reply, Verified, options_of
from tests.webhooks import vendors
from tests.webhooks.factories import make_destination, make_route, make_source
from tests.webhooks.receivers import SECRET, Answered, post, stripe_event, stripe_headers
from webhooks import catalog, inbound, reverify, sealing
from webhooks.inbound import events_of
from webhooks.models import Delivery, Event, Refusal
from webhooks.refusals import Refusals
from webhooks.sealing import Content
from wsmon.http import Headers

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("inlet")]
IN = "/api/webhooks/"
PUBLIC = "https://ops.example.com"


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    one = Refusals()
    monkeypatch.setattr(inbound, "refusals", one)
    return one


def content(event: Event) -> Content:
    return sealing.unseal(bytes(event.sealed or b""))


def keys() -> set[str]:
    return set(Event.objects.values_list("key", flat=True))


class TestHandshakes:
    GOOD = "hub.mode=subscribe&hub.verify_token=planted-token&hub.challenge=1158201444"

    @pytest.fixture
    def whatsapp(self) -> str:
        make_source("whatsapp", "whatsapp", [vendors.WHATSAPP_SECRET], options={"verify_token": "planted-token"})
        return f"{IN}whatsapp"

    def test_whatsapp_gets_its_challenge_for_the_right_token(self, whatsapp: str):
        answer = post(whatsapp, method="GET", query=self.GOOD)
        assert (answer.status, answer.body) == (200, b"1158201444")
        assert answer.headers["content-type"].startswith("text/plain")
        assert not Event.objects.exists()

    def test_and_403_and_a_row_for_any_other(self, whatsapp: str, refused: Refusals):
        for query in (self.GOOD.replace("planted", "guessed"), "", self.GOOD.replace("1158201444", "<script>")):
            assert post(whatsapp, method="GET", query=query).status == 403
        assert refused.write() == 2
        assert post(whatsapp, method="DELETE").status == 405

    def test_microsoft_gets_its_validation_token_back_and_nothing_is_stored(self):
        make_source("microsoft_graph", "microsoft_graph", [vendors.GRAPH_STATE])
        answer = post(f"{IN}microsoft_graph", query="validationToken=Validation%3A%20Token%20%3Cb%3E")
        assert (answer.status, answer.body) == (200, b"Validation: Token &lt;b&gt;")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert post(f"{IN}microsoft_graph", method="GET", query="hello=1").status == 405
        assert not Event.objects.exists()

    def test_slack_gets_its_challenge_only_when_it_is_signed(self):
        make_source("slack", "slack", [vendors.SLACK_SECRET])
        body, headers = vendors.slack(type="url_verification", challenge="3eZbrw1aBm2r")
        assert post(f"{IN}slack", body, headers).body == b"3eZbrw1aBm2r"
        assert post(f"{IN}slack", body, headers | {"x-slack-signature": "v0=" + "0" * 64}).status == 401
        assert not Event.objects.exists()


class TestBatches:
    def test_each_element_of_sendgrids_array_is_an_event_and_the_first_keeps_what_was_signed(self):
        account = vendors.SendGrid()
        make_route(make_source("sendgrid", "sendgrid", [account.public]), make_destination(), ["email.*"])
        elements = [
            {"email": "a@b.c", "event": "open", "sg_event_id": f"e{n}", "sg_message_id": "m1"} for n in range(5)
        ]
        body, headers = account.signed(elements)
        assert post(f"{IN}sendgrid", body, headers).json()["received"] == 5
        assert keys() == {f"e{n}" for n in range(5)}
        first, *others = Event.objects.order_by("key")
        assert sealing.unseal(bytes(first.request or b"")).body == body
        assert first.batch is None
        assert all((one.batch, one.request) == (first.id, None) for one in others)
        assert [json.loads(content(one).body) for one in (first, *others)] == elements
        assert Delivery.objects.count() == 5

    def test_half_known_ones_are_told_apart(self):
        account = vendors.SendGrid()
        make_source("sendgrid", "sendgrid", [account.public])
        post(f"{IN}sendgrid", *account.signed([{"event": "open", "sg_event_id": "e1"}]))
        both = [{"event": "open", "sg_event_id": "e1"}, {"event": "click", "sg_event_id": "e2"}]
        answer = post(f"{IN}sendgrid", *account.signed(both)).json()
        assert (answer["received"], answer["duplicates"]) == (2, 1)
        assert len(set(answer["events"])) == 2

    def test_each_entry_of_whatsapps_is_an_event(self):
        make_source("whatsapp", "whatsapp", [vendors.WHATSAPP_SECRET])
        body, headers = vendors.whatsapp(("wamid.1", "sent"), ("wamid.2", "delivered"))
        assert post(f"{IN}whatsapp", body, headers).json()["received"] == 2
        rows = Event.objects.order_by("subject").values_list("subject", "type", "message_status")
        assert list(rows) == [("wamid.1", "message.sent", "sent"), ("wamid.2", "message.delivered", "delivered")]

    def test_notifications_of_microsoft_with_another_client_state_are_dropped(self):
        make_source("microsoft_graph", "microsoft_graph", [vendors.GRAPH_STATE])
        mine, other = vendors.GRAPH_STATE, "somebody-elses-state"
        answer = post(f"{IN}microsoft_graph", *vendors.graph(other, mine, other, mine))
        assert answer.json()["received"] == 2
        assert sorted(Event.objects.values_list("subject", flat=True)) == ["item-1", "item-3"]
        assert all(other.encode() not in content(event).body for event in Event.objects.all())
        assert post(f"{IN}microsoft_graph", *vendors.graph(other)).status == 403

    def test_a_batch_of_nothing_is_acknowledged_or_refused_but_never_an_error(self):
        account = vendors.SendGrid()
        make_source("sendgrid", "sendgrid", [account.public])
        assert post(f"{IN}sendgrid", *account.signed([])).status in (200, 400, 401)


class TestTwilioBehindAProxy:
    @pytest.fixture
    def here(self, settings: Any) -> str:
        settings.PUBLIC_URL = PUBLIC
        settings.TRUSTED_PROXIES = 1
        make_source("twilio", "twilio", [vendors.TWILIO_TOKEN])
        return f"{IN}twilio"

    def test_the_url_is_the_configured_one(self, here: str):
        body, headers = vendors.twilio(f"{PUBLIC}{here}?source=a%20b")
        proxied = {"host": "10.0.0.5:8000", "x-forwarded-host": "internal", "x-forwarded-proto": "http"}
        assert post(here, body, headers | proxied, query="source=a%20b").status == 200
        assert content(Event.objects.get()).url == f"{PUBLIC}{here}?source=a%20b"

    @pytest.mark.parametrize("name", ["host", "x-forwarded-host", "forwarded", "x-original-url", "x-forwarded-proto"])
    def test_no_header_makes_another_url_of_it(self, here: str, name: str):
        body, headers = vendors.twilio(f"https://evil.example{here}")
        claims = {"host": "evil.example", "x-forwarded-host": "evil.example", "x-forwarded-proto": "https"}
        claims |= {"forwarded": "host=evil.example;proto=https", "x-original-url": f"https://evil.example{here}"}
        assert post(here, body, headers | {name: claims[name]}).status == 401
        assert post(here, body, headers | claims).status == 401

    def test_another_query_is_another_url(self, here: str):
        body, headers = vendors.twilio(f"{PUBLIC}{here}?source=a")
        assert post(here, body, headers, query="source=b").status == 401
        assert post(here, body, headers).status == 401

    def test_without_a_public_url_each_configured_host_may_be_the_one(self, settings: Any):
        settings.PUBLIC_URL, settings.ALLOWED_HOSTS = "", ["a.example", "b.example", "127.0.0.1"]
        make_source("twilio", "twilio", [vendors.TWILIO_TOKEN])
        body, headers = vendors.twilio(f"https://b.example{IN}twilio")
        assert post(f"{IN}twilio", body, headers).status == 200
        body, headers = vendors.twilio(f"https://c.example{IN}twilio", MessageSid="SM2")
        assert post(f"{IN}twilio", body, headers | {"host": "c.example"}).status == 401

    def test_a_callback_by_get_is_an_event_too_and_can_be_sent_again(self, here: str):
        query, headers = vendors.twilio_by_get(f"{PUBLIC}{here}")
        for _ in range(2):
            answer = post(here, b"", headers, method="GET", query=query)
            assert (answer.status, answer.body) == (200, b"<Response/>")
        event = Event.objects.get()
        assert (event.type, event.key, event.duplicates) == ("message.delivered", "SM1:delivered", 1)
        assert json.loads(content(event).body) == {"MessageSid": "SM1", "MessageStatus": "delivered"}
        verdict = reverify.verdict(event)
        assert isinstance(verdict, reverify.Ok)
        assert verdict.proof == "signature"

    def test_a_callback_by_get_that_is_not_believed_is_refused(self, here: str):
        query, headers = vendors.twilio_by_get(f"{PUBLIC}{here}")
        assert post(here, b"", headers, method="GET", query=f"{query}&x=y").status == 401
        assert post(here, b"", {}, method="GET", query=query).status == 401
        assert post(here, b"", headers, method="HEAD", query=query).status == 405
        assert not Event.objects.exists()

    def test_a_sources_own_url_is_the_only_one(self, settings: Any):
        settings.PUBLIC_URL = PUBLIC
        make_source("twilio", "twilio", [vendors.TWILIO_TOKEN], url="https://hooks.example.com/sms")
        assert post(f"{IN}twilio", *vendors.twilio("https://hooks.example.com/sms")).status == 200
        assert post(f"{IN}twilio", *vendors.twilio(f"{PUBLIC}{IN}twilio", MessageSid="SM2")).status == 401


class TestAliases:
    @pytest.mark.parametrize(
        ("alias", "provider"),
        [("resend", "resend"), ("twilio", "twilio"), ("whatsapp", "whatsapp"), ("calendar", "google_calendar")],
    )
    def test_they_stand_for_the_source_of_a_provider_whatever_it_is_called(self, alias: str, provider: str):
        assert post(f"{IN}communications/{alias}").status == 404
        make_source(f"our-{alias}", provider, ["a-secret-of-some-length"])
        answer = post(f"{IN}communications/{alias}")
        assert answer.status in (400, 401)
        assert "no such source" not in answer.json()["detail"]

    def test_twilio_signs_the_alias_when_it_was_called_there(self, settings: Any):
        settings.PUBLIC_URL = PUBLIC
        make_source("sms", "twilio", [vendors.TWILIO_TOKEN])
        path = f"{IN}communications/twilio"
        assert post(path, *vendors.twilio(f"{PUBLIC}{path}")).status == 200
        assert post(path, *vendors.twilio(f"{PUBLIC}{IN}sms", MessageSid="SM2")).status == 401

    def test_calendar_events_come_in_headers_alone(self):
        make_source("google_calendar", "google_calendar", ["channel-token-0123456789"])
        headers = {
            "x-goog-channel-token": "channel-token-0123456789",
            "x-goog-channel-id": "ch1",
            "x-goog-message-number": "7",
            "x-goog-resource-state": "exists",
        }
        assert post(f"{IN}communications/calendar", b"", headers).status == 200
        assert keys() == {"ch1:7"}


class TestAddresses:
    def come(self, forwarded: str) -> str | None:
        make_source("generic", "generic", ["long-enough-secret"])
        body, headers = vendors.generic("long-enough-secret", forwarded.encode())
        assert post(f"{IN}generic", body, headers | {"x-forwarded-for": forwarded}).status == 200
        return Event.objects.get().address

    def test_nobody_is_believed_without_proxies_of_ours(self, settings: Any):
        settings.TRUSTED_PROXIES = 0
        assert self.come("1.2.3.4") == "203.0.113.7"

    def test_behind_one_it_is_what_that_one_saw(self, settings: Any):
        settings.TRUSTED_PROXIES = 1
        assert self.come("6.6.6.6, 198.51.100.9") == "198.51.100.9"

    @pytest.mark.parametrize("forwarded", ["", "rubbish", "\xe9", "1.2.3.4.5", ","])
    def test_rubbish_is_no_address(self, settings: Any, forwarded: str):
        settings.TRUSTED_PROXIES = 1
        make_source("generic", "generic", ["long-enough-secret"])
        body, headers = vendors.generic("long-enough-secret", b"x")
        assert post(f"{IN}generic", body, headers | {"x-forwarded-for": forwarded}).status == 200
        assert Event.objects.get().address == "203.0.113.7"


ODD: dict[str, bytes] = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\xfd",
    "not JSON": b"hello",
    "null": b"null",
    "a list": b"[1, 2]",
    "deep": b"[" * 200_000 + b"]" * 200_000,
    "an endless number": b'{"id": ' + b"9" * 100_000 + b"}",
    "duplicate names": b'{"id": "evt_a", "id": "evt_b", "type": "x", "type": "y.z"}',
    "NUL bytes": b"\0\0\0",
    "NUL in the id": b'{"id": "evt\\u0000_1", "type": "a\\u0000.b"}',
    "half a surrogate pair": b'{"id": "evt_\\ud800", "type": "\\ud800", "data": {"object": {"id": "\\udfff"}}}',
    "an id of another kind": b'{"id": {"a": 1}, "type": ["x"], "created": "yesterday", "data": 7}',
    "an endless id": b'{"id": "' + b"i" * 10_000 + b'", "type": "' + b"t" * 10_000 + b'"}',
    "a time beyond all calendars": b'{"id": "e", "type": "t", "created": 1e300}',
    "NaN": b'{"id": NaN, "type": Infinity, "created": NaN}',
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_body_that_is_signed_is_kept_to_the_byte_and_nothing_breaks(what: str):
    make_route(make_source("stripe"), make_destination(order_by="$.data.object.id"), filters={})
    body = ODD[what]
    answer = post(f"{IN}stripe", body, stripe_headers(body))
    assert answer.status == 200, answer.body
    event = Event.objects.get()
    assert content(event).body == body
    assert (event.size, event.routed) == (len(body), 1)
    assert post(f"{IN}stripe", body, stripe_headers(body)).json()["duplicates"] == 1


@pytest.mark.parametrize("what", ODD)
def test_an_odd_body_that_is_not_signed_is_refused_and_nothing_breaks(what: str, refused: Refusals):
    make_source("stripe")
    assert post(f"{IN}stripe", ODD[what], stripe_headers(ODD[what], "whsec_other")).status == 401
    refused.write()
    assert Refusal.objects.get().size == len(ODD[what])


def test_of_duplicate_names_the_last_one_counts_as_everywhere_else():
    make_source("stripe")
    body = ODD["duplicate names"]
    post(f"{IN}stripe", body, stripe_headers(body))
    assert Event.objects.values_list("key", "type").get() == ("evt_b", "y.z")


def source_of(slug: str, *secrets: str) -> catalog.Source:
    scheme = providers.get(slug).hooks
    assert scheme is not None
    return catalog.Source(1, slug, slug, scheme, secrets, options_of(scheme, {}))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "type", "data", "object", "created", "event", "value"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


class TestWhateverIsSigned:
    @given(values)
    @settings(max_examples=200, deadline=None)
    def test_is_an_event_that_can_be_stored(self, value: Any) -> None:
        body = json.dumps(value).encode()
        source = source_of("stripe", SECRET)
        request = inbound.Request({"method": "POST", "path": "/", "query_string": b""}, None, "stripe")
        request.pairs = list(stripe_headers(body).items())
        request.headers, request.body = Headers(request.pairs), body
        assert source.scheme is not None
        found = inbound._judge(request, source, source.scheme)
        assert isinstance(found, list)
        (event,) = found
        for text, limit in ((event.key, 255), (event.type, 200), (event.subject, 255)):
            assert "\0" not in text
            assert len(text.encode()) <= 4 * limit
            assert len(text) <= limit
        assert event.key
        assert event.type


class TestEvents:
    """The parts of a request, as they are to be stored."""

    VERIFIED = Verified("s", 0, time.time() - 3)

    def events(self, found: list[Any]) -> list[Any]:
        request = Inbound("POST", "https://x/in", Headers([("content-type", "a/b")]), b"whole", time.time())
        return events_of(request, source_of("stripe", SECRET), found, [("content-type", "a/b")], {}, None)

    def test_only_a_batch_has_a_request_and_only_its_first_event_keeps_it(self):
        (one,) = self.events([Found("k", "t")])
        assert (one.content.body, one.request, one.batch, one.content_type) == (b"whole", None, None, "a/b")
        first, second = self.events([Found("k1", "t", body=b"1"), Found("k2", "t", body=b"2")])
        assert (first.content.body, second.content.body) == (b"1", b"2")
        assert first.request is not None
        assert (first.request.body, first.batch) == (b"whole", None)
        assert (second.request, second.batch) == (None, first.id)
        assert isinstance(first.id, UUID)

    def test_texts_that_the_database_cannot_hold_are_made_such_that_it_can(self):
        (one,) = self.events([Found("a\0" + "k" * 300, "\ud800", subject="s\0")])
        assert (one.key, one.type, one.subject) == ("a" + "k" * 254, "?", "s")
        (one,) = self.events([Found("k", "\0")])
        assert one.type == "unknown"


def test_a_reply_that_a_vendor_expects_is_given_when_all_is_stored(monkeypatch: pytest.MonkeyPatch):
    scheme = providers.get("stripe").hooks
    assert scheme is not None
    provider = replace(providers.get("stripe"), hooks=replace(scheme, accepted=Reply(body=b"<Response/>")))
    monkeypatch.setattr(providers, "get", lambda _: provider)
    make_source("stripe")
    body = stripe_event()
    answer: Answered = post(f"{IN}stripe", body, stripe_headers(body))
    assert (answer.status, answer.body) == (200, b"<Response/>")
    assert Event.objects.count() == 1


def test_the_same_bytes_signed_by_either_of_two_secrets_are_believed():
    make_source("generic", "generic", ["the-new-secret", "the-old-secret"])
    for number, secret in enumerate(("the-new-secret", "the-old-secret")):
        assert post(f"{IN}generic", *vendors.generic(secret, b"event %d" % number)).status == 200
    body = b"event 3"
    digest = hmac.new(b"", body, hashlib.sha256).hexdigest()
    assert post(f"{IN}generic", body, {"x-signature": digest}).status == 401
    with pytest.raises(Refused):
        source_of("generic", "").scheme.verify(  # type: ignore[union-attr]
            Inbound("POST", "", Headers([("x-signature", digest)]), body, time.time()), [""], None
        )
