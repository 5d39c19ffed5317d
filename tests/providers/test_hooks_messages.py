"""Webhooks of those who carry messages: Resend, SendGrid, Twilio, WhatsApp."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from urllib.parse import parse_qsl, urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twilio.request_validator import RequestValidator

from providers.hooks import Inbound, MessageStatus, Reply, outranks
from tests.providers.hooks_contract import BASE, NOW, HooksContract, assert_storable, changed, fixture, refused
from wsmon.http import Headers


class TestResendHooks(HooksContract):
    slug = "resend"
    secret = "whsec_" + base64.b64encode(b"planted-0123456789-secret").decode()
    other = "whsec_" + base64.b64encode(b"another-0123456789-secret").decode()
    sample = fixture("resend", "email_bounced")
    required = ("svix-id", "svix-timestamp", "svix-signature")

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        digest = hmac.new(key, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()
        signature = f"v1,{base64.b64encode(digest).decode()}"
        return {"svix-id": "msg_1", "svix-timestamp": str(at), "svix-signature": signature}

    def test_it_reads_a_bounce(self) -> None:
        (found,) = self.events()
        assert found.key == "msg_1"
        assert found.type == "email.bounced"
        assert found.status is MessageStatus.BOUNCED
        assert found.subject == "56761188-7520-42d8-8898-ff6fc54ce618"
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 57, 412000, UTC)

    @pytest.mark.parametrize(
        ("kind", "status"),
        [("email.delivered", "delivered"), ("email.clicked", "read"), ("email.suppressed", "failed"),
         ("suppression.added", "unsubscribed"), ("domain.updated", None)],
    )  # fmt: skip
    def test_types_become_statuses(self, kind: str, status: str | None) -> None:
        assert self.events(json.dumps({"type": kind, "data": {}}).encode())[0].status == status

    def test_a_contact_that_unsubscribes_is_told(self) -> None:
        body = b'{"type": "contact.updated", "data": {"id": "c1", "unsubscribed": true}}'
        (found,) = self.events(body)
        assert (found.status, found.subject) == (MessageStatus.UNSUBSCRIBED, "c1")


_KEYS: dict[str, ec.EllipticCurvePrivateKey] = {}


def _pair() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = base64.b64encode(der).decode()
    _KEYS[public] = key
    return public


class TestSendGridHooks(HooksContract):
    slug = "sendgrid"
    secret = _pair()
    other = _pair()
    sample = fixture("sendgrid", "batch")
    past = 25 * 3600
    required = ("x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp")

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        signature = _KEYS[secret].sign(str(at).encode() + body, ec.ECDSA(SHA256()))
        return {
            "x-twilio-email-event-webhook-signature": base64.b64encode(signature).decode(),
            "x-twilio-email-event-webhook-timestamp": str(at),
        }

    def test_each_element_of_the_array_is_an_event_with_its_own_body(self) -> None:
        found = self.events()
        elements = json.loads(self.sample)
        assert len(found) == len(elements) > 4
        assert [json.loads(event.body or b"") for event in found] == elements
        assert b'"guest1@example.net"' in (found[0].body or b"")
        assert b": " not in (found[0].body or b"")
        assert [event.key for event in found] == [element["sg_event_id"] for element in elements]
        assert found[0].type == "email.processed"
        assert found[0].subject == "InventedMsg01"
        assert found[0].occurred_at == datetime.fromtimestamp(1793447971, UTC)

    def test_words_become_statuses_and_a_block_is_no_bounce(self) -> None:
        statuses = {event.type: event.status for event in self.events()}
        assert statuses["email.delivered"] is MessageStatus.DELIVERED
        blocked = b'[{"event": "bounce", "type": "blocked"}, {"event": "bounce", "type": "bounce"}]'
        assert [event.status for event in self.events(blocked)] == ["failed", "bounced"]

    def test_equal_elements_have_equal_keys_with_an_id_or_without(self) -> None:
        opened, other = {"event": "open", "email": "a@b"}, {"email": "x", "event": "open"}
        keys = [event.key for event in self.events(json.dumps([opened, other, opened]).encode())]
        assert keys[0] == keys[2] != keys[1]

    def test_a_key_in_pem_is_taken_too(self) -> None:
        pem = _KEYS[self.secret].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        self.verify(self.request(), pem.strip())
        assert self.scheme.secret_problem(pem.strip()) is None

    def test_other_keys_are_refused(self) -> None:
        p384 = ec.generate_private_key(ec.SECP384R1()).public_key()
        der = base64.b64encode(p384.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
        for wrong in (der, "not base64!", "AAAA", "-----BEGIN PUBLIC KEY-----\nx"):
            assert self.refusal(self.request(), wrong).code == "signature_mismatch"
            assert self.scheme.secret_problem(wrong)
        assert "API key" in str(self.scheme.secret_problem("SG.planted"))


FORM = {
    "MessageSid": "SM0123456789abcdef0123456789abcdef", "MessageStatus": "undelivered", "ErrorCode": "30003",
    "From": "+15005550006", "To": "+15005550010", "ApiVersion": "2010-04-01", "Blank": "",
}  # fmt: skip


def _mac(secret: str, text: bytes, algorithm: str = "sha1") -> str:
    return base64.b64encode(hmac.new(secret.encode(), text, algorithm).digest()).decode()


class _Twilio(HooksContract):
    slug = "twilio"
    secret = "planted0123456789abcdef012345678"
    other = "another0123456789abcdef012345678"
    past = None
    required = ("x-twilio-signature",)


class TestTwilioForms(_Twilio):
    sample = urlencode(FORM).encode()
    content_type = "application/x-www-form-urlencoded"
    any_body = False

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
        glued = "".join(name + value for name, value in sorted(pairs))
        return {
            "x-twilio-signature": _mac(secret, (self.url(body) + glued).encode()),
            "i-twilio-idempotency-token": "token-1",
        }

    @pytest.mark.parametrize("name", ["=&=&=x", "a=%00&MessageSid=%00&MessageStatus=%ff", "a=%zz", f"a={5_000:05}"])
    def test_an_odd_body_is_kept_if_it_is_signed_and_breaks_nothing(self, name: str) -> None:
        inbound = self.request(name.encode())
        if "%ff" not in name:  # what is not UTF-8 is glued byte by byte, which this test's signing does not do
            self.verify(inbound)
        assert_storable(self.read(inbound))

    @pytest.mark.parametrize("body", [b"&&", b"&=".join([b"a"] * 2_000)], ids=["empty", "endless"])
    def test_what_is_no_form_is_refused(self, body: bytes) -> None:
        self.refusal(self.request(body))

    def test_odd_values_anywhere_break_nothing(self) -> None:
        self.read(self.request(urlencode(dict.fromkeys(FORM, "\x00" * 300)).encode()))

    def test_it_reads_a_status(self) -> None:
        (found,) = self.events()
        assert found.key == "token-1"
        assert found.type == "message.undelivered"
        assert found.subject == FORM["MessageSid"]
        assert found.status is MessageStatus.FAILED
        without = changed(self.request(), i_twilio_idempotency_token=None)
        assert self.read(without)[0].key == f"{FORM['MessageSid']}:undelivered"

    @pytest.mark.parametrize(
        ("form", "kind", "status"),
        [
            ({"MessageStatus": "delivered"}, "message.delivered", "delivered"),
            ({"SmsStatus": "received", "Body": "hei"}, "message.received", None),
            ({"SmsStatus": "received", "OptOutType": "STOP"}, "message.received", "unsubscribed"),
            ({"MessageStatus": "failed", "ErrorCode": "21610"}, "message.failed", "unsubscribed"),
            ({"CallSid": "CA1", "CallStatus": "completed"}, "call.completed", None),
            ({"MessageSid": "", "Other": "thing"}, "unknown", None),
        ],
    )
    def test_forms_become_types_and_statuses(self, form: dict[str, str], kind: str, status: str | None) -> None:
        sid = {} if "CallSid" in form else {"MessageSid": "SM1"}
        (found,) = self.events(urlencode(sid | form).encode())
        assert (found.type, found.status) == (kind, status)

    def test_a_shared_key_signs_by_sha256_and_never_by_sha1(self) -> None:
        inbound = self.request()
        pairs = "".join(name + value for name, value in sorted(FORM.items()))
        text = (inbound.url + pairs).encode()
        settings = {"x_twilio_webhooks_signature_settings": "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"}
        strong = _mac(self.secret, text, "sha256")
        self.verify(changed(inbound, x_twilio_signature=strong, **settings))
        assert self.refusal(changed(inbound, **settings)).code == "signature_mismatch"
        assert self.refusal(changed(inbound, x_twilio_signature=strong)).code == "signature_mismatch"
        md5 = {"x_twilio_webhooks_signature_settings": "algorithm=HMAC_MD5"}
        assert self.refusal(changed(inbound, x_twilio_signature=strong, **md5)).code == "signature_malformed"

    def test_the_id_of_an_account_is_not_its_token(self) -> None:
        assert self.scheme.secret_problem("AC" + "0" * 32)
        assert self.scheme.signs_url


class TestTwilioByGet(_Twilio):
    """``StatusCallbackMethod: GET``: the parameters stand in the URL, which is all that is signed."""

    sample = b""
    covers_body = False
    any_body = False
    unknown = b""

    def url(self, body: bytes) -> str:
        return f"{BASE}/twilio?source=a&{urlencode(FORM)}"

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {"x-twilio-signature": RequestValidator(secret).compute_signature(self.url(body), {})}

    def request(self, body: bytes | None = None, secret: str = "", at: int = NOW, now: float = NOW) -> Inbound:
        signed = super().request(body, secret, at, now)
        return replace(changed(signed, content_type=None), method="GET")

    def of(self, query: str, **headers: str) -> Inbound:
        """A genuine callback with another query."""
        url = f"{BASE}/twilio{query}"
        signature = RequestValidator(self.secret).compute_signature(url, {})
        return changed(replace(self.request(), url=url), x_twilio_signature=signature, **headers)

    @pytest.mark.parametrize("name", ["{}", "MessageSid=SM1", "\x00"])
    def test_an_odd_body_is_kept_if_it_is_signed_and_breaks_nothing(self, name: str) -> None:
        self.refusal(replace(self.request(), body=name.encode()))

    def test_odd_values_anywhere_break_nothing(self) -> None:
        for query in (
            "",
            "?",
            "?=",
            "?&&",
            "?a=%00&MessageSid=%00&MessageStatus=%ff",
            "?a=%zz",
            "?MessageSid=%ed%a0%80",
        ):
            inbound = self.of(query)
            self.verify(inbound)
            assert_storable(self.read(inbound))

    def test_it_reads_a_status_and_keeps_the_parameters_as_json(self) -> None:
        (found,) = self.events()
        assert found.key == f"{FORM['MessageSid']}:undelivered"
        assert (found.type, found.subject) == ("message.undelivered", FORM["MessageSid"])
        assert found.status is MessageStatus.FAILED
        assert json.loads(found.body or b"") == {"source": "a"} | FORM

    def test_a_request_that_says_it_is_a_form_stays_one(self) -> None:
        inbound = changed(self.request(), content_type="application/x-www-form-urlencoded")
        self.verify(inbound)
        assert self.read(inbound)[0].body == self.url(b"").partition("?")[2].encode()

    def test_retries_share_the_token_and_what_names_nothing_is_told_apart_by_its_parameters(self) -> None:
        assert self.read(self.of("?MessageSid=SM1", i_twilio_idempotency_token="token-1"))[0].key == "token-1"
        keys = [self.read(self.of(query))[0].key for query in ("?a=1", "?a=2", "?a=1")]
        assert keys[0] == keys[2] != keys[1]

    @pytest.mark.parametrize("spoil", ["undelivered", FORM["MessageSid"], "source=a&"])
    def test_a_changed_parameter_is_refused(self, spoil: str) -> None:
        inbound = self.request()
        for url in (inbound.url.replace(spoil, "delivered"), f"{inbound.url}&x=y", inbound.url.partition("?")[0]):
            assert self.refusal(replace(inbound, url=url)).code == "signature_mismatch"

    def test_parameters_in_another_order_are_another_url(self) -> None:
        inbound = self.request()
        url, _, query = inbound.url.partition("?")
        turned = "&".join(reversed(query.split("&")))
        assert self.refusal(replace(inbound, url=f"{url}?{turned}")).code == "signature_mismatch"

    def test_a_port_is_spelt_either_way(self) -> None:
        inbound = self.request()
        with_port = inbound.url.replace("ops.example.com", "ops.example.com:443")
        signature = _mac(self.secret, with_port.encode())
        self.verify(changed(inbound, x_twilio_signature=signature))

    def test_it_can_be_verified_again_whatever_its_method_was_then(self) -> None:
        self.verify(replace(self.request(), method="POST"))


class TestTwilioJson(_Twilio):
    sample = fixture("twilio", "cloud_event")

    def url(self, body: bytes) -> str:
        return f"{BASE}/twilio?bodySHA256={hashlib.sha256(body).hexdigest()}#rc=5&rp=all"

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {"x-twilio-signature": _mac(secret, self.url(body).partition("#")[0].encode())}

    def test_it_reads_an_event(self) -> None:
        (found,) = self.events()
        assert found.key == "EZe20fa7e8c2f0235628d412e2af12ff63"
        assert (found.type, found.status) == ("message.delivered", "delivered")
        assert found.subject == "SMfd886226a743e44d721773cec7b28f6f"
        assert found.body is None
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 58, tzinfo=UTC)

    def test_several_events_each_have_their_part(self) -> None:
        one = json.loads(self.sample)[0]
        found = self.events(json.dumps([one, {**one, "id": "second"}]).encode())
        assert [event.key for event in found] == [one["id"], "second"]
        assert [json.loads(event.body or b"") for event in found] == [[one], [{**one, "id": "second"}]]

    def test_json_without_its_digest_in_the_url_is_refused(self) -> None:
        inbound = self.request()
        for url in (f"{BASE}/twilio", f"{inbound.url.partition('#')[0]}&bodySHA256=x"):
            signed = changed(inbound, x_twilio_signature=_mac(self.secret, url.encode()))
            self.refusal(replace(signed, url=url))


class TestWhatsAppHooks(HooksContract):
    slug = "whatsapp"
    secret = "planted0123456789abcdef012345678"
    other = "another0123456789abcdef012345678"
    options = {"verify_token": "planted-verify-token"}
    sample = fixture("whatsapp", "statuses")
    past = None
    required = ("x-hub-signature-256",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {"x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}

    def test_each_status_is_an_event_in_an_envelope_of_its_own(self) -> None:
        found = self.events()
        words = ["sent", "delivered", "read", "failed"]
        assert [event.type for event in found] == [f"message.{word}" for word in words]
        assert [event.status for event in found] == words
        assert found[3].key == f"{found[3].subject}:failed"
        assert found[0].occurred_at == datetime.fromtimestamp(1793447991, UTC)
        for event in found:
            envelope = json.loads(event.body or b"")
            (entry,) = envelope["entry"]
            (change,) = entry["changes"]
            (status,) = change["value"]["statuses"]
            assert envelope["object"] == "whatsapp_business_account"
            assert f"{status['id']}:{status['status']}" == event.key
            assert change["value"]["metadata"]["phone_number_id"] == "106540352242922"
            assert [each.key for each in self.events(event.body)] == [event.key]

    def test_a_single_message_is_kept_byte_for_byte(self) -> None:
        (found,) = self.events(fixture("whatsapp", "message"))
        assert found.type == "message.received"
        assert found.key == found.subject
        assert found.key.startswith("wamid.")
        assert found.body is None

    def test_messages_keep_only_their_own_contact(self) -> None:
        value = {
            "contacts": [{"wa_id": "1"}, {"wa_id": "2"}],
            "messages": [{"id": "a", "from": "1"}, {"id": "b", "from": "2"}, {"id": "c", "from": "3"}],
        }
        body = json.dumps({"entry": [{"changes": [{"field": "messages", "value": value}]}]}).encode()
        parts = [json.loads(event.body or b"")["entry"][0]["changes"][0]["value"] for event in self.events(body)]
        assert [len(part["contacts"]) for part in parts] == [1, 1, 2]

    def test_opting_out_is_told(self) -> None:
        failed = {"id": "w", "status": "failed", "errors": [{"code": 131050}]}
        wish = {"wa_id": "15555550123", "category": "marketing_messages", "value": "stop"}
        changes = [
            {"field": "messages", "value": {"statuses": [failed]}},
            {"field": "user_preferences", "value": {"user_preferences": [wish]}},
            {"field": "account_update", "value": {"event": "VERIFIED_ACCOUNT"}},
        ]
        found = self.events(json.dumps({"entry": [{"id": "1", "changes": changes}]}).encode())
        assert [event.type for event in found] == ["message.failed", "user_preferences", "account_update"]
        assert [event.status for event in found] == ["unsubscribed", "unsubscribed", None]
        assert found[1].subject == "15555550123"
        alone = self.events(json.dumps({"entry": [{"id": "1", "changes": changes[2:]}]}).encode())
        assert alone[0].key == found[2].key, "the same change has the same key, batched or not"

    def _greet(self, query: dict[str, str], **options: str) -> Reply | None:
        url = f"{BASE}/whatsapp?{urlencode(query)}"
        inbound = type(self.request())("GET", url, Headers(), b"", NOW)
        assert self.scheme.greet
        return self.scheme.greet(inbound, (self.secret,), self.scheme.options(**options))

    def test_the_url_is_confirmed_for_the_right_token_only(self) -> None:
        query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "planted-verify-token"}
        reply = self._greet(query, **self.options)
        assert reply == Reply(200, b"1158201444")
        for wrong in (
            {"hub.verify_token": "guess"},
            {"hub.verify_token": self.secret},
            {"hub.mode": "unsubscribe"},
            {"hub.challenge": "<script>alert(1)</script>"},
            {"hub.challenge": ""},
        ):
            assert refused(partial(self._greet, query | wrong, **self.options)).status == 403
        assert refused(lambda: self._greet(query)).code == "not_configured"
        assert "planted" not in repr(self.scheme.options(**self.options))

    def test_a_post_is_no_greeting(self) -> None:
        assert self.scheme.greet
        assert self.scheme.greet(self.request(), (self.secret,), self.parsed()) is None


def test_a_status_never_goes_backwards() -> None:
    order = list(MessageStatus)
    assert outranks(MessageStatus.QUEUED, None)
    assert outranks(MessageStatus.BOUNCED, MessageStatus.DELIVERED)
    assert outranks(MessageStatus.READ, MessageStatus.SENT)
    assert not outranks(MessageStatus.DELIVERED, MessageStatus.COMPLAINED)
    for status in order:
        assert not outranks(status, status)
        assert sum(outranks(status, other) + outranks(other, status) for other in order) == len(order) - 1
