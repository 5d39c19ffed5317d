"""Webhooks of Google Calendar, Microsoft Graph, Shopify, Slack and Supabase Auth."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from providers.hooks import Inbound, Reply
from tests.providers.hooks_contract import BASE, NOW, HooksContract, changed, fixture, refused
from wsmon.http import Headers


class TestGoogleCalendarHooks(HooksContract):
    slug = "google_calendar"
    secret = "planted-channel-token-0123456789"
    other = "another-channel-token-0123456789"
    sample = b"{}"  # Google sends an empty body
    past = None
    covers_body = False
    required = ("x-goog-channel-token",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {
            "x-goog-channel-id": "4ba78bf0-6a47-11e2-bcfd-0800200c9a66",
            "x-goog-channel-token": secret,
            "x-goog-message-number": "11",
            "x-goog-resource-id": "ret08u3rv24htgh289g",
            "x-goog-resource-state": "exists",
        }

    def test_it_reads_a_notification_out_of_the_headers(self) -> None:
        (found,) = self.events(b"")
        assert found.key == "4ba78bf0-6a47-11e2-bcfd-0800200c9a66:11"
        assert found.type == "calendar.changed"
        assert found.subject == "4ba78bf0-6a47-11e2-bcfd-0800200c9a66"
        for state, kind in (("sync", "calendar.sync"), ("not_exists", "calendar.deleted"), ("new", "calendar.new")):
            assert self.read(changed(self.request(b""), x_goog_resource_state=state))[0].type == kind

    def test_notifications_without_a_number_are_not_taken_for_one(self) -> None:
        first = changed(self.request(b""), x_goog_message_number=None)
        assert self.read(first)[0].key != self.read(replace(first, received_at=NOW + 5.0))[0].key

    def test_the_token_is_not_kept_with_the_event(self) -> None:
        assert self.scheme.signed_headers == ()

    def test_a_short_token_can_be_guessed(self) -> None:
        assert self.scheme.secret_problem("short")


class TestGraphHooks(HooksContract):
    slug = "microsoft_graph"
    secret = "planted-client-state-1"
    other = "another-client-state-1"
    sample = fixture("microsoft_graph", "notifications")
    past = None
    covers_body = False
    any_body = False
    required = ()
    status = 403

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        return {}

    def request(self, body: bytes | None = None, secret: str = "", at: int = NOW, now: float = NOW) -> Inbound:
        body = self.sample if body is None else body
        return super().request(body.replace(self.secret.encode(), (secret or self.secret).encode()), at=at, now=now)

    def test_each_item_of_ours_is_an_event(self) -> None:
        found = self.events()
        assert [event.type for event in found] == [
            "event.created",
            "event.deleted",
            "lifecycle.reauthorizationRequired",
        ]
        items = json.loads(self.sample)["value"]
        assert [json.loads(event.body or b"") for event in found] == [{"value": [item]} for item in items[:3]]
        assert found[0].key == ('7f105c7d-2dc5-4530-97cd-4e7ae6534c07:AAMkInvented1:created:W/"DwAAABYAAAC1"')
        assert found[0].subject == "AAMkInvented1"
        assert len({event.key for event in found}) == 3

    def test_a_single_item_is_kept_byte_for_byte(self) -> None:
        body = json.dumps({"value": json.loads(self.sample)["value"][:1]}).encode()
        (found,) = self.events(body)
        assert found.body is None

    def test_a_later_change_without_a_version_is_another_event(self) -> None:
        first, later = (self.read(self.request(now=now))[1].key for now in (NOW, NOW + 120))
        assert first != later

    def test_nothing_of_ours_is_refused(self) -> None:
        for value in ([{"clientState": "guess"}], [{"clientState": ["x"]}], [None], []):
            body = json.dumps({"value": value}).encode()
            assert self.refusal(self.request(body)).status == 403

    def test_the_validation_token_is_repeated_as_text_without_markup(self) -> None:
        assert self.scheme.greet
        token = "Validation: Testing client application reachability for subscription Request-Id: 7f10+5c7d"
        inbound = Inbound("POST", f"{BASE}/x?validationToken={quote(token)}", Headers(), b"", NOW)
        assert self.scheme.greet(inbound, (), self.parsed()) == Reply(200, token.encode())
        marked = replace(inbound, url=f"{BASE}/x?validationToken=%3Cscript%3E%26")
        reply = self.scheme.greet(marked, (), self.parsed())
        assert reply is not None
        assert reply.body == b"&lt;script&gt;&amp;"
        assert reply.content_type.startswith("text/plain")
        assert self.scheme.greet(self.request(), (), self.parsed()) is None
        long = replace(inbound, url=f"{BASE}/x?validationToken={'x' * 5_000}")
        assert refused(lambda: self.scheme.greet and self.scheme.greet(long, (), self.parsed())).status == 400

    def test_a_client_state_has_at_most_128_characters(self) -> None:
        assert self.scheme.secret_problem("x" * 129)


class TestShopifyHooks(HooksContract):
    slug = "shopify"
    secret = "planted0123456789abcdef012345678"
    other = "another0123456789abcdef012345678"
    sample = fixture("shopify", "orders_create")
    past = None
    required = ("x-shopify-hmac-sha256",)

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        return {
            "x-shopify-hmac-sha256": base64.b64encode(digest).decode(),
            "x-shopify-topic": "orders/create",
            "x-shopify-webhook-id": "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043",
            "x-shopify-triggered-at": "2026-10-31T11:59:58.123456789Z",
        }

    def test_it_reads_topic_and_ids(self) -> None:
        (found,) = self.events()
        assert found.key == "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
        assert found.type == "orders/create"
        assert found.subject == "gid://shopify/Order/820982911946154508"
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 58, 123456, UTC)

    def test_events_use_names_without_x(self) -> None:
        inbound = self.request(fixture("shopify", "events_order"))
        names = {name.removeprefix("x-"): value for name, value in inbound.headers.items()}
        newer = replace(inbound, headers=Headers((names | {"shopify-resource-id": "820982911946154508"}).items()))
        self.verify(newer)
        (found,) = self.read(newer)
        assert (found.type, found.subject) == ("orders/create", "820982911946154508")

    def test_without_ids_and_topic_it_is_kept_all_the_same(self) -> None:
        bare = changed(self.request(), x_shopify_topic=None, x_shopify_webhook_id=None)
        self.verify(bare)
        (found,) = self.read(bare)
        assert found.type == "unknown"
        assert found.key == f"sha256:{hashlib.sha256(self.sample).hexdigest()}"


class TestSlackHooks(HooksContract):
    slug = "slack"
    secret = "planted0123456789abcdef012345678"
    other = "another0123456789abcdef012345678"
    sample = fixture("slack", "message")
    required = ("x-slack-signature", "x-slack-request-timestamp")

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        digest = hmac.new(secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
        return {"x-slack-signature": f"v0={digest}", "x-slack-request-timestamp": str(at)}

    def test_it_reads_an_event(self) -> None:
        (found,) = self.events()
        assert (found.key, found.type, found.subject) == ("Ev0INVENTED01", "message", "C0INVENTED")
        assert found.occurred_at == datetime.fromtimestamp(1793447998, UTC)

    def test_commands_and_interactions_are_forms(self) -> None:
        form = {"content_type": "application/x-www-form-urlencoded"}
        command = urlencode({"command": "/ack", "trigger_id": "1.2", "channel_id": "C1"}).encode()
        (found,) = self.read(changed(self.request(command), **form))
        assert (found.key, found.type, found.subject) == ("1.2", "command", "C1")
        press = urlencode({"payload": '{"type": "block_actions", "trigger_id": "3.4"}'}).encode()
        (found,) = self.read(changed(self.request(press), **form))
        assert (found.key, found.type) == ("3.4", "block_actions")

    def test_the_url_is_confirmed_by_its_challenge(self) -> None:
        assert self.scheme.answer
        inbound = self.request(b'{"type": "url_verification", "challenge": "3eZbrw1a"}')
        self.verify(inbound)
        assert self.scheme.answer(inbound, (self.secret,), self.parsed()) == Reply(200, b"3eZbrw1a")
        for body in (self.sample, b'{"type": "url_verification", "challenge": 5}', b"[]"):
            assert self.scheme.answer(self.request(body), (self.secret,), self.parsed()) is None


class TestSupabaseAuthHooks(HooksContract):
    slug = "supabase_auth"
    secret = "v1,whsec_" + base64.b64encode(b"planted-0123456789-secret").decode()
    other = "v1,whsec_" + base64.b64encode(b"another-0123456789-secret").decode()
    sample = fixture("supabase_auth", "send_sms")
    required = ("webhook-id", "webhook-timestamp", "webhook-signature")

    def headers(self, body: bytes, secret: str, at: int) -> dict[str, str]:
        key = base64.b64decode(secret.removeprefix("v1,whsec_"))
        digest = hmac.new(key, f"{at}-id.{at}.".encode() + body, hashlib.sha256).digest()
        signature = f"v1,{base64.b64encode(digest).decode()}"
        return {"webhook-id": f"{at}-id", "webhook-timestamp": str(at), "webhook-signature": signature}

    def test_the_key_is_not_the_id_which_is_new_in_each_attempt(self) -> None:
        (found,) = self.events()
        assert found.key == "8b6f3d0e-8d0e-4b7a-bb3a-0f6c9b0d1a11"
        assert found.type == "send-sms"
        assert found.subject == "6481a5c1-3d37-4a56-9f6a-bee08c554965"
        assert found.occurred_at == datetime(2026, 10, 31, 11, 59, 58, 103000, UTC)

    def test_an_older_body_tells_by_what_is_in_it(self) -> None:
        for member, kind in (("sms", "send-sms"), ("email_data", "send-email"), ("claims", "custom-access-token")):
            body = json.dumps({"user": {"id": "u"}, member: {}}).encode()
            (found,) = self.events(body)
            assert found.type == kind
            assert found.key.startswith("sha256:")

    def test_several_secrets_stand_in_one_variable(self) -> None:
        assert self.verify(self.request(), f"{self.other}|{self.secret}").secret == 0
        assert self.scheme.secret_problem(f"{self.other}|{self.secret}") is None
        assert self.scheme.secret_problem(f"{self.other}|nonsense!")

    def test_signatures_joined_by_comma_and_space_are_gotrues_own(self) -> None:
        inbound = self.request()
        theirs = f"v1,{base64.b64encode(b'0' * 32).decode()}"
        self.verify(changed(inbound, webhook_signature=f"{theirs}, {inbound.headers['webhook-signature']}"))

    def test_a_header_that_comes_twice_is_refused(self) -> None:
        inbound = self.request()
        for name in ("webhook-id", "webhook-timestamp"):
            twice = Headers([*inbound.headers.items(), (name, inbound.headers[name])])
            self.refusal(replace(inbound, headers=twice))

    def test_a_spoilt_header_is_refused(self) -> None:
        inbound = self.request()
        for value in (" ", ",", "v1", "v1,", "v2,AAAA", "v1,AAAA,", f"{inbound.headers['webhook-signature']}x", "é"):
            self.refusal(changed(inbound, webhook_signature=value))
