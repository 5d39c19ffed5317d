"""The page of one event: what it tells, what it masks, and the one look at the payload in clear."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from tests.webhooks.factories import make_delivery, make_destination, make_event
from tests.webhooks.pages import ACT, LIVE, READ, REVEAL, signed_in, text, toward
from tests.webhooks.story import SENT, attempt, tell
from webhooks.models import Attempt, Delivery, Event, Replay, Secret
from webhooks.sealing import Exchanged, seal_exchange
from wsmon.models import AuditEntry

pytestmark = pytest.mark.django_db

WHY = {"reason": "the customer asks"}


@pytest.fixture
def viewer() -> Client:
    return signed_in("viewer", *READ)


@pytest.fixture
def operator() -> Client:
    return signed_in("operator", *ACT)


def url(event: Event | Delivery | uuid.UUID, rest: str = "") -> str:
    number = event.event_id if isinstance(event, Delivery) else event.id if isinstance(event, Event) else event
    return f"/webhooks/events/{number}/{rest}"


class TestWhoGetsIt:
    def test_strangers_and_novices_do_not(self, client: Client) -> None:
        event = make_event()
        assert client.get(url(event)).status_code == 302
        assert signed_in("novice").get(url(event)).status_code == 403

    def test_it_cannot_be_posted_to(self, viewer: Client) -> None:
        assert viewer.post(url(make_event())).status_code == 405

    def test_there_is_no_such_event(self, viewer: Client) -> None:
        assert viewer.get(url(uuid.uuid4())).status_code == 404
        assert viewer.get("/webhooks/events/x/").status_code == 404

    def test_viewers_get_no_buttons(self, viewer: Client) -> None:
        page = text(viewer.get(url(tell().failed[0])))
        assert "data-asks=" not in page
        assert "<h2" in page


class TestThePage:
    def test_it_tells_what_became_of_the_event(self, viewer: Client) -> None:
        told = tell()
        event = told.failed[0].event
        Event.objects.filter(id=event.id).update(duplicates=2)
        page = text(viewer.get(url(event)))
        assert "Received 3 times, kept once, verified, sent to 2 destinations: 1 delivered, 1 failed." in page
        assert "Stripe-Signature v1, HMAC-SHA256" in page
        assert "came 2 more times, kept once" in page
        assert "54.187.174.169" in page
        assert "stored as it came" in page
        assert "9 of 9 tries, gave up" in page
        assert "2 other deliveries fail there with the same answer." in page
        assert page.index('id="to-ledger"') < page.index('id="to-app"'), "what failed comes first"

    def test_the_payload_is_masked(self, viewer: Client) -> None:
        page = text(viewer.get(url(tell().failed[0])))
        assert '<span class="m">masked email</span>' in page
        assert "3 fields masked" in page
        for secret in ("jane.doe", "Jane Doe", "4915112345678"):
            assert secret not in page
        assert "cus_R4v0e1" in page

    def test_forms_and_texts_are_masked_too(self, viewer: Client) -> None:
        form = make_event(body=b"From=%2B4915112345678&Body=hi+Jane&MessageSid=SM1",
                          headers=[("Content-Type", "application/x-www-form-urlencoded")])  # fmt: skip
        page = text(viewer.get(url(form)))
        assert '<span class="k">MessageSid</span>=SM1' in page
        assert "4915112345678" not in page
        plain = make_event(body=b"mail to jane.doe@example.com", headers=[("content-type", "text/plain")])
        assert "jane.doe" not in text(viewer.get(url(plain)))

    def test_one_without_a_route_can_be_sent_by_hand(self, operator: Client) -> None:
        event = make_event(type="push")
        page = text(operator.get(url(event)))
        assert "No route takes this event" in page
        assert f"/webhooks/replay/?event={event.id}" in page

    def test_an_erased_or_old_payload_is_not_shown_and_not_replayed(self, operator: Client) -> None:
        failed = tell().failed[0]
        Event.objects.filter(id=failed.event_id).update(sealed=None)
        page = text(operator.get(url(failed)))
        assert "Older than payloads are kept." in page
        assert 'id="replay-ledger"' not in page
        Event.objects.filter(id=failed.event_id).update(erased_at=timezone.now())
        assert "on request of whom it was about" in text(operator.get(url(failed)))

    def test_what_was_changed_is_said_loudly(self, operator: Client) -> None:
        failed = tell().failed[0]
        Event.objects.filter(id=failed.event_id).update(sha256=b"x" * 32)
        page = text(operator.get(url(failed)))
        assert "What is stored is not what was signed." in page
        assert "cus_R4v0e1" not in page

    def test_a_payload_that_no_key_opens_says_so(self, viewer: Client, settings: object) -> None:
        event = make_event()
        settings.ENCRYPTION_KEYS = ["another-key"]  # type: ignore[attr-defined]
        assert "WSMON_ENCRYPTION_KEYS" in text(viewer.get(url(event)))

    def test_the_secret_is_named_while_it_is_configured(
        self, viewer: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from webhooks import catalog  # noqa: PLC0415

        told = tell()
        proof = {"scheme": "x", "secret": 1, "secrets": 2, "secret_id": catalog.secret_id("whsec_other1")}
        event = make_event(told.stripe, verification=proof)
        assert "one that is not configured any more" in text(viewer.get(url(event)))
        monkeypatch.setenv("STRIPE_OTHER", "whsec_other1")
        Secret.objects.create(source=told.stripe, position=1, reference="env:STRIPE_OTHER")
        page = text(viewer.get(url(event)))
        assert "STRIPE_OTHER" in page
        assert "(number 2 of 2)" in page
        assert "whsec_other1" not in page

    def test_messages_and_the_rest_of_the_batch_are_told(self, viewer: Client) -> None:
        tell()
        event = Event.objects.get(key="evt_re_1")
        page = text(viewer.get(url(event)))
        assert "<b>complained</b> since" in page
        assert "(a later one outranks it)" in page
        assert "Came in the same request" in page
        assert "email.opened" in page

    def test_our_own_events_say_who_published_them(self, viewer: Client) -> None:
        from webhooks.publishing import publish  # noqa: PLC0415
        from wsmon.audit import Actor  # noqa: PLC0415

        made = publish("order.paid", {"id": "o1"}, actor=Actor.system("shop"))
        page = text(viewer.get(url(made.event_id)))
        assert "our own" in page
        assert "published by shop, stored" in page
        assert "signature valid" not in page

    def test_replays_are_its_history(self, viewer: Client) -> None:
        told = tell()
        replay = Replay.objects.create(created_by="olga", reason="rates fixed", total=1, made=1, status="done")
        again = make_delivery(told.failed[0].event, told.ledger, "delivered", replay=replay)
        attempt(again, 1, told.now, 200, b'{"ok": true}')
        AuditEntry.objects.create(actor_name="olga", action="replay.start", target=f"replay:{replay.id}", reason="so")
        page = text(viewer.get(url(again)))
        assert "replayed by olga" in page
        assert "1 earlier delivery to ledger" in page
        assert "olga replayed it" in page
        assert "2 delivered." in page

    def test_the_number_of_queries_does_not_grow(
        self, operator: Client, django_assert_max_num_queries: DjangoAssertNumQueries
    ) -> None:
        told = tell()
        event = told.failed[0].event
        for number in range(10):
            row = make_delivery(event, make_destination(), "failed")
            attempt(row, number, told.now, 500)
        with django_assert_max_num_queries(45):
            text(operator.get(url(event)))
        with django_assert_max_num_queries(22):
            text(operator.get(url(event), headers=LIVE))


class TestTries:
    def test_the_last_answer_of_a_failed_one_is_shown(self, viewer: Client) -> None:
        page = text(viewer.get(url(tell().failed[0])))
        assert '<span class="bad">HTTP 422</span>' in page
        assert "x-request-id: 01JAD7R9M2" in page
        assert '<span class="k">"error"</span>: <span class="st">"unknown tax_rate"</span>' in page

    @pytest.mark.parametrize("part", ["request", "curl"])
    def test_what_was_sent_is_shown_without_secrets(self, viewer: Client, part: str) -> None:
        waiting = tell().waiting[1]
        one = Attempt.objects.get(delivery=waiting)
        page = text(viewer.get(url(waiting, f"?attempt={one.id}&part={part}")))
        assert "webhook-signature: ***" in page
        assert "https://app.example.com/hooks?token=***" in page
        for _name, value in SENT[1:]:
            assert value not in page
        assert "abcdefghijklmnop" not in page
        assert "curl -i -X POST" in page

    def test_a_try_without_an_answer_says_why(self, viewer: Client) -> None:
        row = make_delivery(
            status="failed", http_status=None, message="timed out after 10 s", category="TIMEOUT_ERROR"
        )
        attempt(row, 1, timezone.now(), None)
        page = text(viewer.get(url(row)))
        assert '<span class="bad">timed out after 10 s</span>' in page
        assert ">timeout</span>" in page

    def test_what_is_no_longer_kept_is_said(self, viewer: Client) -> None:
        row = make_delivery(status="failed")
        attempt(row, 1, timezone.now(), 500, sealed=None)
        page = text(viewer.get(url(row)))
        assert "not kept any more" in page
        assert "Copy curl" not in page

    def test_a_long_answer_says_that_it_was_cut(self, viewer: Client) -> None:
        row = make_delivery(status="failed")
        exchanged = Exchanged(SENT, [("content-type", "text/html")], b"<h1>Down</h1>", truncated=True)
        attempt(row, 1, timezone.now(), 502, sealed=seal_exchange(exchanged))
        page = text(viewer.get(url(row)))
        assert "&lt;h1&gt;Down&lt;/h1&gt;" in page
        assert "the rest was not kept" in page

    def test_those_of_one_delivered_are_folded_until_one_asks(self, viewer: Client) -> None:
        told = tell()
        row = make_delivery(make_event(told.stripe), told.ledger, "delivered")
        attempt(row, 1, told.now, 200, b'{"ok": true}')
        assert "HTTP 200" not in text(viewer.get(url(row)))
        one = Attempt.objects.get(delivery=row)
        assert "HTTP 200" in text(viewer.get(url(row, f"?attempt={one.id}")))

    @pytest.mark.parametrize("query", ["?attempt=x", "?attempt=999999", "?attempt=²", "?part=moon"])
    def test_an_odd_address_shows_the_default(self, viewer: Client, query: str) -> None:
        assert "HTTP 422" in text(viewer.get(url(tell().failed[0], query)))


class TestTheOpenQuestion:
    def test_where_a_delivery_failed_the_replay_is_asked_for_at_once(self, operator: Client) -> None:
        failed = tell().failed[0]
        page = text(operator.get(url(failed)))
        assert "Replay this event to ledger?" in page
        assert f'<input type="hidden" name="d" value="{failed.id}">' in page

    def test_not_where_it_waits_nor_to_viewers(self, operator: Client, viewer: Client) -> None:
        told = tell()
        assert "Replay this event to" not in text(operator.get(url(told.waiting[1])))
        assert "Replay this event to" not in text(viewer.get(url(told.failed[0])))

    def test_what_waits_can_be_cancelled(self, operator: Client) -> None:
        waiting = tell().waiting[1]
        page = text(operator.get(url(waiting)))
        assert f"/webhooks/cancel/?d={waiting.id}" in page
        assert 'id="replay-app"' not in page, "it is still under way"


class TestLive:
    def test_only_what_changes_is_told(self, operator: Client) -> None:
        failed = tell().failed[0]
        part = text(operator.get(url(failed), headers=LIVE))
        assert "<html" not in part
        for name in ("ev-head", "ev-cards", "ev-steps", "to-ledger-tries"):
            assert f'id="{name}"' in part
        assert "Replay this event to ledger?" not in part, "an open question is not asked anew"
        assert 'id="payload' not in part


class TestReveal:
    def test_it_needs_the_permission_of_its_own(self, operator: Client, client: Client) -> None:
        event = make_event()
        for method in (operator.get, operator.post):
            assert method(url(event, "reveal/")).status_code == 403
        assert client.post(url(event, "reveal/"), WHY).status_code == 302
        assert not AuditEntry.objects.exists()

    @pytest.mark.parametrize("method", ["put", "delete"])
    def test_other_methods_are_refused(self, method: str) -> None:
        assert getattr(signed_in("eve", *REVEAL), method)(url(make_event(), "reveal/")).status_code == 405

    def test_a_form_of_another_site_is_refused(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.cookies = signed_in("eve", *REVEAL).cookies
        assert client.post(url(make_event(), "reveal/"), WHY).status_code == 403

    def test_asking_shows_nothing(self) -> None:
        failed = tell().failed[0]
        eve = signed_in("eve", *REVEAL)
        panel = text(eve.get(url(failed, "reveal/"), headers=toward("reveal-panel", "reveal")))
        assert "<html" not in panel
        assert "kept in the audit" in panel
        assert "jane.doe" not in panel
        assert 'data-asked="reveal"' in panel
        assert "<html" in text(eve.get(url(failed, "reveal/")))
        assert not AuditEntry.objects.exists()

    @pytest.mark.parametrize("htmx", [True, False])
    def test_it_is_shown_once_and_audited(self, htmx: bool) -> None:
        failed = tell().failed[0]
        response = signed_in("eve", *REVEAL).post(
            url(failed, "reveal/"), WHY, headers=toward("reveal-panel") if htmx else {}
        )
        said = text(response)
        assert "jane.doe@example.com" in said
        assert ("<html" in said) is not htmx
        assert "no-store" in response["Cache-Control"]
        entry = AuditEntry.objects.get()
        assert (entry.action, entry.target) == ("event.reveal", f"event:{failed.event_id}")
        assert (entry.reason, entry.actor_name, entry.details) == ("the customer asks", "eve", {"fields": 3})

    def test_without_a_reason_nothing_is_shown(self) -> None:
        failed = tell().failed[0]
        said = text(
            signed_in("eve", *REVEAL).post(url(failed, "reveal/"), {"reason": " "}, headers=toward("reveal-panel")),
            422,
        )
        assert "Say why: others will read it." in said
        assert "jane.doe" not in said
        assert not AuditEntry.objects.exists()

    def test_what_is_gone_is_not_found(self) -> None:
        event = make_event(sealed=None)
        eve = signed_in("eve", *REVEAL)
        assert eve.post(url(event, "reveal/"), WHY).status_code == 404
        assert eve.post(url(uuid.uuid4(), "reveal/"), WHY).status_code == 404

    def test_a_look_is_on_the_event_s_page(self) -> None:
        event = make_event(received_at=timezone.now() - timedelta(minutes=5))
        eve = signed_in("eve", *REVEAL)
        eve.post(url(event, "reveal/"), WHY)
        page = text(eve.get(url(event)))
        assert "eve revealed the payload" in page
        assert "the customer asks" in page

    def test_bytes_that_are_no_text_are_shown_as_well_as_can_be(self) -> None:
        event = make_event(body=b"\xff\x00 raw", headers=[("content-type", "application/octet-stream")])
        assert "raw" in text(signed_in("eve", *REVEAL).post(url(event, "reveal/"), WHY))
